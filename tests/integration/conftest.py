"""What integration tests share."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from perturbnet.bootstrap.plan import BootstrapPlan
from perturbnet.bootstrap.records import Workplace
from perturbnet.bootstrap.running import ensure


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """One cache for the whole run: the reference profile is prepared once, by the workflow's rules.

    Processes of pytest-xdist share it: the first prepares, the others wait for its lock.
    """
    alone = worker_id == "master"
    folder = (
        Path(os.environ["XDG_CACHE_HOME"]) if alone else tmp_path_factory.getbasetemp().parent
    ) / "perturb"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "perturb.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ensure(BootstrapPlan(Workplace(folder, "reference")), show=lambda *_: None)
    return folder
