"""One honest log for the whole room; every test tampers with a copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.auditing.honest import Honest, live


@pytest.fixture(scope="session")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Honest:
    """A validator's log over one whole epoch and the beginning of the next."""
    return live(tmp_path_factory.mktemp("honest"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of one's own."""
    return tmp_path
