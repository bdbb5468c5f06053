"""A signed log of 600 leaves, and the same one published; a chain for the log's owner."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from perturbnet.transparency.publishing import publish
from tests.support.transparency.logs import SignedLog, signed_log
from tests.support.validator.publications import chain

__all__ = ["chain", "log", "published"]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SignedLog]:
    made = signed_log(tmp_path / "log", leaves=599)
    yield made
    made.store.close()


@pytest.fixture
def published(log: SignedLog) -> SignedLog:
    publish(log.source, log.target, 600)
    return log
