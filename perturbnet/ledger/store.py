"""The log on disk: an append-only Merkle tree in one SQLite file, owned by one process.

Rules (docs/ledger.md)
- WAL with `synchronous=FULL`: what `append` returned is on the disk. `locking_mode=EXCLUSIVE`: one process,
  so SQLite's WAL-reset bug with two connections (3.7.0 to 3.51.2) cannot be met, and a second validator is
  told so.
- STRICT tables; leaves and heads are never updated or deleted (triggers say no).
- One transaction writes the leaves, the nodes of the tree they complete (every fourth level: the roots over
  16, 256, 4,096, ... leaves) and the head: size and root. The tree's frontier in memory follows the commit.
- A file of an earlier schema is taken forward on opening. One that is no ledger, or whose leaves are not as
  many as its newest head says, or whose hashes do not give that head's root, is refused on opening, by name,
  and never reset (`database`). `verify` hashes every byte anew; the validator does so when it starts. Whoever
  reads leaves gets each compared with its hash.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from perturbnet.errors import LedgerCorrupt, LedgerError
from perturbnet.ledger import merkle
from perturbnet.ledger.arrivals import PrivateTables
from perturbnet.ledger.leaves import EpochLeaf, Leaf, ReceiptLeaf, decode_leaf
from perturbnet.ledger.merkle import Frontier
from perturbnet.ledger.schema import SCHEMA, Schema
from perturbnet.wire.digests import is_digest

PAGE_LEAVES = 512
STORED_LEVELS = 4
TILE_LEVELS = 8
_INSERT_DELTAS = """
INSERT INTO deltas VALUES (?, ?) ON CONFLICT (challenge)
DO UPDATE SET digests = CAST(digests || excluded.digests AS BLOB)
"""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A leaf with its place in the log and its hash."""

    position: int
    hash: str
    leaf: Leaf


