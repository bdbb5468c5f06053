"""What integration tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    """One cache for the whole run: the reference images are rendered once."""
    return Path(os.environ["XDG_CACHE_HOME"]) / "perturb"
