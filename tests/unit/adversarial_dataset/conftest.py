"""One honest log and one export of it in each mode, for all tests of the room."""

from __future__ import annotations

from pathlib import Path

import pytest

from perturbnet.adversarial_dataset import licences
from perturbnet.adversarial_dataset.layout import Mode
from tests.support.adversarial_dataset.logs import ROUNDS, Published, copy
from tests.support.auditing.honest import LOG_KEY, live
from tests.support.auditing.published import publish_honest


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    honest = live(tmp_path_factory.mktemp("honest"), rounds=ROUNDS, rows=12)
    return Published(honest, publish_honest(honest, tmp_path_factory.mktemp("log") / "bundle"))


@pytest.fixture(scope="session")
def _exported(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "delta"
    published.export(out, key=LOG_KEY, shard_leaves=32)
    return out


@pytest.fixture
def exported(_exported: Path, tmp_path: Path) -> Path:
    """A signed export of perturbations, to spoil."""
    return copy(_exported, tmp_path / "exported")


@pytest.fixture
def _free(monkeypatch: pytest.MonkeyPatch) -> None:
    known = licences.Licence("cc0-1.0", "free", pictures=True)
    monkeypatch.setitem(licences._KNOWN, "tests/memory", known)


@pytest.fixture
def with_pictures(published: Published, _free: None, tmp_path: Path) -> Path:
    """An export with pictures, of a source that allows it."""
    published.export(tmp_path / "full", mode=Mode.FULL)
    return tmp_path / "full"
