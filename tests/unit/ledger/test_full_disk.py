"""A disk that is full or fails: nothing half-written, a named error, and the store goes on later."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from perturbnet.errors import LedgerError
from perturbnet.ledger import LedgerStore
from perturbnet.ledger.leaves import SkipLeaf
from tests.support.ledger.samples import skip


def test_full_disk_records_nothing_and_the_store_goes_on(filled: Path) -> None:
    with LedgerStore(filled) as store:
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count={pages}")
        for _ in range(3):
            with pytest.raises(LedgerError, match=r"nothing was recorded.*full"):
                store.append([skip(number, "reason " * 50) for number in range(100)])
        assert store.size == len(list(store.entries())) == 200
        store._db.execute(f"PRAGMA max_page_count={pages * 10}")
        assert store.append([skip(0)])[0].position == 200
    with LedgerStore(filled) as store:
        assert [entry.leaf for entry in store.entries(200)] == [skip(0)]


_LIMITED = """
import resource, sys
from pathlib import Path
from perturbnet.errors import LedgerError
from perturbnet.ledger import LedgerStore
from perturbnet.ledger.leaves import SkipLeaf
store = LedgerStore(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
refused = 0
while refused < 5:
    try:
        print(store.append([SkipLeaf(0, 0, 0, "r" * 3000)])[0].position, flush=True)
    except LedgerError as error:
        assert "nothing was recorded" in error.message, error
        refused += 1
assert len(list(store.entries())) == store.size
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(store.append([SkipLeaf(0, 0, 0, "room again")])[0].position, flush=True)
"""


def test_file_that_cannot_grow(filled: Path) -> None:
    """The system call itself fails (EFBIG), as on a disk that is full."""
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(filled)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    acknowledged = [int(line) for line in done.stdout.split()]
    assert len(acknowledged) > 5
    assert acknowledged == list(range(200, 200 + len(acknowledged)))
    with LedgerStore(filled) as store:
        leaves = [entry.leaf for entry in store.entries()]
    assert len(leaves) == 200 + len(acknowledged)
    assert leaves[-1] == SkipLeaf(0, 0, 0, "room again")


class _FailingCommit:
    """A connection whose COMMIT fails so many times, as when the disk's last flush does."""

    def __init__(self, db: sqlite3.Connection, failures: int) -> None:
        self.db, self.failures = db, failures

    @property
    def in_transaction(self) -> bool:
        return self.db.in_transaction

    def close(self) -> None:
        self.db.close()

    def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        if statement == "COMMIT" and self.failures:
            self.failures -= 1
            raise sqlite3.OperationalError("disk I/O error")
        return self.db.execute(statement, *values)  # type: ignore[arg-type]

    def executemany(self, statement: str, values: Iterable[Sequence[object]]) -> sqlite3.Cursor:
        return self.db.executemany(statement, values)


def test_commit_that_fails_records_nothing(path: Path) -> None:
    with LedgerStore(path) as store:
        store._db = _FailingCommit(store._db, 1)  # type: ignore[assignment]
        with pytest.raises(LedgerError, match="disk I/O error"):
            store.append([skip(0)])
        assert store.size == 0
        assert list(store.entries()) == []
        assert store.append([skip(1)])[0].position == 0
    with LedgerStore(path) as store:
        assert [entry.leaf for entry in store.entries()] == [skip(1)]
