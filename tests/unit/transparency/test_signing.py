"""The log's key: delegated, lost, rotated; a crash between key and leaf is mended."""

from __future__ import annotations

from pathlib import Path

import pytest

from perturbnet.chain import LocalChain
from perturbnet.errors import LedgerForked, NoteError
from perturbnet.ledger.journal import Journal
from perturbnet.transparency.bundle import open_bundle
from perturbnet.transparency.log_key import KEY_FILE
from perturbnet.transparency.signing import read_owner, rotate_key
from tests.support.transparency.logs import hotkey
from tests.support.validator.publications import NOW, day, live


def test_the_log_belongs_to_its_hotkey(tmp_path: Path, chain: LocalChain) -> None:
    live(tmp_path, chain, day, **NOW)
    with pytest.raises(LedgerForked, match="belongs to"):
        live(tmp_path, chain, day, owner="bob", **NOW)


def test_a_lost_or_foreign_key_is_named(tmp_path: Path, chain: LocalChain) -> None:
    live(tmp_path, chain, day, **NOW)
    path = tmp_path / "state" / KEY_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    kept = path.read_bytes()
    path.unlink()
    with pytest.raises(NoteError, match="is missing: nobody can sign"):
        live(tmp_path, chain, day, **NOW)
    path.write_bytes(kept[:-8])
    with pytest.raises(NoteError, match=r"log\.key: a key has the form"):
        live(tmp_path, chain, day, **NOW)


def test_a_key_is_rotated_and_the_place_goes_on(tmp_path: Path, chain: LocalChain) -> None:
    live(tmp_path, chain, lambda publication: day(publication, steps=2), **NOW)
    for lost in (False, True):
        journal = Journal(tmp_path / "state")
        before = read_owner(journal).key
        if lost:
            (tmp_path / "state" / KEY_FILE).unlink()
            with pytest.raises(NoteError, match="only the hotkey"):
                rotate_key(journal, tmp_path / "state", hotkey("bob"))
        key = rotate_key(journal, tmp_path / "state", hotkey("alice"))
        assert read_owner(journal).key == key.verifier() != before
        journal.close()
        live(tmp_path, chain, lambda publication: day(publication, steps=2), **NOW)
        with open_bundle(tmp_path / "bundle") as bundle:
            assert bundle.verify_signature().key == key.verifier()


def test_a_crash_between_key_and_leaf_is_mended(tmp_path: Path, chain: LocalChain) -> None:
    live(tmp_path, chain, lambda publication: day(publication, steps=1), **NOW)
    state = tmp_path / "state"
    before = (state / KEY_FILE).read_bytes()
    journal = Journal(state)
    key = rotate_key(journal, state, hotkey("alice"))
    journal.close()
    (state / KEY_FILE).rename(state / "log.next")  # as if the process had ended before the last step
    (state / KEY_FILE).write_bytes(before)
    live(tmp_path, chain, lambda publication: day(publication, steps=1), **NOW)
    assert (state / KEY_FILE).read_text().strip() == key.encode()
