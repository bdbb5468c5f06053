"""One honest log, its bundle, and a maker of rounds for all tests of the room."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.auditing.honest import Honest, live
from tests.support.auditing.published import publish_honest
from tests.support.report.rounds import Rounds


@pytest.fixture(scope="session")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Honest:
    return live(tmp_path_factory.mktemp("honest"))


@pytest.fixture(scope="session")
def bundle(honest: Honest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_honest(honest, tmp_path_factory.mktemp("log") / "bundle")


@pytest.fixture(scope="session")
def rounds(honest: Honest) -> Rounds:
    return Rounds(honest)
