"""What is not what was written is refused by name, and every byte stays as it was."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from perturbnet.errors import LedgerCorrupt, LedgerError
from perturbnet.ledger import LedgerStore, leaf_hash
from tests.support.ledger.samples import skip

Damage = Callable[[Path], None]


def contents(path: Path) -> dict[str, bytes]:
    return {found.name: found.read_bytes() for found in path.parent.iterdir()}


def alter(path: Path, *statements: str) -> None:
    """Change a closed ledger behind its back."""
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def read(path: Path) -> None:
    with LedgerStore(path) as store:
        list(store.entries())


def _foreign(path: Path) -> None:
    path.unlink()
    alter(path, "CREATE TABLE bookmarks (a)", "INSERT INTO bookmarks VALUES (5)")


def _foreign_empty(path: Path) -> None:
    path.unlink()
    alter(path, "PRAGMA user_version=1", "VACUUM")


def _text(path: Path) -> None:
    path.write_text("This is not a ledger.\n" * 400)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _cut_to(length: int) -> Damage:
    def cut(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:length])

    return cut


def _flip_in_body(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.rindex(b"reason reason") + 3] ^= 0x20
    path.write_bytes(data)


def _flip_in_hash(path: Path) -> None:
    with LedgerStore(path) as store:
        stored = bytes.fromhex(next(iter(store.entries(77))).hash)
    data = bytearray(path.read_bytes())
    data[data.index(stored)] ^= 0xFF
    path.write_bytes(data)


def _page_of_zeros(path: Path) -> None:
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 4096] = bytes(4096)
    path.write_bytes(data)


def _another_version(path: Path) -> None:
    alter(path, "PRAGMA user_version=3")


_NEVER_GO = """CREATE TRIGGER leaves_never_go BEFORE DELETE ON leaves
    BEGIN SELECT RAISE(ABORT, 'leaves are append-only'); END"""
_HEADS_NEVER_GO = _NEVER_GO.replace("leaves", "heads")
_NEVER_CHANGE = _NEVER_GO.replace("never_go", "never_change").replace("DELETE", "UPDATE")


def _altered(*statements: str) -> Damage:
    return lambda path: alter(path, *statements)


def _without(position: int) -> Damage:
    """By somebody who takes care to leave the schema as it was."""
    deletion = f"DELETE FROM leaves WHERE position = {position}"
    return _altered("DROP TRIGGER leaves_never_go", deletion, _NEVER_GO)


def _rewritten(change: str) -> Damage:
    rewriting = f"UPDATE leaves SET {change} WHERE position = 9"
    return _altered("DROP TRIGGER leaves_never_change", rewriting, _NEVER_CHANGE)


_misfiled = _rewritten("kind = 'epoch'")
_hashed_nonsense = _rewritten(f"body = x'7b7d', hash = x'{leaf_hash(b'{}')}'")


_DAMAGES: dict[str, tuple[Damage, str]] = {
    "another program": (_foreign, "another program"),
    "another program, empty": (_foreign_empty, "another program"),
    "text": (_text, "file is not a database"),
    "empty": (_empty, "is empty"),
    "cut in half": (_cut, "malformed"),
    "cut to 1": (_cut_to(1), "not a readable ledger|another program"),
    "cut to a header": (_cut_to(100), "not a readable ledger|another program"),
    "cut to 5000": (_cut_to(5000), "malformed"),
    "bit in a body": (_flip_in_body, "expected hash"),
    "byte in a hash": (_flip_in_hash, "leaf 77: expected hash"),
    "page of zeros": (_page_of_zeros, "malformed|missing"),
    "another version": (_another_version, "schema version 3, this program knows 2"),
    "first leaf gone": (_without(0), "leaf 0 is missing, the next is 1"),
    "leaf gone": (_without(100), "leaf 100 is missing, the next is 101"),
    "last leaf gone": (_without(199), "199 leaves, but its newest head is of 200"),
    "no head": (
        _altered("DROP TRIGGER heads_never_go", "DELETE FROM heads", _HEADS_NEVER_GO),
        "newest head is of 0",
    ),
    "filed as another kind": (_misfiled, "leaf 9: filed as 'epoch', but it is a skip leaf"),
    "hashed nonsense": (_hashed_nonsense, "leaf 9: unknown kind"),
    "no trigger": (_altered("DROP TRIGGER leaves_never_go"), "tables are not those"),
    "no arrivals": (_altered("DROP TABLE arrivals"), "tables are not those"),
    "another column": (_altered("ALTER TABLE secrets ADD COLUMN more TEXT"), "tables are not those"),
}


@pytest.mark.parametrize("name", _DAMAGES)
def test_damaged_file_is_refused_and_left_as_it_was(filled: Path, name: str) -> None:
    damage, said = _DAMAGES[name]
    damage(filled)
    before = contents(filled)
    with pytest.raises(LedgerCorrupt, match=said):
        read(filled)
    assert contents(filled) == before
    with pytest.raises(LedgerCorrupt, match=said):
        read(filled)


def test_gap_at_reading_refused(filled: Path) -> None:
    """Should a leaf go while the store is open, reading does not step over the gap."""
    with LedgerStore(filled) as store:
        store._db.execute("DROP TRIGGER leaves_never_go")
        store._db.execute("DELETE FROM leaves WHERE position = 42")
        with pytest.raises(LedgerCorrupt, match="leaf 42 is missing, the next is 43"):
            list(store.entries())


def test_lost_file_beside_its_journal_is_no_new_beginning(filled: Path) -> None:
    journal = filled.with_name(f"{filled.name}-wal")
    journal.write_bytes(b"journal")
    filled.unlink()
    with pytest.raises(LedgerCorrupt, match="is missing, but its journal"):
        LedgerStore(filled)
    assert contents(filled) == {journal.name: b"journal"}


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "ledger.sqlite", tmp_path / "folder"):
        with pytest.raises(LedgerError, match=str(path)) as caught:
            LedgerStore(path)
        assert not isinstance(caught.value, LedgerCorrupt)


def test_whoever_is_first_creates_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and the link another validator may have made its ledger: it stays."""
    with LedgerStore(path) as store:
        store.append([skip(0)])
    monkeypatch.setattr(Path, "exists", lambda _: False)
    with LedgerStore(path) as store:
        assert store.size == 1
    assert [found.name for found in path.parent.iterdir()] == [path.name]