class LedgerStore(PrivateTables):
    """The open log. Close it, or use it as a context manager."""

    def __init__(self, path: Path, schema: Schema = SCHEMA) -> None:
        """Open or create the file; one of an earlier schema is taken forward.

        Raises:
            LedgerLocked: another process has it.
            LedgerCorrupt: it is not a ledger, of an unknown schema version, or damaged.
            LedgerError: it cannot be created or opened.

        """
        super().__init__(path, schema)
        try:
            self._tree = self._take_up()
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """How many leaves the log holds."""
        return self._tree.size

    def append(self, leaves: Sequence[Leaf]) -> list[Entry]:
        """Append leaves in one transaction; when it returns they are on the disk.

        Raises:
            LedgerError: nothing was recorded: a full disk, or a field of another type than its leaf declares.

        """
        return self._append(leaves, None)

    def append_epoch(self, leaf: EpochLeaf, secret: bytes, *, after: Sequence[Leaf] = ()) -> Entry:
        """Append an epoch leaf together with its secret, behind the leaves `after`; raises as `append`."""
        return self._append([*after, leaf], secret)[-1]

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """The leaves from `start` on, each compared with its hash.

        Raises:
            LedgerCorrupt: one is missing, or is not what was written.

        """
        for position, (kind, stored, body) in enumerate(self._rows(start), start=start):
            yield self._entry(position, kind, stored, body)

    def leaf_bytes(self, start: int, stop: int) -> list[bytes]:
        """The bytes of the leaves from `start` to before `stop`, compared as in `entries`."""
        return [body for _, (_, _, body) in zip(range(start, stop), self._rows(start), strict=False)]

    def root(self) -> bytes:
        """The 32-byte root over all leaves."""
        return self._tree.root()

    def subtree(self, start: int, stop: int) -> bytes:
        """The root over a range of leaves, as proofs ask for it; see `merkle.Subtree`."""
        nodes = merkle.complete_subtrees(start, stop)
        return merkle.join([self._node(level, index) for level, index in nodes])

    def hashes(self, level: int, start: int, stop: int) -> list[bytes]:
        """The roots over 256^level leaves each, from the `start`-th to before the `stop`-th; level 0: leaves.

        Raises:
            LedgerCorrupt: one is missing.

        """
        return self._hashes(level * TILE_LEVELS // STORED_LEVELS, start, stop)

    def _hashes(self, level: int, start: int, stop: int) -> list[bytes]:
        """Stored hashes: of leaves at level 0, at level n the roots over 16^n leaves each."""
        if level == 0:
            query = "SELECT hash FROM leaves WHERE position >= ? AND position < ? ORDER BY position"
            rows = self._read(query, start, stop)
        else:
            query = (
                "SELECT hash FROM nodes WHERE level = ? AND position >= ? AND position < ? ORDER BY position"
            )
            rows = self._read(query, level, start, stop)
        if len(rows) != stop - start:
            raise LedgerCorrupt(
                f"{self.path}: of the hashes {start} to {stop} of level {level} some are missing"
            )
        return [bytes(row[0]) for row in rows]

    def verify(self) -> None:
        """Hash every leaf anew, and compare with its hash, the tree's nodes and every head.

        Raises:
            LedgerCorrupt: the first thing that is not what was written.

        """
        tree, heads = Frontier(), self._heads()
        head = next(heads, None)
        for position, (_, stored, _) in enumerate(self._rows(0)):
            for level, index, node in _nodes(position, tree.append(stored)):
                if self._hashes(level, index, index + 1) != [node]:
                    raise LedgerCorrupt(f"{self.path}: node {index} of level {level} is not {node.hex()}")
            if head is not None and tree.size == head[0]:
                self._check_root(*head, tree.root())
                head = next(heads, None)
        if tree.size != self.size or head is not None:
            raise LedgerCorrupt(f"{self.path}: {tree.size} leaves of {self.size} stand under a head")

    def _append(self, leaves: Sequence[Leaf], secret: bytes | None) -> list[Entry]:
        bodies = [leaf.encode() for leaf in leaves]
        hashes = [merkle.leaf_hash(body) for body in bodies]
        kinds, deltas = [leaf.kind for leaf in leaves], _deltas(leaves)
        with self._one_at_a_time:
            tree, first, nodes = self._tree.copy(), self._tree.size, []
            for position, item in enumerate(hashes, start=first):
                nodes += _nodes(position, tree.append(item))
            places = range(first, tree.size)
            with self._writing():
                rows = zip(places, kinds, hashes, bodies, strict=True)
                self._db.executemany("INSERT INTO leaves VALUES (?, ?, ?, ?)", rows)
                self._db.executemany("INSERT INTO nodes VALUES (?, ?, ?)", nodes)
                self._db.executemany(_INSERT_DELTAS, deltas.items())
                if leaves:
                    self._db.execute("INSERT INTO heads VALUES (?, ?)", (tree.size, tree.root()))
                if secret is not None:
                    self._db.execute("INSERT INTO secrets VALUES (?, ?)", (tree.size - 1, secret))
            self._tree = tree
        return [
            Entry(place, item.hex(), leaf) for place, item, leaf in zip(places, hashes, leaves, strict=True)
        ]

    def _take_up(self) -> Frontier:
        """The frontier from the stored hashes, if they give the newest head."""
        newest = self._read("SELECT MAX(position) FROM leaves")[0][0]
        count = 0 if newest is None else newest + 1  # gaps are found where their hashes are read
        heads = self._read("SELECT size, root FROM heads ORDER BY size DESC LIMIT 1")
        size, root = heads[0] if heads else (0, merkle.EMPTY_ROOT)
        if size != count:
            raise LedgerCorrupt(
                f"{self.path}: {count} leaves, but its newest head is of {size}: some are missing"
            )
        nodes = merkle.complete_subtrees(0, size)
        tree = Frontier(size, [self._node(level, index) for level, index in nodes])
        self._check_root(size, bytes(root), tree.root())
        return tree

    def _check_root(self, size: int, stored: bytes, found: bytes) -> None:
        if stored != found:
            raise LedgerCorrupt(
                f"{self.path}: {size} leaves: expected root {stored.hex()}, got {found.hex()}"
            )

    def _node(self, level: int, index: int) -> bytes:
        """The root over the leaves `index << level` to before `(index + 1) << level`."""
        stored, below = divmod(level, STORED_LEVELS)
        return merkle.root(self._hashes(stored, index << below, (index + 1) << below))

    def _heads(self) -> Iterator[tuple[int, bytes]]:
        query = "SELECT size, root FROM heads WHERE size > ? ORDER BY size LIMIT ?"
        last = 0
        while page := self._read(query, last, PAGE_LEAVES):
            for size, root in page:
                yield size, bytes(root)
            last = page[-1][0]

    def _rows(self, start: int) -> Iterator[tuple[str, bytes, bytes]]:
        """Kind, hash and bytes of the leaves from `start` on, the bytes compared with the hash."""
        query = "SELECT position, kind, hash, body FROM leaves WHERE position >= ? ORDER BY position LIMIT ?"
        expected = start
        while page := self._read(query, expected, PAGE_LEAVES):
            for position, kind, stored, body in page:
                if position != expected:
                    raise LedgerCorrupt(f"{self.path}: leaf {expected} is missing, the next is {position}")
                got = merkle.leaf_hash(body)
                if got != stored:
                    raise LedgerCorrupt(
                        f"{self.path}: leaf {position}: expected hash {stored.hex()}, got {got.hex()}"
                    )
                yield kind, stored, body
                expected += 1

    def _entry(self, position: int, kind: str, stored: bytes, body: bytes) -> Entry:
        try:
            leaf = decode_leaf(body)
        except LedgerCorrupt as error:
            raise LedgerCorrupt(f"{self.path}: leaf {position}: {error.message}") from error
        if leaf.kind != kind:
            raise LedgerCorrupt(
                f"{self.path}: leaf {position}: filed as {kind!r}, but it is a {leaf.kind} leaf"
            )
        return Entry(position, stored.hex(), leaf)


def _nodes(position: int, completed: Sequence[bytes]) -> list[tuple[int, int, bytes]]:
    """The nodes to store that leaf `position` completes: (stored level, index, hash)."""
    return [
        (level // STORED_LEVELS, position >> level, completed[level])
        for level in range(STORED_LEVELS, len(completed), STORED_LEVELS)
    ]


def _deltas(leaves: Sequence[Leaf]) -> dict[int, bytes]:
    """The digests that receipts name, by challenge."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    for leaf in leaves:
        if isinstance(leaf, ReceiptLeaf) and leaf.delta:
            if not is_digest(leaf.delta):
                raise LedgerError(f"not recorded: the delta {leaf.delta[:80]!r} is no digest of a blob")
            found[leaf.challenge].append(leaf.delta)
    return {challenge: bytes.fromhex("".join(digests)) for challenge, digests in found.items()}
