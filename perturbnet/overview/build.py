"""An overview out of a log's state and tail. Pure; what the log does not say comes in as `Facts`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from perturbnet.ledger import LedgerState
from perturbnet.overview.tail import Tail
from perturbnet.overview.views import AnchorView, HealthView, Overview, StandingView, WeightsView
from perturbnet.rounds.terms import weigh
from perturbnet.rules.weights import WeightVector

SERIES = 8  # miners that are drawn over time


@dataclass(frozen=True)
class Facts:
    """What stands beside the log: who speaks, when, the root, what is published, the chain's block."""

    source: Literal["validator", "published"]
    place: str
    made_ms: int
    root: str
    hotkey: str = ""
    network: str = ""
    netuid: int = 0
    published_leaves: int | None = None
    anchor: AnchorView | None = None
    block: int = 0
    health: tuple[HealthView, ...] = ()


def build_overview(state: LedgerState, tail: Tail, facts: Facts) -> Overview:
    """Put it together.

    Raises:
        LedgerCorrupt: a rules leaf lacks a number.

    """
    config = state.config[1] if state.config else None
    history = state.rules[1].history if state.rules else {}
    vector = weigh(state.standings(), state.rules[1]) if state.rules else WeightVector({}, "no rules yet")
    size = _number(history.get("history_size"))
    standings = rank_standings(state, vector)
    latest, weights = tail.latest(), _last_weights(state)
    shown = [standing.uid for standing in standings if standing.succeeded][:SERIES]
    return Overview(
        source=facts.source,
        place=facts.place,
        made_ms=facts.made_ms,
        hotkey=facts.hotkey or (config.validator if config else ""),
        network=facts.network or (state.genesis.network if state.genesis else ""),
        netuid=facts.netuid or (config.netuid if config else 0),
        code_version=config.code_version if config else "",
        model_name=config.model_name if config else "",
        dataset=str(config.dataset.get("repository", "")) if config else "",
        dataset_rows=_number(config.dataset.get("rows")) if config else 0,
        protocol_fingerprint=config.protocol_fingerprint if config else "",
        leaves=state.size,
        root=facts.root,
        published_leaves=facts.published_leaves,
        anchor=facts.anchor,
        epoch=state.epoch.leaf.epoch if state.epoch else 0,
        epoch_cursor=state.epoch.cursor if state.epoch else 0,
        rounds=state.rounds,
        counted_rounds=state.counted_rounds,
        history_size=size,
        min_processed=_number(history.get("min_processed_count")),
        block=max(facts.block, *(found.block for found in latest), weights.block if weights else 0, 0),
        latest=latest,
        standings=standings,
        series=tail.series(shown, max(1, size)),
        next_weights=tuple(vector.shares_ppb.items()),
        next_weights_reason=vector.reason,
        last_weights=weights,
        weights_accepted_block=tail.accepted_block,
        health=facts.health,
    )


def rank_standings(state: LedgerState, vector: WeightVector) -> tuple[StandingView, ...]:
    """Every registered uid: first who would earn, then by mean; ties go to the lower uid."""
    found = []
    for uid, miner in state.miners.items():
        kept = len(miner.scores_ppb)
        found.append(
            StandingView(
                uid=uid,
                hotkey=miner.hotkey,
                processed=miner.processed,
                asked=miner.asked,
                succeeded=miner.succeeded,
                kept=kept,
                mean_ppb=sum(miner.scores_ppb) // kept if kept else 0,
                share_ppb=vector.shares_ppb.get(uid, 0),
                rejects=dict(miner.rejects),
            )
        )
    return tuple(sorted(found, key=lambda one: (-one.share_ppb, -one.mean_ppb, one.uid)))


def _number(value: str | int | None) -> int:
    """A number that a stranger's leaf may hold as anything."""
    return value if isinstance(value, int) else 0


def _last_weights(state: LedgerState) -> WeightsView | None:
    if state.last_weights is None:
        return None
    position, leaf = state.last_weights
    submission = state.last_submission
    known = submission is not None and submission.weights == position
    return WeightsView(
        position=position,
        round=leaf.round,
        block=leaf.block,
        shares_ppb=tuple((share[0], share[1]) for share in leaf.shares_ppb),
        reason=leaf.reason,
        outcome=submission.outcome if known and submission else "",
        detail=submission.detail if known and submission else "",
    )
