"""What integration tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from perturbnet.bootstrap.plan import Plan
from perturbnet.bootstrap.records import Workplace
from perturbnet.bootstrap.running import ensure


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    """One cache for the whole run: the reference profile is prepared once, by the workflow's rules."""
    folder = Path(os.environ["XDG_CACHE_HOME"]) / "perturb"
    ensure(Plan(Workplace(folder, "reference")), show=lambda *_: None)
    return folder
