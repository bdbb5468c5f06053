"""The state of a validator, as a fold over its leaves: nothing here is stored, everything can be rebuilt.

Rules (design: architecture.md, "Rules of the network")
- A round is closed when every miner that was asked has a receipt. It counts if at least one of them
  succeeded; a round in which nobody did leaves the histories alone.
- In a counted round every miner that was asked gets its score, 0 for a failure. Receipts of a round that the
  validator itself cut short (`interrupted`) or spoiled (`clean_mislabelled`) never count.
- A uid whose hotkey changed starts anew; a uid that is gone is forgotten.
- A leaf that cannot follow the ones before it is refused, and the state stays as it was: a receipt without
  its open challenge, a draw out of order, a challenge under another config, rules or metagraph than the
  newest.
- An epoch follows one whose rows were all drawn. Epoch 0 comes first, and again only with another
  fingerprint, so no image is asked twice in an epoch.
- The key of a segment comes in order, when the segment is over, and opens its commitment.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from perturbnet.errors import LeafRefused, Reject
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
from perturbnet.traversal import opens_commitment
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
        return len(self.receipts) == len(self.leaf.asked)


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
            LeafRefused: the leaf cannot follow the ones before it.

        """
        if entry.position != self.size:
            message = f"expected leaf {self.size}, got leaf {entry.position}"
            raise LeafRefused(entry.position, "position", self.size, entry.position, message)
        self._fold(entry, entry.leaf)
        self.size += 1

    def _fold(self, entry: Entry, leaf: Leaf) -> None:
        match leaf:
            case ConfigLeaf():
                self.config = (entry.position, leaf)
            case RulesLeaf():
                self._take_rules(entry, leaf)
            case MetagraphLeaf():
                self._take_metagraph(entry, leaf)
            case EpochLeaf():
                self._begin_epoch(entry, leaf)
            case SegmentLeaf():
                self._reveal(entry, leaf)
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
                raise LeafRefused(
                    entry.position, "kind", "a kind with a fold", leaf.kind, f"no fold for a {leaf.kind} leaf"
                )

    def _take_rules(self, entry: Entry, leaf: RulesLeaf) -> None:
        size = leaf.history.get("history_size")
        if not isinstance(size, int) or size < 1:
            message = f"history_size is {size!r}, expected 1 or more"
            raise LeafRefused(entry.position, "history_size", "1 or more", repr(size), message)
        self.rules = (entry.position, leaf)
        for miner in self.miners.values():
            miner.scores_ppb = deque(miner.scores_ppb, maxlen=size)

    def _take_metagraph(self, entry: Entry, leaf: MetagraphLeaf) -> None:
        size = int(self.rules[1].history["history_size"]) if self.rules else 1
        miners: dict[int, MinerHistory] = {}
        for neuron in leaf.neurons:
            match neuron:
                case [int(uid), str(hotkey), *_] if uid not in miners:
                    old = self.miners.get(uid)
                    kept = old if old is not None and old.hotkey == hotkey else None
                    miners[uid] = kept or MinerHistory(uid, hotkey, deque(maxlen=size))
                case _:
                    raise LeafRefused(entry.position, "neuron", "a new uid and its hotkey", repr(neuron))
        self.metagraph, self.miners = (entry.position, leaf), miners

    def _begin_epoch(self, entry: Entry, leaf: EpochLeaf) -> None:
        last = self.epoch
        if last is None or last.leaf.fingerprint != leaf.fingerprint:
            expected = 0
        elif last.cursor == last.leaf.rows:
            expected = last.leaf.epoch + 1
        else:
            message = (
                f"epoch {leaf.epoch} begins, but of epoch {last.leaf.epoch} "
                f"only {last.cursor} of its {last.leaf.rows} rows were drawn"
            )
            raise LeafRefused(entry.position, "epoch", last.leaf.epoch, leaf.epoch, message)
        if leaf.epoch != expected:
            raise LeafRefused(entry.position, "epoch", expected, leaf.epoch)
        self.epoch = EpochProgress(entry.position, leaf)

    def _reveal(self, entry: Entry, leaf: SegmentLeaf) -> None:
        progress = self._current_epoch(entry, leaf.epoch)
        if leaf.segment != progress.segments_revealed:
            raise LeafRefused(entry.position, "segment", progress.segments_revealed, leaf.segment)
        over = min((leaf.segment + 1) * progress.leaf.segment_draws, progress.leaf.rows)
        if progress.cursor < over:
            message = f"segment {leaf.segment} is over at draw {over}, not {progress.cursor}"
            raise LeafRefused(entry.position, "segment", over, progress.cursor, message)
        if not _opens(leaf.key, progress.leaf.commitments[leaf.segment : leaf.segment + 1]):
            message = f"segment {leaf.segment}: key not the one committed to"
            raise LeafRefused(entry.position, "key", "the key committed to", leaf.key, message)
        progress.segments_revealed += 1

    def _current_epoch(self, entry: Entry, epoch: int) -> EpochProgress:
        if self.epoch is None or self.epoch.leaf.epoch != epoch:
            current = self.epoch.leaf.epoch if self.epoch else None
            message = f"epoch {epoch}, but the current one is {current}"
            raise LeafRefused(entry.position, "epoch", current, epoch, message)
        return self.epoch

    def _advance(self, entry: Entry, epoch: int, draw: int) -> None:
        progress = self._current_epoch(entry, epoch)
        if draw != progress.cursor or draw >= progress.leaf.rows:
            expected = f"{progress.cursor} of {progress.leaf.rows}"
            raise LeafRefused(entry.position, "draw", expected, draw)
        progress.cursor += 1

    def _open(self, entry: Entry, leaf: ChallengeLeaf) -> None:
        current = self.open_round
        if current is not None:
            message = f"round {leaf.round} begins inside round {current.leaf.round}"
            missing = len(current.leaf.asked) - len(current.receipts)
            raise LeafRefused(entry.position, "kind", f"{missing} more receipts", leaf.kind, message)
        if leaf.round != self.rounds:
            raise LeafRefused(entry.position, "round", self.rounds, leaf.round)
        for name, named in (("config", self.config), ("rules", self.rules), ("metagraph", self.metagraph)):
            newest = named[0] if named else None
            if getattr(leaf, name) != newest:
                found = getattr(leaf, name)
                message = f"{name} of leaf {found}, the newest is leaf {newest}"
                raise LeafRefused(entry.position, name, newest, found, message)
        if len(set(leaf.asked)) != len(leaf.asked):
            message = f"a uid is asked twice: {leaf.asked}"
            raise LeafRefused(entry.position, "asked", "each uid once", leaf.asked, message)
        self._advance(entry, leaf.epoch, leaf.draw)
        self.rounds += 1
        self.open_round = OpenRound(entry.position, entry.hash, leaf)
        self._close_if_complete()

    def _receive(self, entry: Entry, leaf: ReceiptLeaf) -> None:
        current = self.open_round
        if current is None or (leaf.challenge, leaf.challenge_id) != (current.position, current.hash):
            expected = "none" if current is None else f"{current.position} {current.hash}"
            message = f"a receipt without its open challenge at leaf {leaf.challenge}"
            got = f"{leaf.challenge} {leaf.challenge_id}"
            raise LeafRefused(entry.position, "challenge", expected, got, message)
        if leaf.round != current.leaf.round:
            raise LeafRefused(entry.position, "round", current.leaf.round, leaf.round)
        if leaf.uid not in current.leaf.asked or leaf.uid in current.receipts:
            message = f"uid {leaf.uid} was not asked, or has its receipt already"
            open_uids = sorted(set(current.leaf.asked) - set(current.receipts))
            raise LeafRefused(entry.position, "uid", f"one of {open_uids}", leaf.uid, message)
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
            expected = "none" if self.last_weights is None else self.last_weights[0]
            message = f"a submission of weights that are not at leaf {leaf.weights}"
            raise LeafRefused(entry.position, "weights", expected, leaf.weights, message)
        self.last_submission = leaf
        if leaf.outcome != "ambiguous":
            self.pending_weights = None


def _opens(key: str, commitments: list[str]) -> bool:
    try:
        return bool(commitments) and opens_commitment(bytes.fromhex(key), commitments[0])
    except ValueError:
        return False


def fold(entries: Iterable[Entry]) -> LedgerState:
    """Rebuild the state from leaves alone."""
    state = LedgerState()
    for entry in entries:
        state.apply(entry)
    return state
