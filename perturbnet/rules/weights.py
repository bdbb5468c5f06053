"""From histories to a weight vector: a pure function, in integers.

Rules (docs/architecture.md, "Rules of the network")
- Eligible: a miner with at least `min_processed` counted rounds and a full history of `history_size` scores.
- Ranked by the mean of that history; ties go to the lower uid. Only positive means earn.
- Ranks 1 to 5 share 70, 25, 3, 1.5 and 0.5 %, normalised among those who earn: a sole miner takes all.
- The slot of uid 0 is a miner like any other. (A public version overwrote it with the remainder.)
- Nobody eligible: no weights, or all to `burn_uid` where the operator named one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from perturbnet.wire.units import PPB

RANK_SHARES = (700, 250, 30, 15, 5)  # per mille


@dataclass(frozen=True)
class Standing:
    """What weights need to know of a miner: counted rounds, latest scores (parts per 10^9, oldest first)."""

    uid: int
    processed: int
    scores_ppb: tuple[int, ...]


@dataclass(frozen=True)
class WeightVector:
    """Shares in parts per 10^9 by uid; they add up to 10^9, or the vector is empty and `reason` says why."""

    shares_ppb: dict[int, int]
    reason: str


def compute_weights(
    standings: Iterable[Standing], *, history_size: int, min_processed: int, burn_uid: int | None = None
) -> WeightVector:
    """Share out the weight; see the module's rules."""
    ranked = rank(standings, history_size=history_size, min_processed=min_processed)
    winners = ranked[: len(RANK_SHARES)]
    if winners:
        return WeightVector(
            _shares([standing.uid for standing in winners]), f"{len(winners)} of {len(ranked)} earn"
        )
    if burn_uid is not None:
        return WeightVector({burn_uid: PPB}, f"nobody is eligible: all to the burn uid {burn_uid}")
    needs = f"{min_processed} counted rounds, {history_size} scores and a positive mean"
    return WeightVector({}, f"nobody is eligible: needs {needs}")


def rank(standings: Iterable[Standing], *, history_size: int, min_processed: int) -> list[Standing]:
    """Who earns, best first."""
    eligible = [
        standing
        for standing in standings
        if standing.processed >= min_processed
        and len(standing.scores_ppb) == history_size
        and sum(standing.scores_ppb) > 0
    ]
    return sorted(eligible, key=lambda standing: (-sum(standing.scores_ppb), standing.uid))


def _shares(uids: list[int]) -> dict[int, int]:
    """Normalised rank shares; the rounding's remainder goes to the first."""
    total = sum(RANK_SHARES[: len(uids)])
    shares = [PPB * share // total for share in RANK_SHARES[: len(uids)]]
    shares[0] += PPB - sum(shares)
    return dict(sorted(zip(uids, shares, strict=True)))
