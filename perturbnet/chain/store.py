"""The local chain's file: one SQLite database that several processes share.

Rules
- Rollback journal with `synchronous=FULL`; never WAL (a reset bug with two connections, 3.7.0 to 3.51.2).
- One connection per transaction and transactions of milliseconds, so no process holds the file while it
  thinks.
- Writers take the lock first (`BEGIN IMMEDIATE`) and wait for it at most `BUSY_S`.
- The block number follows wall time from genesis and never goes back, whatever the clock does. A file whose
  block time is 0 is advanced by hand, for tests.
- A file that is damaged, foreign or of another version is refused by name; nothing is repaired or reset.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perturbnet.chain.rules import ChainRules, RegisteredHotkey, Row, parse_rules
from perturbnet.errors import ChainError, ChainUnavailable, ConfigError
from perturbnet.runtime.clock import Clock
from perturbnet.wire import canonical_json

APPLICATION_ID = 0x50425443  # "PBTC", where `file` and a stranger look first
VERSION = 1
BUSY_S = 5.0
MAX_BLOCK_TIME_MS = 3_600_000

_SCHEMA = """
CREATE TABLE chain (id INTEGER PRIMARY KEY CHECK (id = 1), identity TEXT NOT NULL, netuid INTEGER NOT NULL,
    genesis_ns INTEGER NOT NULL, block_time_ms INTEGER NOT NULL, rules TEXT NOT NULL, block INTEGER NOT NULL,
    settled_epoch INTEGER NOT NULL) STRICT;
CREATE TABLE neuron (uid INTEGER PRIMARY KEY, hotkey TEXT NOT NULL UNIQUE, coldkey TEXT NOT NULL,
    stake_rao INTEGER NOT NULL, permit INTEGER NOT NULL, last_update INTEGER NOT NULL,
    registered_block INTEGER NOT NULL, emission_ppb INTEGER NOT NULL) STRICT;
CREATE TABLE axon (hotkey TEXT PRIMARY KEY, ip TEXT NOT NULL, port INTEGER NOT NULL,
    block INTEGER NOT NULL) STRICT;
CREATE TABLE weight (uid INTEGER PRIMARY KEY, pairs TEXT NOT NULL) STRICT;
CREATE TABLE sealed (id INTEGER PRIMARY KEY, hotkey TEXT NOT NULL, block INTEGER NOT NULL,
    epoch INTEGER NOT NULL, pairs TEXT NOT NULL, version_key INTEGER NOT NULL) STRICT;
CREATE TABLE commitment (hotkey TEXT PRIMARY KEY, block INTEGER NOT NULL, fields TEXT NOT NULL,
    epoch INTEGER NOT NULL, used_bytes INTEGER NOT NULL) STRICT;
CREATE TABLE extrinsic (id INTEGER PRIMARY KEY, block INTEGER NOT NULL, hotkey TEXT NOT NULL,
    nonce INTEGER NOT NULL, call TEXT NOT NULL, payload_sha256 TEXT NOT NULL, signature BLOB NOT NULL,
    UNIQUE (hotkey, nonce)) STRICT;
"""


class ChainFileCorrupt(ChainError):
    """The file is not a local chain, is damaged, or is of another version."""

    exit_code = 3


@dataclass(frozen=True)
class ChainSettings:
    """What a chain file was created with. `block_time_ms` 0 means that blocks are made by hand."""

    identity: str
    netuid: int
    genesis_ns: int
    block_time_ms: int
    rules: ChainRules


@dataclass(frozen=True)
class Transaction:
    """An open transaction at one block."""

    sql: sqlite3.Connection
    settings: ChainSettings
    block: int
    settled_epoch: int

    def members(self) -> list[RegisteredHotkey]:
        """Every registered neuron, by uid."""
        names = "uid, hotkey, coldkey, stake_rao, permit, last_update, registered_block, emission_ppb"
        found = self.sql.execute(f"SELECT {names} FROM neuron ORDER BY uid")  # noqa: S608 - a constant
        return [
            RegisteredHotkey(uid, hotkey, coldkey, stake, bool(permit), updated, registered, emission)
            for uid, hotkey, coldkey, stake, permit, updated, registered, emission in found
        ]

    def put_members(self, members: list[RegisteredHotkey]) -> None:
        """Write neurons back, each at its uid."""
        rows = [tuple(asdict(member).values()) for member in members]
        self.sql.executemany("INSERT OR REPLACE INTO neuron VALUES (?,?,?,?,?,?,?,?)", rows)

    def rows(self) -> dict[int, Row]:
        """Every revealed row of weights, by validator uid."""
        return {uid: decode_row(pairs) for uid, pairs in self.sql.execute("SELECT uid, pairs FROM weight")}

    def put_row(self, uid: int, row: Row) -> None:
        """Replace one validator's row."""
        self.sql.execute("INSERT OR REPLACE INTO weight VALUES (?, ?)", (uid, encode_row(row)))

    def one(self, query: str, *values: object) -> Any:
        """The first row of a query, or None."""
        return self.sql.execute(query, values).fetchone()


