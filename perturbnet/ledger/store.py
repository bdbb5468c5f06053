"""The log on disk: an append-only table in one SQLite file, owned by one process.

Rules (design: architecture.md, ledger.md)
- WAL with `synchronous=FULL`: what `append` returned is on the disk. `locking_mode=EXCLUSIVE`: one process,
  so SQLite's WAL-reset bug with two connections (3.7.0 to 3.51.2) cannot be met, and a second validator is
  told so.
- STRICT tables; leaves are never updated or deleted (triggers say no).
- Beside the leaves live two private tables that are never published: the secret of each epoch, written in the
  same transaction as its epoch leaf, and the arrivals: responses noted before they are verified, kept for a
  while.
- A file that is not this schema, or lacks a leaf, is refused on opening, by name, and never reset
  (`database`). `entries` compares each leaf with its hash; the validator reads all of them when it starts.
- Threads may share a store: one transaction or one page of reading at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, Self

from perturbnet.errors import LedgerCorrupt
from perturbnet.ledger.database import named_errors, open_database, transaction
from perturbnet.ledger.leaves import EpochLeaf, Leaf, decode_leaf, leaf_hash

PAGE_LEAVES = 512
_BODIES_BEFORE = """
SELECT DISTINCT body FROM arrivals WHERE challenge < :challenge AND body <> ''
AND body NOT IN (SELECT body FROM arrivals WHERE challenge >= :challenge) ORDER BY body
"""


@dataclass(frozen=True)
class ArrivalRow:
    """A response as it came, before anybody looked into it. `body` is the digest of a blob, or empty."""

    challenge: int
    uid: int
    hotkey: str
    reject: str
    body: str
    nonce: str
    signature: str
    pixels: str
    response_ms: int


@dataclass(frozen=True)
class Entry:
    """A leaf with its place in the log and its hash."""

    position: int
    hash: str
    leaf: Leaf


class LedgerStore:
    """The open log. Close it, or use it as a context manager."""

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        Raises:
            LedgerLocked: another process has it.
            LedgerCorrupt: it is not a ledger, of another schema version, or damaged.
            LedgerError: it cannot be created or opened.

        """
        self.path = path
        self._one_at_a_time = threading.RLock()
        self._db = open_database(path)
        try:
            self._size = self._count()
        except BaseException:
            self._db.close()
            raise

    @property
    def size(self) -> int:
        """How many leaves the log holds."""
        return self._size

    def append(self, leaves: Sequence[Leaf]) -> list[Entry]:
        """Append leaves in one transaction; when it returns they are on the disk.

        Raises:
            LedgerError: nothing was recorded: a full disk, or a field of another type than its leaf declares.

        """
        with self._writing():
            entries = [self._insert(offset, leaf) for offset, leaf in enumerate(leaves)]
        self._size += len(entries)
        return entries

    def append_epoch(self, leaf: EpochLeaf, secret: bytes) -> Entry:
        """Append an epoch leaf together with its secret; raises as `append`."""
        with self._writing():
            entry = self._insert(0, leaf)
            self._db.execute("INSERT INTO secrets VALUES (?, ?)", (entry.position, secret))
        self._size += 1
        return entry

    def secret_of(self, position: int) -> bytes:
        """The secret of the epoch whose leaf is at `position`."""
        rows = self._read("SELECT secret FROM secrets WHERE leaf = ?", position)
        if not rows:
            raise LedgerCorrupt(f"{self.path}: the secret of the epoch at leaf {position} is missing")
        return bytes(rows[0][0])

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """The leaves from `start` on, each compared with its hash.

        Raises:
            LedgerCorrupt: one is missing, or is not what was written.

        """
        expected = start
        while page := self._page(expected):
            for position, kind, body, stored in page:
                if position != expected:
                    raise LedgerCorrupt(f"{self.path}: leaf {expected} is missing, the next is {position}")
                yield self._entry(position, kind, body, stored)
                expected += 1

    def note_arrival(self, row: ArrivalRow) -> None:
        """Note a response durably before it is verified; the first note of a miner counts.

        Raises:
            LedgerError: nothing was recorded: a full disk, or no such challenge.

        """
        marks = ", ".join("?" * len(fields(row)))
        with self._writing():
            self._db.execute(
                f"INSERT INTO arrivals VALUES ({marks}) ON CONFLICT (challenge, uid) DO NOTHING",  # noqa: S608 - marks
                astuple(row),
            )

    def arrivals(self, challenge: int) -> list[ArrivalRow]:
        """The responses noted for the challenge at leaf `challenge`, by uid."""
        rows = self._read("SELECT * FROM arrivals WHERE challenge = ? ORDER BY uid", challenge)
        return [ArrivalRow(*row) for row in rows]

    def challenges_with_arrivals(self) -> list[int]:
        """The places of the challenges whose responses are still noted, ascending."""
        return [
            int(row[0]) for row in self._read("SELECT DISTINCT challenge FROM arrivals ORDER BY challenge")
        ]

    def bodies_before(self, challenge: int) -> list[str]:
        """Digests that only responses to challenges before leaf `challenge` name: blobs that may go."""
        return [str(row[0]) for row in self._read(_BODIES_BEFORE, {"challenge": challenge})]

    def forget_arrivals(self, before_challenge: int) -> int:
        """Forget the responses to challenges before leaf `before_challenge`; return how many. Leaves stay."""
        with self._writing():
            return self._db.execute("DELETE FROM arrivals WHERE challenge < ?", (before_challenge,)).rowcount

    def close(self) -> None:
        """Close the file; nothing is pending, because every append was committed."""
        with self._one_at_a_time:
            self._db.close()

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._one_at_a_time, named_errors(self.path, "nothing was recorded"), transaction(self._db):
            yield

    def _insert(self, offset: int, leaf: Leaf) -> Entry:
        body = leaf.encode()
        entry = Entry(self._size + offset, leaf_hash(body), leaf)
        self._db.execute(
            "INSERT INTO leaves VALUES (?, ?, ?, ?)", (entry.position, leaf.kind, body, entry.hash)
        )
        return entry

    def _read(self, query: str, *values: object) -> list[Any]:
        with self._one_at_a_time, named_errors(self.path, "it cannot be read"):
            given = values[0] if values and isinstance(values[0], dict) else values
            return self._db.execute(query, given).fetchall()

    def _page(self, start: int) -> list[tuple[int, str, bytes, str]]:
        query = "SELECT position, kind, body, hash FROM leaves WHERE position >= ? ORDER BY position LIMIT ?"
        return self._read(query, start, PAGE_LEAVES)

    def _entry(self, position: int, kind: str, body: bytes, stored: str) -> Entry:
        got = leaf_hash(body)
        if got != stored:
            raise LedgerCorrupt(f"{self.path}: leaf {position}: expected hash {stored}, got {got}")
        try:
            leaf = decode_leaf(body)
        except LedgerCorrupt as error:
            raise LedgerCorrupt(f"{self.path}: leaf {position}: {error.message}") from error
        if leaf.kind != kind:
            raise LedgerCorrupt(
                f"{self.path}: leaf {position}: filed as {kind!r}, but it is a {leaf.kind} leaf"
            )
        return Entry(position, stored, leaf)

    def _count(self) -> int:
        count, newest = self._read("SELECT COUNT(*), MAX(position) FROM leaves")[0]
        if count and newest != count - 1:
            raise LedgerCorrupt(
                f"{self.path}: {count} leaves, but the newest is leaf {newest}: some are missing"
            )
        return int(count)
