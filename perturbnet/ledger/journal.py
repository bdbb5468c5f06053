"""The ledger and its fold, kept in step: what can follow is on disk first, and in the state then.

Opening hashes every leaf anew, takes up the snapshot if it is of this log (`ledger.snapshots`) and folds the
leaves after it. A snapshot is written when the log is closed and every SNAPSHOT_LEAVES leaves.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from perturbnet.errors import LedgerCorrupt, LedgerError
from perturbnet.ledger import BlobStore, Entry, Leaf, LedgerState, LedgerStore, leaf_hash, sweep_orphans
from perturbnet.ledger.leaves import ConfigLeaf, EpochLeaf, MetagraphLeaf, RulesLeaf
from perturbnet.ledger.snapshots import load_snapshot, save_snapshot

LEDGER_FILE = "ledger.sqlite"
BLOBS_FOLDER = "blobs"
DELTAS_FOLDER = "deltas"
SNAPSHOT_FILE = "fold.json"
SNAPSHOT_LEAVES = 20_000

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
        self._snapshot = state_dir / SNAPSHOT_FILE
        try:
            self.state = self._open()
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
        self._take(following)
        return entries

    def append_epoch(self, leaf: EpochLeaf, secret: bytes, *, after: Sequence[Leaf] = ()) -> Entry:
        """Begin an epoch: the leaves `after`, its own and its secret at once; raises as `append`."""
        following = self._follow(*after, leaf)
        entry = self.store.append_epoch(leaf, secret, after=after)
        self._take(following)
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
        """Close the log, and leave a snapshot for the next time."""
        try:
            if self._saved < self.state.size:
                self._save()
        finally:
            self.store.close()

    def _open(self) -> LedgerState:
        self.store.verify()
        state = load_snapshot(self._snapshot, self.store)
        self._saved = state.size
        for entry in self.store.entries(state.size):
            state.apply(entry)
        removed = sweep_orphans(self.store, self.blobs, self.deltas)
        if removed:
            log.info("Removed %d blobs that a crash had left behind", removed)
        return state

    def _take(self, following: LedgerState) -> None:
        self.state = following
        if following.size - self._saved >= SNAPSHOT_LEAVES and following.open_round is None:
            self._save()

    def _save(self) -> None:
        """Write a snapshot; one that cannot be written costs time at the next start, and nothing else."""
        try:
            if save_snapshot(self._snapshot, self.state, self.store.root()):
                self._saved = self.state.size
        except LedgerError as error:
            log.warning("%s", error.message)

    def _follow(self, *leaves: Leaf) -> LedgerState:
        """The state after these leaves; what cannot be folded must not reach the disk: no start reads it."""
        following = self.state.fork()
        for leaf in leaves:
            entry = Entry(following.size, leaf_hash(leaf.encode()), leaf)
            try:
                following.apply(entry)
            except LedgerCorrupt as error:
                raise LedgerError(f"not recorded: {error.message}") from error
        return following


def _without_block(leaf: RulesLeaf) -> tuple[object, ...]:
    return leaf.version, leaf.gates, leaf.history, leaf.selection, leaf.challenges
