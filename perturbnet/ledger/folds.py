"""The state of a validator, as a fold over its leaves: nothing here is stored, everything can be rebuilt.

Rules (design: architecture.md, "Rules of the network")
- A round is closed when every miner that was asked has a receipt. It counts if at least one of them succeeded; a round
  in which nobody did leaves the histories alone.
- In a counted round every miner that was asked gets its score, 0 for a failure. Receipts of a round that the validator itself
  cut short (`interrupted`) or spoiled (`clean_mislabelled`) never count.
- A uid whose hotkey changed starts anew; a uid that is gone is forgotten.
- A leaf that cannot follow the ones before it (a receipt without its challenge, a draw out of order) is refused.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from perturbnet.errors import LedgerCorrupt, Reject
from perturbnet.ledger.leaves import (
    ChallengeLeaf,
    ConfigLeaf,
    EpochLeaf,
    Leaf,
    MetagraphLeaf,
    ReceiptLeaf,
    RulesLeaf,
    SegmentLeaf,
    SkipLeaf,
    SubmissionLeaf,
    WeightsLeaf,
)
from perturbnet.ledger.store import Entry
from perturbnet.weights import Standing

NEVER_COUNTED = frozenset({Reject.INTERRUPTED, Reject.CLEAN_MISLABELLED})


@dataclass
class MinerHistory:
    """What the log says of the hotkey that holds a uid now."""

    uid: int
    hotkey: str
    scores_ppb: deque[int]
    processed: int = 0
    asked: int = 0
    succeeded: int = 0
    rejects: Counter[str] = field(default_factory=Counter)

    def standing(self) -> Standing:
        """The part that weights depend on."""
        return Standing(self.uid, self.processed, tuple(self.scores_ppb))


@dataclass
class OpenRound:
    """A challenge whose receipts are not complete."""

    position: int
    hash: str
    leaf: ChallengeLeaf
    receipts: dict[int, ReceiptLeaf] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every miner that was asked has a receipt."""
        return set(self.receipts) == set(self.leaf.asked)


@dataclass
class EpochProgress:
    """The pass that is under way."""

    position: int
    leaf: EpochLeaf
    cursor: int = 0
    segments_revealed: int = 0


