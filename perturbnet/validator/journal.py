"""The ledger and its fold, kept in step: what can follow is on disk first, and in the state then."""

from __future__ import annotations

import logging
from copy import deepcopy
from pathlib import Path
from typing import TypeVar

from perturbnet.errors import LedgerCorrupt, LedgerError
from perturbnet.ledger import BlobStore, Entry, Leaf, LedgerState, LedgerStore, fold, leaf_hash
from perturbnet.ledger.leaves import ConfigLeaf, EpochLeaf, MetagraphLeaf, RulesLeaf

LEDGER_FILE = "ledger.sqlite"
BLOBS_FOLDER = "blobs"
DELTAS_FOLDER = "deltas"

AnyLeaf = TypeVar("AnyLeaf", bound=Leaf)

log = logging.getLogger(__name__)


class Journal:
    """One validator's log. The state is rebuilt from its leaves on opening; nothing else is believed."""

    def __init__(self, state_dir: Path) -> None:
        """Open the log in `state_dir` and fold it.

        Raises:
            LedgerLocked: another validator runs on it.
            LedgerCorrupt: it is damaged; nothing is changed.

        """
        self.store = LedgerStore(state_dir / LEDGER_FILE)
        self.blobs = BlobStore(state_dir / BLOBS_FOLDER)
        self.deltas = BlobStore(state_dir / DELTAS_FOLDER)
        try:
            self.state: LedgerState = fold(self.store.entries())
        except BaseException:
            self.store.close()
            raise
        if self.state.size:
            log.info("Resuming: %d leaves, round %d", self.state.size, self.state.rounds)

    def append(self, *leaves: Leaf) -> list[Entry]:
        """Append leaves in one transaction, then take them into the state.

        Raises:
            LedgerError: nothing was recorded: the disk, or a leaf that cannot follow the ones before it.

        """
        following = self._follow(*leaves)
        entries = self.store.append(leaves)
        self.state = following
        return entries

    def append_epoch(self, leaf: EpochLeaf, secret: bytes) -> Entry:
        """Begin an epoch: its leaf and its secret in one transaction; raises as `append`."""
        following = self._follow(leaf)
        entry = self.store.append_epoch(leaf, secret)
        self.state = following
        return entry

    def leaf_at(self, position: int, kind: type[AnyLeaf]) -> AnyLeaf:
        """The leaf that another leaf refers to.

        Raises:
            LedgerCorrupt: there is none, or it is of another kind.

        """
        entry = next(self.store.entries(position), None)
        if entry is None or not isinstance(entry.leaf, kind):
            found = "nothing" if entry is None else f"a {entry.leaf.kind} leaf"
            raise LedgerCorrupt(f"expected a {kind.kind} leaf at {position}, found {found}")
        return entry.leaf

    def record_config(self, leaf: ConfigLeaf) -> None:
        """Record what this run computes with, if it differs from what stands there."""
        if self.state.config is None or self.state.config[1] != leaf:
            self.append(leaf)

    def record_rules(self, leaf: RulesLeaf) -> None:
        """Record the rules, if they differ in anything but the block from which they hold."""
        current = self.state.rules[1] if self.state.rules else None
        if current is None or _without_block(current) != _without_block(leaf):
            self.append(leaf)

    def record_metagraph(self, leaf: MetagraphLeaf) -> None:
        """Record who is registered, if anybody changed."""
        if self.state.metagraph is None or self.state.metagraph[1].neurons != leaf.neurons:
            self.append(leaf)

    def close(self) -> None:
        """Close the log."""
        self.store.close()

    def _follow(self, *leaves: Leaf) -> LedgerState:
        """The state after these leaves; what cannot be folded must not reach the disk: no start reads it."""
        following = deepcopy(self.state)
        for leaf in leaves:
            entry = Entry(following.size, leaf_hash(leaf.encode()), leaf)
            try:
                following.apply(entry)
            except LedgerCorrupt as error:
                raise LedgerError(f"not recorded: {error.message}") from error
        return following


def _without_block(leaf: RulesLeaf) -> tuple[object, ...]:
    return leaf.version, leaf.gates, leaf.history, leaf.selection, leaf.challenges
