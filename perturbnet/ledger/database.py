"""The ledger's file: created whole, opened by one process, refused by name when it is something else.

Rules
- A new file is made beside its name, complete with its schema and flushed, and then linked to its name. So
  whatever has the name is a ledger or is refused; an empty file is one that was cut off, never a new
  beginning. A link fails where the name is taken: two validators that start at once cannot replace each
  other's file.
- A file is looked at before it is opened for writing, without a lock, a journal or a change (SQLite's
  `immutable`): one of another program or version is refused with every byte as it was.
- WAL with `synchronous=FULL` and `locking_mode=EXCLUSIVE`; see `store`.
- A file of an earlier release is taken forward when it is opened (`schema`), in one transaction: a crash
  leaves it as it was or as it is to be.

Source: sqlite.org/uri.html, sqlite.org/fileformat.html (section 1.3), sqlite.org/rescode.html.
"""

from __future__ import annotations

import logging
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
from perturbnet.ledger.schema import (
    APPLICATION_ID,
    FIRST_VERSION,
    SCHEMA,
    Schema,
    read_pragma,
    read_tables,
)
from perturbnet.runtime.folders import make_folder, sync_folder

LOCK_WAIT_S = 1.0
_MAGIC = b"SQLite format 3\0"
_HEADER = struct.Struct(">60xi4xi")  # user version at byte 60, application id at byte 68
_OLD = "it was begun before the log was signed, and cannot be; keep it, and name another PERTURB_STATE_DIR"
_NEWER = "a newer release has written it, and there is no way back: use that one; nothing was changed"
_UNTOUCHED = "nothing was changed; restore a backup, or name another PERTURB_STATE_DIR"
COPY_PAGES = 1024  # at a time; whoever writes waits no longer than these take
COPY_WAIT_S = 0.01


log = logging.getLogger(__name__)


class LedgerFile:
    """The open file and its one connection. Close it, or use it as a context manager.

    Threads may share it: one transaction or one page of reading at a time.
    """

    def __init__(self, path: Path, schema: Schema = SCHEMA) -> None:
        """Open or create the file; raises as `open_database`."""
        self.path = path
        self._one_at_a_time = threading.RLock()
        self._copying = threading.Lock()
        self._closing = False
        self._db = open_database(path, schema)

    def close(self) -> None:
        """Close the file; nothing is pending, because every transaction was committed. A copy is given up."""
        self._closing = True
        with self._copying, self._one_at_a_time:
            self._db.close()

    def copy_to(self, target: Path) -> None:
        """Fill the empty file `target` with the ledger as it stands at one moment; others write meanwhile.

        SQLite copies some pages at a time, waits for a transaction under way, and takes up what is written
        in between. The copy holds the epochs' secrets.

        Raises:
            LedgerError: it could not be made whole: a full disk, or the ledger is being closed.

        """
        with self._copying, named_errors(target, "the copy was not made"):
            if self._closing:
                raise LedgerError(f"{self.path} is being closed: no copy is made")
            with closing(sqlite3.connect(target, isolation_level=None)) as copy:
                self._db.backup(copy, pages=COPY_PAGES, progress=self._go_on, sleep=COPY_WAIT_S)

    def _go_on(self, _status: int, _remaining: int, _total: int) -> None:
        if self._closing:
            raise LedgerError(f"{self.path} is being closed: the copy was given up")

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


def open_database(path: Path, schema: Schema = SCHEMA) -> sqlite3.Connection:
    """Open the ledger at `path`, or create it; the caller owns the lock until it closes the connection.

    A file of an earlier version is taken forward.

    Raises:
        LedgerLocked: another process has it.
        LedgerCorrupt: it is not a ledger, of another schema version, or damaged; it is left as it was.
        LedgerError: it cannot be created or opened: the folder, the disk, the permissions.

    """
    try:
        make_folder(path.parent)
        if not path.exists():
            _create(path, schema)
        _look(path, schema)
    except OSError as error:
        raise LedgerError(f"cannot open {path}: {error.strerror}") from error
    with named_errors(path, "cannot open it"):
        db = sqlite3.connect(path, isolation_level=None, timeout=LOCK_WAIT_S, check_same_thread=False)
    try:
        with named_errors(path, "cannot open it"):
            _take(db)
            _take_forward(db, path, schema)
            with closing(schema.blank()) as blank:
                if read_tables(db) != read_tables(blank):
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


def _create(path: Path, schema: Schema) -> None:
    """Link a complete, empty ledger to `path`, unless the name is taken by now."""
    journal = path.with_name(f"{path.name}-wal")
    if journal.exists():
        raise LedgerCorrupt(f"{path} is missing, but its journal {journal.name} is there", hint=_UNTOUCHED)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file, closing(schema.blank()) as blank:
            file.write(blank.serialize())
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(temporary)
    finally:
        Path(temporary).unlink()
    sync_folder(path.parent)


def _take_forward(db: sqlite3.Connection, path: Path, schema: Schema) -> None:
    """Take every step that the file has not gone yet, or none."""
    version = read_pragma(db, "user_version")
    _check_version(path, version, schema)  # beside a journal, what was looked at was an older header
    if version < schema.version:
        with transaction(db):
            schema.go_steps(db)
        log.info("%s was taken from schema %d to %d", path, version, schema.version)


def _look(path: Path, schema: Schema) -> None:
    """Refuse what is not a ledger, or none of a version that is known, without changing a byte."""
    if path.is_file() and path.stat().st_size == 0:
        raise LedgerCorrupt(f"{path} is empty; a ledger never is", hint=_UNTOUCHED)
    application, version = _identity(path)
    if application != APPLICATION_ID:
        raise LedgerCorrupt(
            f"{path} is an SQLite file of another program: application id {application:#x}, "
            f"expected {APPLICATION_ID:#x}",
            hint=_UNTOUCHED,
        )
    _check_version(path, version, schema)


def _check_version(path: Path, version: int, schema: Schema) -> None:
    if not FIRST_VERSION <= version <= schema.version:
        known = f"{FIRST_VERSION} to {schema.version}" if schema.steps else f"{schema.version}"
        raise LedgerCorrupt(
            f"{path}: schema version {version}, this program knows {known}",
            hint=_OLD if version < FIRST_VERSION else _NEWER,
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
        return read_pragma(db, "application_id"), read_pragma(db, "user_version")


def _take(db: sqlite3.Connection) -> None:
    """Take the lock for as long as the connection lives."""
    db.execute("PRAGMA locking_mode=EXCLUSIVE")
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA foreign_keys=ON")
    db.execute("BEGIN EXCLUSIVE")
    db.execute("COMMIT")
