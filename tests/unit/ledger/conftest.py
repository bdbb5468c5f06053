"""A place for a ledger, and one that holds 200 leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from perturbnet.ledger import LedgerStore
from tests.support.ledger.samples import skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.sqlite"


@pytest.fixture
def filled(path: Path) -> Path:
    """A ledger of 200 leaves, closed."""
    with LedgerStore(path) as store:
        store.append([skip(number, "reason " * 20) for number in range(200)])
    return path
