"""A log cut into rounds: each challenge with its receipts and the leaves it refers to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from perturbnet.errors import LedgerCorrupt
from perturbnet.ledger import Entry, Leaf, OpenRound
from perturbnet.ledger.leaves import ChallengeLeaf, ConfigLeaf, MetagraphLeaf, ReceiptLeaf, RulesLeaf
from perturbnet.rounds.terms import Terms, build_terms, read_neurons
from perturbnet.rules.subnet import Neuron

AnyLeaf = TypeVar("AnyLeaf", bound=Leaf)


class Log(Protocol):
    """What an audit reads: a bundle, a validator's own ledger, or a list in memory."""

    @property
    def size(self) -> int:
        """How many leaves."""

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[Entry]:
        """The leaves from `start` to before `stop`, each compared with its hash.

        Raises:
            LedgerError: one is missing, or not what it should be.

        """

    def blob(self, digest: str) -> bytes:
        """A blob that a leaf names.

        Raises:
            BundleMissing: it is not published.
            PerturbError: it is damaged.

        """


@dataclass
class LoggedRound:
    """A challenge and its receipts, in the order of the log."""

    opened: OpenRound
    receipts: list[Entry] = field(default_factory=list)

    def receipt_leaves(self) -> list[ReceiptLeaf]:
        """The receipts themselves."""
        return [entry.leaf for entry in self.receipts if isinstance(entry.leaf, ReceiptLeaf)]


@dataclass
class Contexts:
    """Looks up what challenges refer to; remembers the newest leaf of each kind."""

    log: Log
    _known: dict[type[Leaf], tuple[int, Leaf]] = field(default_factory=dict)
    _neurons: tuple[MetagraphLeaf, dict[int, Neuron]] | None = None

    def leaf_at(self, position: int, kind: type[AnyLeaf]) -> AnyLeaf:
        """One leaf. Raises `LedgerCorrupt` where it is of another kind, or there is none."""
        known = self._known.get(kind)
        if known is None or known[0] != position:
            if not 0 <= position < self.log.size:
                raise LedgerCorrupt(f"expected a {kind.kind} leaf at {position}, the log has {self.log.size}")
            known = (position, next(iter(self.log.entries(position, position + 1))).leaf)
            self._known[kind] = known
        if not isinstance(known[1], kind):
            raise LedgerCorrupt(f"expected a {kind.kind} leaf at {position}, found a {known[1].kind} leaf")
        return known[1]

    def config_of(self, leaf: ChallengeLeaf) -> ConfigLeaf:
        """The config a challenge was made under. Raises `LedgerCorrupt`."""
        return self.leaf_at(leaf.config, ConfigLeaf)

    def terms_of(self, leaf: ChallengeLeaf) -> Terms:
        """What a challenge was sent under. Raises `LedgerCorrupt`."""
        config, rules = self.config_of(leaf), self.leaf_at(leaf.rules, RulesLeaf)
        metagraph = self.leaf_at(leaf.metagraph, MetagraphLeaf)
        if self._neurons is None or self._neurons[0] is not metagraph:
            self._neurons = metagraph, read_neurons(metagraph)
        return build_terms(leaf, config, rules, metagraph, neurons=self._neurons[1])


def read_rounds(entries: Iterable[Entry], *, stop: int) -> Iterator[LoggedRound]:
    """The complete rounds whose challenge stands before `stop`.

    `entries` begins anywhere: receipts of a round that began before belong to somebody else. A round that is
    not complete is left out; the history names it.
    """
    current: LoggedRound | None = None
    for entry in entries:
        if isinstance(entry.leaf, ChallengeLeaf):
            if entry.position >= stop:
                return
            current = LoggedRound(OpenRound(entry.position, entry.hash, entry.leaf))
        elif current is not None and _belongs(entry.leaf, current):
            current.receipts.append(entry)
        if current is not None and len(current.receipts) == len(current.opened.leaf.asked):
            yield current
            current = None
        elif current is None and entry.position >= stop:
            return


def _belongs(leaf: Leaf, current: LoggedRound) -> bool:
    return isinstance(leaf, ReceiptLeaf) and leaf.challenge_id == current.opened.hash
