"""A snapshot shortens the way to the state that the leaves say, or is not used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perturbnet.errors import LedgerError
from perturbnet.ledger import LedgerState, LedgerStore, fold
from perturbnet.ledger.snapshots import load_snapshot, save_snapshot
from perturbnet.wire import canonical_json
from tests.support.ledger.samples import Log, random_log, random_log_step


def closed_log(seed: int, length: int) -> Log:
    """A random history that ends between rounds."""
    log = random_log(seed, length)
    while log.state.open_round is not None:
        random_log_step(log, seed)
    return log


def stored(path: Path, log: Log) -> LedgerStore:
    store = LedgerStore(path)
    store.append([entry.leaf for entry in log.entries[store.size :]])
    return store


@given(st.integers(0, 2**32))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_state_comes_back(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    folder, log = tmp_path_factory.mktemp("snapshot"), closed_log(seed, 80)
    with stored(folder / "ledger.sqlite", log) as store:
        assert save_snapshot(folder / "fold.json", log.state, store.root())
        found = load_snapshot(folder / "fold.json", store)
        assert found == log.state == fold(store.entries())
    while len(log.entries) < 120:
        random_log_step(log, seed)
    with stored(folder / "ledger.sqlite", log) as store:
        found = load_snapshot(folder / "fold.json", store)
        for entry in store.entries(found.size):
            found.apply(entry)
        assert found == log.state


def test_none_is_made_inside_a_round(tmp_path: Path) -> None:
    log = random_log(3, 40)
    while log.state.open_round is None:
        random_log_step(log, 3)
    assert not save_snapshot(tmp_path / "fold.json", log.state, bytes(32))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Path, LedgerStore]:
    log = closed_log(5, 80)
    store = stored(tmp_path / "ledger.sqlite", log)
    save_snapshot(tmp_path / "fold.json", log.state, store.root())
    return tmp_path / "fold.json", store


def _forge(path: Path, **changes: object) -> None:
    value = json.loads(path.read_bytes())
    value["content"] |= changes
    value["digest"] = canonical_json.digest(value["content"])
    path.write_bytes(canonical_json.encode(value))


_DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "is not used"),
    "no content": (lambda path: path.write_bytes(b"{}"), "is not used"),
    "too deep": (lambda path: path.write_bytes(b"[" * 100_000), "is not used"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-9]), "is not used"),
    "changed": (
        lambda path: path.write_bytes(path.read_bytes().replace(b'"rounds":', b'"rounds":1')),
        "digest is another",
    ),
    "another root": (lambda path: _forge(path, root="00" * 32), "is not of this log"),
    "beyond the end": (lambda path: _forge(path, state={"size": 10**9}), "is not of this log"),
    "another code": (lambda path: _forge(path, code="00"), "another version"),
}


@pytest.mark.parametrize("name", _DAMAGES)
def test_what_cannot_be_believed_is_not_used(
    kept: tuple[Path, LedgerStore], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    path, store = kept
    damage, said = _DAMAGES[name]
    damage(path)
    caplog.set_level("INFO")
    with store:
        assert load_snapshot(path, store) == LedgerState()
    assert said in caplog.text


def test_a_snapshot_of_another_log_is_not_used(kept: tuple[Path, LedgerStore], tmp_path: Path) -> None:
    path, store = kept
    store.close()
    with stored(tmp_path / "other.sqlite", closed_log(6, 90)) as other:
        assert load_snapshot(path, other) == LedgerState()


def test_none_is_there_or_can_be_written(kept: tuple[Path, LedgerStore], tmp_path: Path) -> None:
    _, store = kept
    with store:
        assert load_snapshot(tmp_path / "none.json", store) == LedgerState()
    with pytest.raises(LedgerError, match="was not written"):
        save_snapshot(tmp_path / "none" / "fold.json", LedgerState(), bytes(32))
