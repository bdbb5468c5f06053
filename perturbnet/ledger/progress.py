"""The parts of a validator's state: a miner's history, an open round, the epoch that is under way.

Each has the rules of its own leaves; `folds.LedgerState` puts them together and says which leaf concerns
whom. A method refuses a leaf before it changes anything.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, replace

from perturbnet.errors import LeafRefused, Reject
from perturbnet.ledger.leaves import ChallengeLeaf, EpochLeaf, ReceiptLeaf, SegmentLeaf
from perturbnet.ledger.store import Entry
from perturbnet.rules.traversal import opens_commitment
from perturbnet.rules.weights import Standing

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

    def credit(self, receipt: ReceiptLeaf, *, counted: bool) -> None:
        """Take in the receipt of a round that is closed."""
        self.asked += 1
        self.succeeded += receipt.reject == Reject.OK
        self.rejects[receipt.reject] += 1
        if counted and receipt.reject not in NEVER_COUNTED:
            self.processed += 1
            self.scores_ppb.append(receipt.score_ppb)

    def fork(self) -> MinerHistory:
        """An independent copy."""
        return replace(self, scores_ppb=self.scores_ppb.copy(), rejects=self.rejects.copy())


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
        return len(self.receipts) == len(self.leaf.asked)

    def receive(self, entry: Entry, leaf: ReceiptLeaf) -> None:
        """Take in a receipt of this round; raises LeafRefused."""
        if leaf.round != self.leaf.round:
            raise LeafRefused(entry.position, "round", self.leaf.round, leaf.round)
        if leaf.uid not in self.leaf.asked or leaf.uid in self.receipts:
            message = f"uid {leaf.uid} was not asked, or has its receipt already"
            open_uids = sorted(set(self.leaf.asked) - set(self.receipts))
            raise LeafRefused(entry.position, "uid", f"one of {open_uids}", leaf.uid, message)
        self.receipts[leaf.uid] = leaf

    def fork(self) -> OpenRound:
        """An independent copy."""
        return replace(self, receipts=dict(self.receipts))


@dataclass
class EpochProgress:
    """The pass that is under way. It is over when all rows were drawn, or with the key of an open segment."""

    position: int
    leaf: EpochLeaf
    cursor: int = 0
    segments_revealed: int = 0
    abandoned: bool = False

    @property
    def finished(self) -> bool:
        """Whether every row was drawn."""
        return self.cursor == self.leaf.rows

    def advance(self, entry: Entry, draw: int) -> None:
        """Take in a draw; raises LeafRefused."""
        if draw != self.cursor or self.finished or self.abandoned:
            state = "no more draws: its keys are public" if self.abandoned else self.cursor
            raise LeafRefused(entry.position, "draw", f"{state} of {self.leaf.rows}", draw)
        self.cursor += 1

    def reveal(self, entry: Entry, leaf: SegmentLeaf) -> None:
        """Take in the key of a segment; raises LeafRefused."""
        if leaf.segment != self.segments_revealed or self.abandoned:
            raise LeafRefused(entry.position, "segment", self.segments_revealed, leaf.segment)
        begin = leaf.segment * self.leaf.segment_draws
        if self.cursor <= begin:
            message = f"segment {leaf.segment} begins at draw {begin}, and {self.cursor} were drawn"
            raise LeafRefused(entry.position, "segment", f"after draw {begin}", self.cursor, message)
        if not _opens(leaf.key, self.leaf.commitments[leaf.segment : leaf.segment + 1]):
            message = f"segment {leaf.segment}: key not the one committed to"
            raise LeafRefused(entry.position, "key", "the key committed to", leaf.key, message)
        self.segments_revealed += 1
        self.abandoned = self.cursor < min(begin + self.leaf.segment_draws, self.leaf.rows)

    def fork(self) -> EpochProgress:
        """An independent copy."""
        return replace(self)


def begin_epoch(entry: Entry, leaf: EpochLeaf, last: EpochProgress | None) -> EpochProgress:
    """The epoch after `last`; raises LeafRefused."""
    if last is None or last.leaf.fingerprint != leaf.fingerprint:
        expected = 0
    elif last.finished:
        expected = last.leaf.epoch + 1
    else:
        message = (
            f"epoch {leaf.epoch} begins, but of epoch {last.leaf.epoch} "
            f"only {last.cursor} of its {last.leaf.rows} rows were drawn"
        )
        raise LeafRefused(entry.position, "epoch", last.leaf.epoch, leaf.epoch, message)
    if leaf.epoch != expected:
        raise LeafRefused(entry.position, "epoch", expected, leaf.epoch)
    return EpochProgress(entry.position, leaf)


def _opens(key: str, commitments: list[str]) -> bool:
    try:
        return bool(commitments) and opens_commitment(bytes.fromhex(key), commitments[0])
    except ValueError:
        return False
