"""The file: what it holds comes back, is never changed, and belongs to one process."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from perturbnet.errors import LedgerCorrupt, LedgerError, LedgerLocked
from perturbnet.ledger import ArrivalRow, LedgerStore, fold
from perturbnet.ledger.leaves import SkipLeaf
from perturbnet.ledger.schema import APPLICATION_ID
from tests.support.ledger.samples import SECRET, epoch, plain, random_log, skip


def arrival(challenge: int, uid: int, *, body: str = "", reject: str = "ok") -> ArrivalRow:
    return ArrivalRow(challenge, uid, f"hotkey {uid}", reject, body, "1", "aa", 12)


# What is written


def test_leaves_come_back_after_reopening(path: Path) -> None:
    log = random_log(seed=1, length=60)
    leaves = [entry.leaf for entry in log.entries]
    with LedgerStore(path) as store:
        assert store.append(leaves[:20]) == log.entries[:20]
        assert store.append([]) == []
        store.append(leaves[20:])
        assert store.size == 60
    with LedgerStore(path) as store:
        assert store.size == 60
        assert list(store.entries()) == log.entries
        assert list(store.entries(50)) == log.entries[50:]
        assert list(store.entries(60)) == []
        assert fold(store.entries()) == log.state


def test_more_leaves_than_a_page_of_reading(path: Path) -> None:
    with LedgerStore(path) as store:
        store.append([skip(number) for number in range(1100)])
        found = [entry.leaf for entry in store.entries(3)]
    assert found == [skip(number) for number in range(3, 1100)]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE leaves SET body = x'00'",
        "UPDATE leaves SET hash = x''",
        "UPDATE leaves SET position = 900 WHERE position = 1",
        "DELETE FROM leaves",
        "DELETE FROM leaves WHERE position = 199",
    ],
)
def test_leaves_never_change(filled: Path, statement: str) -> None:
    with LedgerStore(filled) as store:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            store._db.execute(statement)
        assert len(list(store.entries())) == 200


def test_column_of_another_type_refused(filled: Path) -> None:
    with LedgerStore(filled) as store, pytest.raises(sqlite3.IntegrityError, match="cannot store TEXT"):
        store._db.execute("INSERT INTO leaves VALUES (200, 'skip', 'text', '')")


def test_durable_and_alone(path: Path) -> None:
    with LedgerStore(path) as store:
        pragmas = [
            store._db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "locking_mode")
        ]
    assert pragmas == ["wal", 2, "exclusive"]


def test_nobody_else_may_read_the_secrets(path: Path) -> None:
    LedgerStore(path).close()
    assert path.stat().st_mode & 0o077 == 0


def test_secret_is_written_with_its_epoch(path: Path) -> None:
    with LedgerStore(path) as store:
        store.append([skip(0)])
        entry = store.append_epoch(epoch(), SECRET)
        assert entry.position == 1
    with LedgerStore(path) as store:
        assert store.secret_of(1) == SECRET
        assert store.size == 2
        with pytest.raises(LedgerCorrupt, match="secret of the epoch at leaf 0 is missing"):
            store.secret_of(0)


def test_epoch_whose_secret_cannot_be_written_is_not_there(path: Path) -> None:
    with LedgerStore(path) as store:
        with pytest.raises(LedgerError, match="nothing was recorded"):
            store.append_epoch(epoch(), "text")  # type: ignore[arg-type]  # STRICT refuses it
        assert store.size == 0
        assert list(store.entries()) == []
        assert store.append_epoch(epoch(), SECRET).position == 0


def test_append_is_all_or_nothing(path: Path) -> None:
    with LedgerStore(path) as store:
        with pytest.raises(LedgerError, match="draw is True"):
            store.append([skip(0), plain(SkipLeaf, draw=True)])
        assert store.size == 0
        assert [entry.position for entry in store.append([skip(1)])] == [0]
    with LedgerStore(path) as store:
        assert [entry.leaf for entry in store.entries()] == [skip(1)]


def test_first_note_of_a_miner_counts(filled: Path) -> None:
    with LedgerStore(filled) as store:
        for row in (arrival(5, 2, reject="timeout"), arrival(5, 1), arrival(5, 2), arrival(6, 2)):
            store.note_arrival(row)
    with LedgerStore(filled) as store:
        assert store.arrivals(5) == [arrival(5, 1), arrival(5, 2, reject="timeout")]
        assert store.arrivals(6) == [arrival(6, 2)]
        assert store.arrivals(7) == []


def test_note_without_its_challenge_refused(filled: Path) -> None:
    with LedgerStore(filled) as store:
        with pytest.raises(LedgerError, match=r"nothing was recorded.*FOREIGN KEY"):
            store.note_arrival(arrival(200, 1))
        with pytest.raises(LedgerError, match="cannot store TEXT"):
            store.note_arrival(ArrivalRow(5, 1, "", "", "", "", "", "soon"))  # type: ignore[arg-type]
        assert store.arrivals(5) == []


def test_threads_may_share_a_store(path: Path) -> None:
    failures: list[LedgerError | sqlite3.Error] = []

    def work(number: int) -> None:
        try:
            for uid in range(20):
                store.note_arrival(arrival(0, number * 100 + uid))
                store.append([skip(uid)])
                store.arrivals(0)
        except (LedgerError, sqlite3.Error) as error:
            failures.append(error)

    with LedgerStore(path) as store:
        store.append([skip(0)])
        threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert len(store.arrivals(0)) == 80
        assert len(list(store.entries())) == store.size == 81


def test_closed_store_says_so(path: Path) -> None:
    store = LedgerStore(path)
    store.close()
    store.close()
    for use in (lambda: store.append([skip(0)]), lambda: list(store.entries()), lambda: store.arrivals(0)):
        with pytest.raises(LedgerError, match="closed"):
            use()


# One process

_HOLD = """
import sys
from pathlib import Path
from perturbnet.ledger import LedgerStore
store = LedgerStore(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


def test_second_process_is_told(filled: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(filled)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        for _ in range(2):  # looking at the file must not take its lock away
            with pytest.raises(LedgerLocked, match="in use by another process"):
                LedgerStore(filled)
        holder.communicate("")
    assert holder.returncode == 0
    LedgerStore(filled).close()


def test_second_store_in_one_process_is_told(filled: Path) -> None:
    with LedgerStore(filled):
        with pytest.raises(LedgerLocked):
            LedgerStore(filled)
        told = subprocess.run(
            [sys.executable, "-c", _HOLD, str(filled)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        assert b"LedgerLocked" in told.stderr, "the refused attempt dropped the first one's lock"
    LedgerStore(filled).close()


def test_application_id_is_on_the_disk(path: Path) -> None:
    LedgerStore(path).close()
    assert path.read_bytes()[68:72] == APPLICATION_ID.to_bytes(4, "big") == b"PRTB"
