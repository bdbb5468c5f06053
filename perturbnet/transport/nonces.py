"""Nonces that were accepted, remembered across restarts, so that no signed request is taken twice.

A nonce is the sender's wall time in nanoseconds; requests older than the freshness window are refused before
this file is asked. It therefore need only hold the last window, and forgets what is older.

Rules
- `check_and_store` is one transaction: it says yes once per (hotkey, nonce), whatever is killed when.
- What is forgotten stays refused: the horizon, the newest time that was forgotten, is kept, and nothing at or
  before it is accepted. So a clock that is set back does not make old requests fresh again.
- A file that is damaged or not ours is refused with a sentence, never reset. A new file is made aside and
  renamed, so an empty file is damage too.
- SQLite in WAL mode, `synchronous=NORMAL`: no fsync for each request, no damage after a power cut. What a
  power cut may lose is younger than the reboot takes. `locking_mode=EXCLUSIVE`: one connection, one process
  (WAL with two connections had a bug from 3.7.0 to 3.51.2).

Source: `bittensor.http_auth.NonceStore` (the protocol implemented here); https://www.sqlite.org/pragma.html.
"""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from perturbnet.errors import TransportError
from perturbnet.runtime.clock import Clock, SystemClock

_APPLICATION_ID = 0x50_4E_4F_4E  # "PNON"
_SCHEMA = """
CREATE TABLE nonce (
    hotkey TEXT NOT NULL, nonce_ns INTEGER NOT NULL, PRIMARY KEY (hotkey, nonce_ns)
) STRICT, WITHOUT ROWID;
CREATE TABLE horizon (one INTEGER PRIMARY KEY CHECK (one = 1), nonce_ns INTEGER NOT NULL) STRICT;
INSERT INTO horizon VALUES (1, 0);
"""


class NonceFileCorrupt(TransportError):
    """The nonce file is damaged, is not a nonce file, or comes from a later time than now."""

    exit_code = 3


class NonceFileLocked(TransportError):
    """Another process uses the nonce file."""

    exit_code = 3


class NonceStore:
    """Accepted (hotkey, nonce) pairs in one SQLite file. Thread-safe; one process."""

    def __init__(self, path: Path, *, retention_s: float = 60.0, clock: Clock | None = None) -> None:
        """Open the file, or make it.

        Args:
            path: the file; its folder exists.
            retention_s: for how long a nonce is kept; at least the freshness window, both sides of now.
            clock: wall time.

        Raises:
            NonceFileCorrupt: damaged, foreign, or from the future; nothing was changed.
            NonceFileLocked: in use.
            TransportError: cannot be written.

        """
        self.path, self.retention_s = path, retention_s
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._connection = self._open()
        try:
            self._horizon_ns = self._read_horizon()
        except BaseException:
            self._connection.close()
            raise
        self._purged_ns = self._clock.time_ns()

    def check_and_store(self, hotkey_ss58: str, nonce_ns: int) -> bool:
        """Return True, and remember the pair, if it was never accepted; False if it was, or may have been.

        Raises:
            TransportError: the file cannot be written, or the clock was set back; accept nothing.

        """
        with self._lock:
            try:
                self._forget()
                if self._horizon_ns > self._clock.time_ns():
                    raise self._corrupt("this machine's clock was set back")
                if nonce_ns <= self._horizon_ns:
                    return False
                found = self._connection.execute(
                    "INSERT INTO nonce VALUES (?, ?) ON CONFLICT DO NOTHING", (hotkey_ss58, nonce_ns)
                )
            except sqlite3.Error as error:
                raise TransportError(f"nonce file {self.path}: {error}") from error
            return found.rowcount == 1

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def __len__(self) -> int:
        with self._lock:
            return int(self._connection.execute("SELECT count(*) FROM nonce").fetchone()[0])

    def _open(self) -> sqlite3.Connection:
        try:
            if not self.path.exists():
                _create(self.path)
            connection = sqlite3.connect(self.path, isolation_level=None, timeout=2, check_same_thread=False)
        except (sqlite3.Error, OSError) as error:
            raise TransportError(f"nonce file {self.path}: {error}") from error
        try:
            _prepare(connection)
        except sqlite3.DatabaseError as error:
            connection.close()
            if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
                raise NonceFileLocked(f"nonce file {self.path} is in use by another process") from error
            raise self._corrupt(str(error)) from error
        return connection

    def _read_horizon(self) -> int:
        newest = (
            "SELECT max(nonce_ns) FROM (SELECT nonce_ns FROM horizon UNION ALL SELECT nonce_ns FROM nonce)"
        )
        rows = self._connection.execute("SELECT nonce_ns FROM horizon").fetchall()
        if len(rows) != 1:
            raise self._corrupt("the horizon is missing")
        ahead_s = (int(self._connection.execute(newest).fetchone()[0]) - self._clock.time_ns()) / 1e9
        if ahead_s > self.retention_s:
            raise self._corrupt(
                f"it holds a nonce from {ahead_s:.0f} s in the future: this machine's clock was set back"
            )
        return int(rows[0][0])

    def _corrupt(self, why: str) -> NonceFileCorrupt:
        hint = (
            f"It protects from replayed requests and is needed for {self.retention_s:.0f} s only: check the "
            f"clock, wait that long with the miner stopped, then move {self.path} aside (with its -wal file) "
            "and start again."
        )
        return NonceFileCorrupt(f"nonce file {self.path} is refused: {why}", hint=hint)

    def _forget(self) -> None:
        """Drop what is older than the retention, and move the horizon; at most four times per retention."""
        now_ns = self._clock.time_ns()
        retention_ns = int(self.retention_s * 1e9)
        if abs(now_ns - self._purged_ns) < retention_ns // 4:
            return
        horizon_ns = max(self._horizon_ns, now_ns - retention_ns)
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.execute("DELETE FROM nonce WHERE nonce_ns <= ?", (horizon_ns,))
            self._connection.execute("UPDATE horizon SET nonce_ns = ?", (horizon_ns,))
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            self._connection.execute("ROLLBACK")
            raise
        self._horizon_ns, self._purged_ns = horizon_ns, now_ns


def _create(path: Path) -> None:
    aside = path.with_name(path.name + ".new")
    aside.unlink(missing_ok=True)
    connection = sqlite3.connect(aside, isolation_level=None)
    try:
        connection.executescript(_SCHEMA)
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    finally:
        connection.close()
    aside.chmod(0o600)
    aside.rename(path)


def _prepare(connection: sqlite3.Connection) -> None:
    """Take the file for this process alone and check it whole. Raises `sqlite3.DatabaseError`."""
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
        raise sqlite3.DatabaseError("it is not a nonce file")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("COMMIT")
    verdict = connection.execute("PRAGMA quick_check").fetchone()[0]
    if verdict != "ok":
        raise sqlite3.DatabaseError(str(verdict))
