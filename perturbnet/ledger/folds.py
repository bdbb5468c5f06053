"""The state of a validator, as a fold over its leaves: nothing here is stored, everything can be rebuilt.

Rules (docs/architecture.md, "Rules of the network")
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
- The key of a segment comes in order and opens its commitment. One that comes before its segment is over ends
  the epoch: whoever has the key knows the rest of the segment, so nothing more is drawn from it.
- A certificate is about leaves before it, is signed by the log's own current key, stands between rounds, and
  is recorded once.
- A genesis leaf can only be the first. A log without one can be kept, but never signed. Each key leaf names
  the key before it; who signed it is checked where checkpoints are (`transparency.delegation`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from perturbnet.errors import LeafRefused, Reject
from perturbnet.ledger.leaves import (
    CertificateLeaf,
    ChallengeLeaf,
    ConfigLeaf,
    EpochLeaf,
    GenesisLeaf,
    KeyLeaf,
    Leaf,
    MetagraphLeaf,
    ReceiptLeaf,
    RulesLeaf,
    SegmentLeaf,
    SkipLeaf,
    SubmissionLeaf,
    WeightsLeaf,
)
from perturbnet.ledger.progress import EpochProgress, MinerHistory, OpenRound, begin_epoch
from perturbnet.ledger.store import Entry
from perturbnet.rules.weights import Standing


@dataclass
class LedgerState:
    """Everything a validator has to know to go on."""

    size: int = 0
    block: int = 0  # the newest that a challenge, a receipt or weights named
    genesis: GenesisLeaf | None = None
    keys: tuple[tuple[int, KeyLeaf], ...] = ()
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
    certificates: tuple[tuple[int, CertificateLeaf], ...] = ()

    def processed(self) -> dict[int, int]:
        """Counted rounds by uid."""
        return {uid: miner.processed for uid, miner in self.miners.items()}

    @property
    def key(self) -> str:
        """The key that signs the log, hex; "none" where no leaf names one."""
        return self.keys[-1][1].key if self.keys else self.genesis.key if self.genesis else "none"

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
        if isinstance(entry.leaf, ChallengeLeaf | ReceiptLeaf | WeightsLeaf):
            self.block = max(self.block, entry.leaf.block)
        self.size += 1

    def _fold(self, entry: Entry, leaf: Leaf) -> None:
        match leaf:
            case GenesisLeaf() | KeyLeaf():
                self._take_key(entry, leaf)
            case ConfigLeaf() | RulesLeaf():
                self._take_terms(entry, leaf)
            case MetagraphLeaf():
                self._take_metagraph(entry, leaf)
            case EpochLeaf():
                self.epoch = begin_epoch(entry, leaf, self.epoch)
            case SegmentLeaf():
                self._current_epoch(entry, leaf.epoch).reveal(entry, leaf)
            case SkipLeaf():
                self._current_epoch(entry, leaf.epoch).advance(entry, leaf.draw)
            case ChallengeLeaf():
                self._open(entry, leaf)
            case ReceiptLeaf():
                self._receive(entry, leaf)
            case WeightsLeaf():
                self.pending_weights = self.last_weights = (entry.position, leaf)
            case SubmissionLeaf():
                self._submitted(entry, leaf)
            case CertificateLeaf():
                self._certify(entry, leaf)
            case _:
                raise LeafRefused(
                    entry.position, "kind", "a kind with a fold", leaf.kind, f"no fold for a {leaf.kind} leaf"
                )

    def fork(self) -> LedgerState:
        """An independent copy; leaves are shared, for they never change."""
        return replace(
            self,
            epoch=self.epoch.fork() if self.epoch else None,
            open_round=self.open_round.fork() if self.open_round else None,
            miners={uid: miner.fork() for uid, miner in self.miners.items()},
        )

    def _take_key(self, entry: Entry, leaf: GenesisLeaf | KeyLeaf) -> None:
        if isinstance(leaf, GenesisLeaf):
            if entry.position != 0:
                message = "a genesis leaf can only be the first"
                raise LeafRefused(entry.position, "kind", "any other kind", leaf.kind, message)
            self.genesis = leaf
            return
        if leaf.previous != self.key:
            raise LeafRefused(entry.position, "previous", self.key, leaf.previous)
        self.keys = (*self.keys, (entry.position, leaf))

    def _take_terms(self, entry: Entry, leaf: ConfigLeaf | RulesLeaf) -> None:
        if isinstance(leaf, ConfigLeaf):
            self.config = (entry.position, leaf)
            return
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

    def _current_epoch(self, entry: Entry, epoch: int) -> EpochProgress:
        if self.epoch is None or self.epoch.leaf.epoch != epoch:
            current = self.epoch.leaf.epoch if self.epoch else None
            message = f"epoch {epoch}, but the current one is {current}"
            raise LeafRefused(entry.position, "epoch", current, epoch, message)
        return self.epoch

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
        self._current_epoch(entry, leaf.epoch).advance(entry, leaf.draw)
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
        current.receive(entry, leaf)
        self._close_if_complete()

    def _close_if_complete(self) -> None:
        current = self.open_round
        if current is None or not current.complete:
            return
        self.open_round = None
        counted = any(receipt.reject == Reject.OK for receipt in current.receipts.values())
        self.counted_rounds += counted
        for receipt in current.receipts.values():
            miner = self.miners.get(receipt.uid)
            if miner is not None and miner.hotkey == receipt.hotkey:
                miner.credit(receipt, counted=counted)

    def _submitted(self, entry: Entry, leaf: SubmissionLeaf) -> None:
        if self.last_weights is None or self.last_weights[0] != leaf.weights:
            expected = "none" if self.last_weights is None else self.last_weights[0]
            message = f"a submission of weights that are not at leaf {leaf.weights}"
            raise LeafRefused(entry.position, "weights", expected, leaf.weights, message)
        self.last_submission = leaf
        if leaf.outcome != "ambiguous":
            self.pending_weights = None

    def _certify(self, entry: Entry, leaf: CertificateLeaf) -> None:
        if self.open_round is not None:
            missing = len(self.open_round.leaf.asked) - len(self.open_round.receipts)
            message = f"a certificate inside round {self.open_round.leaf.round}"
            raise LeafRefused(entry.position, "kind", f"{missing} more receipts", leaf.kind, message)
        if leaf.key != self.key:
            raise LeafRefused(entry.position, "key of a certificate", self.key, leaf.key)
        if not 0 <= leaf.since < leaf.until <= entry.position:
            got = f"{leaf.since} to before {leaf.until}"
            raise LeafRefused(entry.position, "until", f"leaves before {entry.position}", got)
        if any(known.envelope == leaf.envelope for _, known in self.certificates):
            message = "a certificate that is recorded already"
            raise LeafRefused(entry.position, "envelope", "a new one", leaf.envelope, message)
        self.certificates = (*self.certificates, (entry.position, leaf))


def fold(entries: Iterable[Entry]) -> LedgerState:
    """Rebuild the state from leaves alone."""
    state = LedgerState()
    for entry in entries:
        state.apply(entry)
    return state
