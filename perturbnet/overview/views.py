"""The overview's values and their one JSON form.

Units as in the leaves: scores and shares in parts per 10^9, times in milliseconds (wall times since 1970),
distortion as in `ledger.leaves.ReceiptLeaf`. Text may be a stranger's: whoever shows it escapes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from perturbnet.errors import PerturbError


@dataclass(frozen=True)
class AnswerView:
    """One miner's answer in a round, as its receipt says."""

    uid: int
    hotkey: str
    reject: str
    score_ppb: int
    response_ms: int
    label_after: str
    linf_u8: int
    changed: int
    ssim_ppb: int
    psnr_micro_db: int
    adversarial_pixels: str
    delta: str
    same_as: int


@dataclass(frozen=True)
class RoundView:
    """One round: its challenge and what came back so far. `counted` is None until every receipt is there."""

    number: int
    position: int
    block: int
    created_ms: int
    task_id: str
    label: str
    epsilon: str
    row: int
    freshness: dict[str, int | str]
    clean_pixels: str
    asked: int
    counted: bool | None
    answers: tuple[AnswerView, ...]


@dataclass(frozen=True)
class StandingView:
    """One miner: its history, and its share of the next weights. `mean_ppb` is over its kept scores."""

    uid: int
    hotkey: str
    processed: int
    asked: int
    succeeded: int
    kept: int
    mean_ppb: int
    share_ppb: int
    rejects: dict[str, int]


@dataclass(frozen=True)
class SeriesView:
    """A miner over time: (round, mean of its latest counted scores up to that round), oldest first."""

    uid: int
    points: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class WeightsView:
    """A weight vector and what became of it; `outcome` is empty while nothing is known."""

    position: int
    round: int
    block: int
    shares_ppb: tuple[tuple[int, int], ...]
    reason: str
    outcome: str
    detail: str


@dataclass(frozen=True)
class AnchorView:
    """The newest anchor that the log knows of."""

    block: int
    size: int
    root: str


@dataclass(frozen=True)
class HealthView:
    """One sentence on how the process is; `ok` False means: look at it."""

    name: str
    ok: bool
    found: str


@dataclass(frozen=True)
class Overview:
    """Everything at one look. `source` says who speaks: the running validator, or its published log."""

    source: Literal["validator", "published"]
    place: str
    made_ms: int
    hotkey: str
    network: str
    netuid: int
    code_version: str
    model_name: str
    dataset: str
    dataset_rows: int
    protocol_fingerprint: str
    leaves: int
    root: str
    published_leaves: int | None
    anchor: AnchorView | None
    epoch: int
    epoch_cursor: int
    rounds: int
    counted_rounds: int
    history_size: int
    min_processed: int
    block: int
    latest: tuple[RoundView, ...]
    standings: tuple[StandingView, ...]
    series: tuple[SeriesView, ...]
    next_weights: tuple[tuple[int, int], ...]
    next_weights_reason: str
    last_weights: WeightsView | None
    weights_accepted_block: int | None
    health: tuple[HealthView, ...]

    @property
    def last_round(self) -> RoundView | None:
        """The newest round of which all receipts are there."""
        return next((found for found in self.latest if found.counted is not None), None)

    @property
    def rejects(self) -> dict[str, int]:
        """How often each code came among the miners that are registered now, the most frequent first."""
        found: dict[str, int] = {}
        for standing in self.standings:
            for code, times in standing.rejects.items():
                found[code] = found.get(code, 0) + times
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def encode_overview(overview: Overview) -> bytes:
    """As JSON."""
    return _adapter().dump_json(overview)


def decode_overview(data: bytes, where: str) -> Overview:
    """Read an overview that another process wrote.

    Raises:
        PerturbError: it is none, or another version's.

    """
    try:
        return _adapter().validate_json(data)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        hint = "is that a validator of this version?"
        raise PerturbError(f"no overview at {where}: {fault['loc']}: {fault['msg']}", hint=hint) from None


@cache
def _adapter() -> TypeAdapter[Overview]:
    return TypeAdapter(Overview)