@dataclass
class LedgerState:
    """Everything a validator has to know to go on."""

    size: int = 0
    config: tuple[int, ConfigLeaf] | None = None
    rules: tuple[int, RulesLeaf] | None = None
    metagraph: tuple[int, MetagraphLeaf] | None = None
    epoch: EpochProgress | None = None
    open_round: OpenRound | None = None
    rounds: int = 0
    counted_rounds: int = 0
    miners: dict[int, MinerHistory] = field(default_factory=dict)
    pending_weights: tuple[int, WeightsLeaf] | None = None
    last_weights: tuple[int, WeightsLeaf] | None = None
    last_submission: SubmissionLeaf | None = None

    def processed(self) -> dict[int, int]:
        """Counted rounds by uid."""
        return {uid: miner.processed for uid, miner in self.miners.items()}

    def standings(self) -> list[Standing]:
        """What the weights are computed from, by uid."""
        return [self.miners[uid].standing() for uid in sorted(self.miners)]

    def apply(self, entry: Entry) -> None:
        """Fold one more leaf.

        Raises:
            LedgerCorrupt: the leaf cannot follow the ones before it.

        """
        if entry.position != self.size:
            raise LedgerCorrupt(f"expected leaf {self.size}, got leaf {entry.position}")
        self._fold(entry, entry.leaf)
        self.size += 1

    def _fold(self, entry: Entry, leaf: Leaf) -> None:
        match leaf:
            case ConfigLeaf():
                self.config = (entry.position, leaf)
            case RulesLeaf():
                self._take_rules(entry.position, leaf)
            case MetagraphLeaf():
                self._take_metagraph(entry.position, leaf)
            case EpochLeaf():
                self.epoch = EpochProgress(entry.position, leaf)
            case SegmentLeaf():
                self._current_epoch(entry, leaf.epoch).segments_revealed = leaf.segment + 1
            case SkipLeaf():
                self._advance(entry, leaf.epoch, leaf.draw)
            case ChallengeLeaf():
                self._open(entry, leaf)
            case ReceiptLeaf():
                self._receive(entry, leaf)
            case WeightsLeaf():
                self.pending_weights = self.last_weights = (entry.position, leaf)
            case SubmissionLeaf():
                self._submitted(entry, leaf)
            case _:
                raise LedgerCorrupt(f"leaf {entry.position}: no fold for a {leaf.kind} leaf")

    def _take_rules(self, position: int, leaf: RulesLeaf) -> None:
        self.rules = (position, leaf)
        size = self._history_size()
        for miner in self.miners.values():
            miner.scores_ppb = deque(miner.scores_ppb, maxlen=size)

    def _take_metagraph(self, position: int, leaf: MetagraphLeaf) -> None:
        self.metagraph = (position, leaf)
        known = self.miners
        self.miners = {}
        for uid, hotkey, *_ in leaf.neurons:
            number, name = int(uid), str(hotkey)
            old = known.get(number)
            kept = old is not None and old.hotkey == name
            self.miners[number] = old if kept and old else self._new_miner(number, name)

    def _new_miner(self, uid: int, hotkey: str) -> MinerHistory:
        return MinerHistory(uid, hotkey, deque(maxlen=self._history_size()))

    def _history_size(self) -> int:
        return int(self.rules[1].history["history_size"]) if self.rules else 1

    def _current_epoch(self, entry: Entry, epoch: int) -> EpochProgress:
        if self.epoch is None or self.epoch.leaf.epoch != epoch:
            current = self.epoch.leaf.epoch if self.epoch else None
            raise LedgerCorrupt(f"leaf {entry.position}: epoch {epoch}, but the current one is {current}")
        return self.epoch

    def _advance(self, entry: Entry, epoch: int, draw: int) -> None:
        progress = self._current_epoch(entry, epoch)
        if draw != progress.cursor:
            raise LedgerCorrupt(f"leaf {entry.position}: draw {draw}, expected {progress.cursor}")
        progress.cursor += 1

    def _open(self, entry: Entry, leaf: ChallengeLeaf) -> None:
        if self.open_round is not None:
            raise LedgerCorrupt(f"leaf {entry.position}: round {leaf.round} begins inside round {self.open_round.leaf.round}")
        if leaf.round != self.rounds:
            raise LedgerCorrupt(f"leaf {entry.position}: round {leaf.round}, expected {self.rounds}")
        self._advance(entry, leaf.epoch, leaf.draw)
        self.rounds += 1
        self.open_round = OpenRound(entry.position, entry.hash, leaf)
        self._close_if_complete()

    def _receive(self, entry: Entry, leaf: ReceiptLeaf) -> None:
        current = self.open_round
        if current is None or leaf.challenge != current.position or leaf.challenge_id != current.hash:
            raise LedgerCorrupt(f"leaf {entry.position}: a receipt without its open challenge at leaf {leaf.challenge}")
        if leaf.uid not in current.leaf.asked or leaf.uid in current.receipts:
            raise LedgerCorrupt(f"leaf {entry.position}: uid {leaf.uid} was not asked, or has its receipt already")
        current.receipts[leaf.uid] = leaf
        self._close_if_complete()

    def _close_if_complete(self) -> None:
        current = self.open_round
        if current is None or not current.complete:
            return
        self.open_round = None
        counted = any(receipt.reject == Reject.OK for receipt in current.receipts.values())
        self.counted_rounds += counted
        for receipt in current.receipts.values():
            self._credit(receipt, counted=counted)

    def _credit(self, receipt: ReceiptLeaf, *, counted: bool) -> None:
        miner = self.miners.get(receipt.uid)
        if miner is None or miner.hotkey != receipt.hotkey:
            return
        miner.asked += 1
        miner.succeeded += receipt.reject == Reject.OK
        miner.rejects[receipt.reject] += 1
        if counted and receipt.reject not in NEVER_COUNTED:
            miner.processed += 1
            miner.scores_ppb.append(receipt.score_ppb)

    def _submitted(self, entry: Entry, leaf: SubmissionLeaf) -> None:
        if self.last_weights is None or self.last_weights[0] != leaf.weights:
            raise LedgerCorrupt(f"leaf {entry.position}: a submission of weights that are not at leaf {leaf.weights}")
        self.last_submission = leaf
        if leaf.outcome != "ambiguous":
            self.pending_weights = None


def fold(entries: Iterable[Entry]) -> LedgerState:
    """Rebuild the state from leaves alone."""
    state = LedgerState()
    for entry in entries:
        state.apply(entry)
    return state
