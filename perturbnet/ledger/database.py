"""The ledger's file: created whole, opened by one process, refused by name when it is something else.

Rules
- A new file is made beside its name, complete with its schema and flushed, and then linked to its name. So
  whatever has the name is a ledger or is refused; an empty file is one that was cut off, never a new
  beginning. A link fails where the name is taken: two validators that start at once cannot replace each
  other's file.
- A file is looked at before it is opened for writing, without a lock, a journal or a change (SQLite's
  `immutable`): one of another program or version is refused with every byte as it was.
- WAL with `synchronous=FULL` and `locking_mode=EXCLUSIVE`; see `store`.

Source: sqlite.org/uri.html, sqlite.org/fileformat.html (section 1.3), sqlite.org/rescode.html.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from perturbnet.errors import LedgerCorrupt, LedgerError, LedgerLocked
from perturbnet.ledger.folders import make_folder, sync_folder

SCHEMA_VERSION = 2
APPLICATION_ID = 0x50525442  # "PRTB"
LOCK_WAIT_S = 1.0
_MAGIC = b"SQLite format 3\0"
_HEADER = struct.Struct(">60xi4xi")  # user version at byte 60, application id at byte 68
_SCHEMA = f"""
CREATE TABLE leaves (
    position INTEGER PRIMARY KEY, kind TEXT NOT NULL, hash BLOB NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE TRIGGER leaves_never_change BEFORE UPDATE ON leaves
    BEGIN SELECT RAISE(ABORT, 'leaves are append-only'); END;
CREATE TRIGGER leaves_never_go BEFORE DELETE ON leaves
    BEGIN SELECT RAISE(ABORT, 'leaves are append-only'); END;
CREATE TABLE nodes (
    level INTEGER NOT NULL, position INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (level, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE heads (size INTEGER PRIMARY KEY, root BLOB NOT NULL) STRICT;
CREATE TRIGGER heads_never_change BEFORE UPDATE ON heads
    BEGIN SELECT RAISE(ABORT, 'heads are append-only'); END;
CREATE TRIGGER heads_never_go BEFORE DELETE ON heads
    BEGIN SELECT RAISE(ABORT, 'heads are append-only'); END;
CREATE TABLE secrets (leaf INTEGER PRIMARY KEY REFERENCES leaves(position), secret BLOB NOT NULL) STRICT;
CREATE TABLE arrivals (
    challenge INTEGER NOT NULL REFERENCES leaves(position), uid INTEGER NOT NULL, hotkey TEXT NOT NULL,
    reject TEXT NOT NULL, body TEXT NOT NULL, nonce TEXT NOT NULL, signature TEXT NOT NULL,
    pixels TEXT NOT NULL, response_ms INTEGER NOT NULL, PRIMARY KEY (challenge, uid)
) STRICT, WITHOUT ROWID;
CREATE TABLE deltas (challenge INTEGER PRIMARY KEY REFERENCES leaves(position), digests BLOB NOT NULL) STRICT;
CREATE TABLE anchors (number INTEGER PRIMARY KEY, block INTEGER NOT NULL, payload BLOB NOT NULL) STRICT;
PRAGMA application_id={APPLICATION_ID};
PRAGMA user_version={SCHEMA_VERSION};
"""
_OLD = "it was begun before the log was signed, and cannot be; keep it, and name another PERTURB_STATE_DIR"
_UNTOUCHED = "nothing was changed; restore a backup, or name another PERTURB_STATE_DIR"


class LedgerFile:
    """The open file and its one connection. Close it, or use it as a context manager.

    Threads may share it: one transaction or one page of reading at a time.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the file; raises as `open_database`."""
        self.path = path
        self._one_at_a_time = threading.RLock()
        self._db = open_database(path)

    def close(self) -> None:
        """Close the file; nothing is pending, because every transaction was committed."""
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

    def _read(self, query: str, *values: object) -> list[Any]:
        with self._one_at_a_time, named_errors(self.path, "it cannot be read"):
            given = values[0] if values and isinstance(values[0], dict) else values
            return self._db.execute(query, given).fetchall()


def open_database(path: Path) -> sqlite3.Connection:
    """Open the ledger at `path`, or create it; the caller owns the lock until it closes the connection.

    Raises:
        LedgerLocked: another process has it.
        LedgerCorrupt: it is not a ledger, of another schema version, or damaged; it is left as it was.
        LedgerError: it cannot be created or opened: the folder, the disk, the permissions.

    """
    try:
        make_folder(path.parent)
        if not path.exists():
            _create(path)
        _look(path)
    except OSError as error:
        raise LedgerError(f"cannot open {path}: {error.strerror}") from error
    with named_errors(path, "cannot open it"):
        db = sqlite3.connect(path, isolation_level=None, timeout=LOCK_WAIT_S, check_same_thread=False)
    try:
        with named_errors(path, "cannot open it"):
            _take(db)
            if _schema(db) != _schema(_blank()):
                raise LedgerCorrupt(f"{path}: its tables are not those of a ledger", hint=_UNTOUCHED)
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """BEGIN IMMEDIATE … COMMIT; rolled back on any error."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


@contextmanager
def named_errors(path: Path, what: str) -> Iterator[None]:
    """Turn SQLite's errors into ours; `what` says what did not happen."""
    try:
        yield
    except sqlite3.Error as error:
        raise _named(error, path, what) from error


def _named(error: sqlite3.Error, path: Path, what: str) -> LedgerError:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # raised by Python: text that is not UTF-8 is damage, a closed connection is not
        damaged = isinstance(error, sqlite3.OperationalError)
        return (LedgerCorrupt if damaged else LedgerError)(f"{path}: {what}: {error}")
    match code & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return LedgerLocked(f"{path} is in use by another process", hint="stop it first")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return LedgerCorrupt(f"{path} is not a readable ledger: {error}", hint=_UNTOUCHED)
        case _:
            return LedgerError(f"{path}: {what}: {error}")


def _create(path: Path) -> None:
    """Link a complete, empty ledger to `path`, unless the name is taken by now."""
    journal = path.with_name(f"{path.name}-wal")
    if journal.exists():
        raise LedgerCorrupt(f"{path} is missing, but its journal {journal.name} is there", hint=_UNTOUCHED)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file, closing(_blank()) as blank:
            file.write(blank.serialize())
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(temporary)
    finally:
        Path(temporary).unlink()
    sync_folder(path.parent)


def _blank() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(_SCHEMA)
    return db


def _look(path: Path) -> None:
    """Refuse what is not a ledger of this version, without changing a byte."""
    if path.is_file() and path.stat().st_size == 0:
        raise LedgerCorrupt(f"{path} is empty; a ledger never is", hint=_UNTOUCHED)
    application, version = _identity(path)
    if application != APPLICATION_ID:
        raise LedgerCorrupt(
            f"{path} is an SQLite file of another program: application id {application:#x}, "
            f"expected {APPLICATION_ID:#x}",
            hint=_UNTOUCHED,
        )
    if version != SCHEMA_VERSION:
        raise LedgerCorrupt(
            f"{path}: schema version {version}, this program knows {SCHEMA_VERSION}",
            hint=_OLD if version < SCHEMA_VERSION else _UNTOUCHED,
        )


def _identity(path: Path) -> tuple[int, int]:
    """The file's application id and version. Beside a journal only its header counts.

    A power cut while the journal is copied into the file leaves pages of two ages there. SQLite repairs that
    from the journal, when it opens both; without one the file is all there is, and it has to be whole.
    """
    journal = path.with_name(f"{path.name}-wal")
    if journal.exists() and journal.stat().st_size:
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
        if len(header) < _HEADER.size or not header.startswith(_MAGIC):
            raise LedgerCorrupt(f"{path} is not a readable ledger: file is not a database", hint=_UNTOUCHED)
        version, application = _HEADER.unpack(header)
        return application, version
    with (
        named_errors(path, "cannot open it"),
        closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as db,
    ):
        return _pragma(db, "application_id"), _pragma(db, "user_version")


def _take(db: sqlite3.Connection) -> None:
    """Take the lock for as long as the connection lives."""
    db.execute("PRAGMA locking_mode=EXCLUSIVE")
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA foreign_keys=ON")
    db.execute("BEGIN EXCLUSIVE")
    db.execute("COMMIT")


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def _schema(db: sqlite3.Connection) -> list[tuple[str, str]]:
    return db.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()
