"""What several tests of the validator begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from perturbnet.chain import LocalChain
from tests.support.validator.publications import RULES, make_chain


@pytest.fixture
def chain(tmp_path: Path) -> LocalChain:
    """A chain with sealed weights, on which the owner of a log is registered."""
    return make_chain(tmp_path / "chain.sqlite", RULES)
