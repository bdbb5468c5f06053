"""The log on disk: an append-only table in one SQLite file, owned by one process.

Rules (design: architecture.md, ledger.md)
- WAL with `synchronous=FULL`: what `append` returned is on the disk. `locking_mode=EXCLUSIVE`: one process, so SQLite's
  WAL-reset bug with two connections (3.7.0 to 3.51.2) cannot be met, and a second validator is told so.
- STRICT tables; leaves are never updated or deleted (triggers say no).
- Beside the leaves live two private tables that are never published: the secret of each epoch, written in the same
  transaction as its epoch leaf, and the arrivals: responses noted before they are verified.
- On opening every leaf is read and its hash compared. A file that is not this schema, or does not hold what was written, is
  refused by name and never reset.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from perturbnet.errors import LedgerCorrupt, LedgerError, LedgerLocked
from perturbnet.ledger.leaves import EpochLeaf, Leaf, decode_leaf, leaf_hash

SCHEMA_VERSION = 1
APPLICATION_ID = 0x50525442  # "PRTB"
_SCHEMA = """
CREATE TABLE leaves (
    position INTEGER PRIMARY KEY, kind TEXT NOT NULL, body BLOB NOT NULL, hash TEXT NOT NULL
) STRICT;
CREATE TRIGGER leaves_never_change BEFORE UPDATE ON leaves BEGIN SELECT RAISE(ABORT, 'leaves are append-only'); END;
CREATE TRIGGER leaves_never_go BEFORE DELETE ON leaves BEGIN SELECT RAISE(ABORT, 'leaves are append-only'); END;
CREATE TABLE secrets (leaf INTEGER PRIMARY KEY REFERENCES leaves(position), secret BLOB NOT NULL) STRICT;
CREATE TABLE arrivals (
    challenge INTEGER NOT NULL REFERENCES leaves(position), uid INTEGER NOT NULL, hotkey TEXT NOT NULL,
    reject TEXT NOT NULL, body TEXT NOT NULL, nonce TEXT NOT NULL, signature TEXT NOT NULL, pixels TEXT NOT NULL,
    response_ms INTEGER NOT NULL, PRIMARY KEY (challenge, uid)
) STRICT, WITHOUT ROWID;
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

        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = _connect(path)
        try:
            self._size = self._open()
        except BaseException:
            self._db.close()
            raise

    @property
    def size(self) -> int:
        """How many leaves the log holds."""
        return self._size

    def append(self, leaves: Sequence[Leaf]) -> list[Entry]:
        """Append leaves in one transaction; when it returns they are on the disk."""
        with _transaction(self._db):
            entries = [self._insert(offset, leaf) for offset, leaf in enumerate(leaves)]
        self._size += len(entries)
        return entries

    def append_epoch(self, leaf: EpochLeaf, secret: bytes) -> Entry:
        """Append an epoch leaf together with its secret."""
        with _transaction(self._db):
            entry = self._insert(0, leaf)
            self._db.execute("INSERT INTO secrets VALUES (?, ?)", (entry.position, secret))
        self._size += 1
        return entry

    def secret_of(self, position: int) -> bytes:
        """The secret of the epoch whose leaf is at `position`."""
        row = self._db.execute("SELECT secret FROM secrets WHERE leaf = ?", (position,)).fetchone()
        if row is None:
            raise LedgerCorrupt(f"{self.path}: the secret of the epoch at leaf {position} is missing")
        return bytes(row[0])

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """The leaves from `start` on, each compared with its hash."""
        rows = self._db.execute("SELECT position, body, hash FROM leaves WHERE position >= ? ORDER BY position", (start,))
        for expected, (position, body, stored) in enumerate(rows, start):
            if position != expected:
                raise LedgerCorrupt(f"{self.path}: leaf {expected} is missing, the next is {position}")
            got = leaf_hash(body)
            if got != stored:
                raise LedgerCorrupt(f"{self.path}: leaf {position}: expected hash {stored}, got {got}")
            yield Entry(position, stored, decode_leaf(body))

    def note_arrival(self, row: ArrivalRow) -> None:
        """Note a response durably before it is verified; the first note of a miner counts."""
        with _transaction(self._db):
            marks = ", ".join("?" * len(fields(row)))
            self._db.execute(f"INSERT OR IGNORE INTO arrivals VALUES ({marks})", astuple(row))  # noqa: S608 - marks only

    def arrivals(self, challenge: int) -> list[ArrivalRow]:
        """The responses noted for the challenge at leaf `challenge`, by uid."""
        rows = self._db.execute("SELECT * FROM arrivals WHERE challenge = ? ORDER BY uid", (challenge,))
        return [ArrivalRow(*row) for row in rows]

    def close(self) -> None:
        """Close the file; nothing is pending, because every append was committed."""
        self._db.close()

    def __enter__(self) -> LedgerStore:
        """Return the store itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _insert(self, offset: int, leaf: Leaf) -> Entry:
        body = leaf.encode()
        entry = Entry(self._size + offset, leaf_hash(body), leaf)
        self._db.execute("INSERT INTO leaves VALUES (?, ?, ?, ?)", (entry.position, leaf.kind, body, entry.hash))
        return entry

    def _open(self) -> int:
        try:
            version = self._prepare()
            if version != SCHEMA_VERSION:
                raise LedgerCorrupt(f"{self.path}: schema version {version}, this program knows {SCHEMA_VERSION}")
            return int(self._db.execute("SELECT COUNT(*) FROM leaves").fetchone()[0])
        except sqlite3.DatabaseError as error:
            if "locked" in str(error):
                raise LedgerLocked(f"{self.path} is in use by another process", hint="stop it first") from None
            raise LedgerCorrupt(
                f"{self.path} is not a readable ledger: {error}",
                hint="nothing was changed; restore a backup, or name another PERTURB_STATE_DIR",
            ) from None

    def _prepare(self) -> int:
        """Take the lock; create the schema in an empty file; return the schema's version."""
        self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA foreign_keys=ON")
        self._db.execute("BEGIN EXCLUSIVE")
        tables = self._db.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()[0]
        if tables == 0:
            for statement in _statements(_SCHEMA):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id={APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        self._db.execute("COMMIT")
        application = self._db.execute("PRAGMA application_id").fetchone()[0]
        if application != APPLICATION_ID:
            raise LedgerCorrupt(f"{self.path} is an SQLite file of another program (application id {application})")
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])


def _connect(path: Path) -> sqlite3.Connection:
    try:
        return sqlite3.connect(path, isolation_level=None, timeout=1.0, check_same_thread=False)
    except sqlite3.OperationalError as error:
        raise LedgerError(f"cannot open {path}: {error}") from None


def _statements(script: str) -> Iterator[str]:
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""


class _transaction:  # noqa: N801 - reads as a verb at its use
    """BEGIN IMMEDIATE … COMMIT; rolled back on any error. A full or failing disk becomes a LedgerError."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if kind is None:
            try:
                self._db.execute("COMMIT")
            except sqlite3.Error as failed:
                self._rollback()
                raise LedgerError(f"nothing was recorded: {failed}") from failed
            return
        self._rollback()
        if isinstance(error, sqlite3.Error):
            raise LedgerError(f"nothing was recorded: {error}") from error

    def _rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
