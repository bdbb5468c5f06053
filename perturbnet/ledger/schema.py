"""What a ledger's file looks like: the tables of the first release, and the steps since.

Rules
- What is released never changes. A change of the tables is one more step at the end of `SCHEMA`, and a test
  opens a file of every version for ever (tests/golden/ledger).
- A new file goes through the same steps as an old one, so both are the same to the letter.
- There is no way back: a release that is older refuses the file by its version.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

FIRST_VERSION = 2  # of the first release; what came before was never signed
APPLICATION_ID = 0x50525442  # "PRTB"
_TABLES = f"""
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
PRAGMA user_version={FIRST_VERSION};
"""


@dataclass(frozen=True)
class Schema:
    """The first release's tables, and steps: each is the statements that make the next version."""

    steps: tuple[tuple[str, ...], ...] = ()

    @property
    def version(self) -> int:
        """The version that the last step leads to."""
        return FIRST_VERSION + len(self.steps)

    def blank(self) -> sqlite3.Connection:
        """An empty ledger in memory; the caller closes it."""
        db = sqlite3.connect(":memory:", isolation_level=None)
        db.executescript(_TABLES)
        self.go_steps(db)
        return db

    def go_steps(self, db: sqlite3.Connection) -> None:
        """Take the steps that the file has not gone yet; the transaction is the caller's."""
        version = read_pragma(db, "user_version")
        for number, step in enumerate(self.steps[version - FIRST_VERSION :], start=version + 1):
            for statement in step:
                db.execute(statement)
            db.execute(f"PRAGMA user_version={number}")


def read_pragma(db: sqlite3.Connection, name: str) -> int:
    """A pragma that is a number."""
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def read_tables(db: sqlite3.Connection) -> list[tuple[str, str]]:
    """Every table and trigger, as it was created."""
    return db.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()


SCHEMA = Schema()
