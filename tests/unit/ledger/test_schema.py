"""Files of every released schema open for ever; a step is whole or not at all; a copy is of one moment."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from perturbnet.errors import LedgerCorrupt, LedgerError
from perturbnet.ledger import LedgerStore, fold
from perturbnet.ledger import database as ledger_database
from perturbnet.ledger.leaves import CertificateLeaf, EpochLeaf, Leaf, SkipLeaf
from perturbnet.ledger.schema import FIRST_VERSION, SCHEMA, Schema
from perturbnet.ledger.snapshots import describe_state
from perturbnet.wire import canonical_json
from tests.support.ledger.samples import KINDS, SECRET, skip

GOLDEN = Path(__file__).parents[2] / "golden" / "ledger"
ROOTS = {2: "e34057d146cf2c240fce185aacb5f3276a6e1569e704a967fad90397f14d448b"}
STATES = {2: "7ccda44a5e28d76aedc133909117d87d2a9db42ff53a8e4f5d30684bde547200"}
LATER: dict[int, set[type[Leaf]]] = {2: {CertificateLeaf}}  # kinds that came after the file
NEXT = Schema(
    (
        *SCHEMA.steps,
        (
            "ALTER TABLE anchors ADD COLUMN seen_ms INTEGER NOT NULL DEFAULT 0",
            "CREATE TABLE notes (number INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT",
            "INSERT INTO notes SELECT number, 'anchored at ' || block FROM anchors",
        ),
    )
)


def taken(tmp_path: Path, version: int = SCHEMA.version) -> Path:
    """A copy of the golden file of a schema."""
    path = tmp_path / "ledger.sqlite"
    shutil.copy(GOLDEN / f"schema-{version}.sqlite", path)
    return path


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def test_every_schema_that_was_released_has_its_golden_file() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {
        f"schema-{version}.sqlite" for version in range(FIRST_VERSION, SCHEMA.version + 1)
    }


@pytest.mark.parametrize("schema", [SCHEMA, NEXT], ids=["as it is", "taken forward"])
@pytest.mark.parametrize("version", sorted(ROOTS))
def test_a_file_of_a_released_schema_opens_with_all_that_it_holds(
    version: int, schema: Schema, tmp_path: Path
) -> None:
    path = taken(tmp_path, version)
    with LedgerStore(path, schema) as store:
        store.verify()
        entries = list(store.entries())
        assert store.root().hex() == ROOTS[version]
        assert canonical_json.digest(describe_state(fold(entries))) == STATES[version]
        assert {type(entry.leaf) for entry in entries} == set(KINDS) - LATER[version]
        secrets = [store.secret_of(entry.position) for entry in entries if isinstance(entry.leaf, EpochLeaf)]
        assert secrets == [SECRET]
        assert store.bodies() == {"cd" * 32}
        assert store.deltas() == {"ab" * 32}
        assert store.anchors() == [(77, b"an anchor"), (100, b"the newest anchor")]
    assert version_of(path) == schema.version


def test_an_old_file_and_a_new_one_are_the_same_to_the_letter(tmp_path: Path) -> None:
    old = taken(tmp_path)
    LedgerStore(old, NEXT).close()
    LedgerStore(tmp_path / "new.sqlite", NEXT).close()
    described = []
    for path in (old, tmp_path / "new.sqlite"):
        with closing(sqlite3.connect(path)) as db:
            described.append(db.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall())
    assert described[0] == described[1]
    with closing(sqlite3.connect(old)) as db:
        rows = db.execute("SELECT text FROM notes ORDER BY number").fetchall()
    assert rows == [("anchored at 77",), ("anchored at 100",)]


def test_a_file_that_was_taken_forward_goes_on(tmp_path: Path) -> None:
    path = taken(tmp_path)
    with LedgerStore(path, NEXT) as store:
        store.append([skip(1)])
    with LedgerStore(path, NEXT) as store:
        store.verify()
        assert [entry.leaf for entry in store.entries(store.size - 1)] == [skip(1)]


def test_a_step_that_fails_in_the_middle_changes_nothing(tmp_path: Path) -> None:
    path = taken(tmp_path)
    broken = Schema((*SCHEMA.steps, (NEXT.steps[-1][0], "CREATE TABLE leaves (x INTEGER) STRICT")))
    with pytest.raises(LedgerError, match="leaves already exists"):
        LedgerStore(path, broken)
    assert version_of(path) == SCHEMA.version
    with LedgerStore(path) as store:
        store.verify()
        assert store.root().hex() == ROOTS[SCHEMA.version]


def test_there_is_no_way_back(tmp_path: Path) -> None:
    path = taken(tmp_path)
    LedgerStore(path, NEXT).close()
    before = path.read_bytes()
    with pytest.raises(LedgerCorrupt, match=f"schema version {NEXT.version}, this program knows 2") as caught:
        LedgerStore(path)
    assert "a newer release has written it" in caught.value.hint
    assert path.read_bytes() == before


def test_what_came_before_the_first_release_is_not_taken_forward(tmp_path: Path) -> None:
    path = taken(tmp_path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version=1")
    with pytest.raises(LedgerCorrupt, match="schema version 1, this program knows 2 to 3"):
        LedgerStore(path, NEXT)


def test_a_copy_is_of_one_moment_while_others_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_database, "COPY_PAGES", 1)
    with LedgerStore(tmp_path / "ledger.sqlite") as store:
        store.append([SkipLeaf(0, number, number, "r" * 2000) for number in range(300)])
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                store.append([skip(store.size), skip(store.size)])

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for number in range(3):
                store.copy_to(tmp_path / f"copy-{number}.sqlite")
        finally:
            stop.set()
            writer.join()
        hashes = [entry.hash for entry in store.entries()]
    for number in range(3):
        with LedgerStore(tmp_path / f"copy-{number}.sqlite") as copy:
            copy.verify()
            assert copy.size % 2 == 0, "a transaction is half there"
            assert [entry.hash for entry in copy.entries()] == hashes[: copy.size]


def test_a_ledger_that_is_closed_gives_up_its_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_database, "COPY_PAGES", 1)
    store = LedgerStore(tmp_path / "ledger.sqlite")
    store.append([SkipLeaf(0, number, number, "r" * 2000) for number in range(300)])
    go_on = store._go_on

    def close_meanwhile(*pages: int) -> None:
        store._closing = True
        go_on(*pages)

    monkeypatch.setattr(store, "_go_on", close_meanwhile)
    with pytest.raises(LedgerError, match="the copy was given up"):
        store.copy_to(tmp_path / "copy.sqlite")
    store.close()
    with pytest.raises(LedgerError, match="no copy is made"):
        store.copy_to(tmp_path / "copy.sqlite")