def encode_row(row: Row) -> str:
    """A row of weights as canonical JSON."""
    return canonical_json.encode([list(pair) for pair in row]).decode()


def decode_row(text: str) -> Row:
    """Read `encode_row` back."""
    pairs: Any = canonical_json.decode(text.encode())
    return tuple((int(uid), int(value)) for uid, value in pairs)


class ChainFile:
    """A local chain's file, opened anew for each transaction; safe to use from any thread or process."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Open an existing file.

        Raises:
            ChainUnavailable: there is none.
            ChainFileCorrupt: it is not a local chain, damaged or of another version.

        """
        self.path, self._clock = Path(path), clock
        with self.transaction(write=False) as tx:
            self.settings = tx.settings

    @classmethod
    def create(
        cls, path: Path, clock: Clock, *, netuid: int, rules: ChainRules, block_time_ms: int
    ) -> ChainFile:
        """Create the file, at block 0.

        Raises:
            ConfigError: netuid or block time out of range.
            ChainError: a file is there already, or cannot be written.

        """
        if not 0 <= netuid <= 65535:
            raise ConfigError("netuid", netuid, "0 to 65535")
        if not 0 <= block_time_ms <= MAX_BLOCK_TIME_MS:
            raise ConfigError("block_time_ms", block_time_ms, f"0 to {MAX_BLOCK_TIME_MS}")
        path = Path(path)
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        values = (
            secrets.token_hex(16),
            netuid,
            clock.time_ns(),
            block_time_ms,
            canonical_json.encode(asdict(rules)).decode(),
        )
        try:
            _write_schema(partial, values)
            path.hardlink_to(partial)  # fails if the name is taken, and never shows half a chain
        except (OSError, sqlite3.Error) as error:
            raise ChainError(
                f"{path} cannot be created: {error}", hint="remove it, or choose another path"
            ) from None
        finally:
            partial.unlink(missing_ok=True)
        return cls(path, clock)

    @contextmanager
    def transaction(self, *, write: bool) -> Iterator[Transaction]:
        """Run one transaction; an exception undoes it.

        Raises:
            ChainUnavailable: no file, or another process kept the lock for `BUSY_S` seconds.
            ChainFileCorrupt: the file is not what this code wrote.

        """
        if not self.path.is_file():
            raise ChainUnavailable(f"no local chain at {self.path}", hint="perturb localnet creates one")
        try:
            with closing(self._connect()) as sql:
                sql.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                yield self._begin(sql)
                sql.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                raise ChainUnavailable(
                    f"{self.path} was locked for {BUSY_S:g} s by another process"
                ) from None
            raise ChainFileCorrupt(f"{self.path}: {error}", hint="make a new one: perturb localnet") from None
        except sqlite3.DatabaseError as error:
            raise ChainFileCorrupt(f"{self.path}: {error}", hint="make a new one: perturb localnet") from None

    def _connect(self) -> sqlite3.Connection:
        sql = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None)
        try:
            sql.execute("PRAGMA synchronous = FULL")
            mode = sql.execute("PRAGMA journal_mode").fetchone()[0]
            owner = sql.execute("PRAGMA application_id").fetchone()[0]
            version = sql.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.Error:
            sql.close()
            raise
        if (mode, owner, version) != ("delete", APPLICATION_ID, VERSION):
            sql.close()
            found = f"application {owner:#x}, version {version}, journal {mode}"
            text = f"{self.path} is not a local chain of version {VERSION}: {found}"
            raise ChainFileCorrupt(text, hint="make a new one: perturb localnet")
        return sql

    def _begin(self, sql: sqlite3.Connection) -> Transaction:
        head = sql.execute(
            "SELECT identity, netuid, genesis_ns, block_time_ms, rules, block, settled_epoch FROM chain"
        )
        row = head.fetchone()
        if row is None:
            raise ChainFileCorrupt(f"{self.path}: the chain's own record is missing")
        try:
            values: Any = canonical_json.decode(row[4].encode())
        except canonical_json.NotCanonical as error:
            raise ChainFileCorrupt(f"{self.path}: rules: {error.message}") from None
        if not isinstance(values, dict):
            raise ChainFileCorrupt(f"{self.path}: rules are not an object")
        rules = parse_rules(values, lambda text: ChainFileCorrupt(f"{self.path}: {text}"))
        settings = ChainSettings(row[0], row[1], row[2], row[3], rules)
        return Transaction(sql, settings, max(row[5], self._elapsed(settings)), row[6])

    def _elapsed(self, settings: ChainSettings) -> int:
        if settings.block_time_ms == 0:
            return 0
        return max(0, self._clock.time_ns() - settings.genesis_ns) // (settings.block_time_ms * 1_000_000)


def _write_schema(path: Path, values: tuple[object, ...]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as sql:
        sql.execute("PRAGMA journal_mode = DELETE")
        sql.executescript(
            f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; {_SCHEMA}"
        )
        sql.execute("INSERT INTO chain VALUES (1, ?, ?, ?, ?, ?, 0, 0)", values)
