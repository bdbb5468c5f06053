"""A small disk that runs full, for real: the kernel refuses, nothing that was acknowledged is lost.

The file system is a tmpfs of 6 MB in a mount namespace of its own, which needs no privilege where the kernel
lets a user have one. What happens on it: the small_disk*.py beside this file.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration import small_disk, small_disk_restore, small_disk_validator

ROOT = Path(__file__).resolve().parent.parent.parent
MOUNT = 'mount -t tmpfs -o size=6m none "$1" && shift && exec "$@"'

pytestmark = pytest.mark.needs("unshare -rm mount -t tmpfs none /tmp")


def run_on_small_disk(
    folder: Path, *options: str, lives: str = small_disk.__name__
) -> subprocess.CompletedProcess[str]:
    """Live on a fresh file system at `folder`; it is gone at the end."""
    program = [sys.executable, "-B", "-m", lives, str(folder), *options]
    command = ["unshare", "-rm", "sh", "-c", MOUNT, "sh", str(folder), *program]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=250)


def test_a_disk_that_runs_full_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    done = run_on_small_disk(tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    lives = small_disk.LIVES
    assert said["lives"] == lives
    assert said["acknowledged"] > lives
    for step in ("delta", "receipts", "publication"):
        assert said[step] > 2 * lives, said
    assert said.get("reopened while full", 0) + said.get("not reopened while full", 0) == lives
    assert list(tmp_path.iterdir()) == []


def test_one_who_acknowledges_first_is_caught(tmp_path: Path) -> None:
    done = run_on_small_disk(tmp_path, "--boast")
    assert done.returncode == 1
    assert "AssertionError: lost or torn" in done.stderr


def test_a_validator_on_a_full_disk_keeps_its_promises_and_audits_clean(tmp_path: Path) -> None:
    done = run_on_small_disk(tmp_path, lives=small_disk_validator.__name__)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    lives = small_disk_validator.LIVES
    assert said["lives"] == lives
    assert said["ended by a full disk"] == small_disk_validator.RESTARTS * lives
    assert 0 < said["acknowledged before"] < said["acknowledged"]
    assert said["interrupted"] > 0


def test_a_restoration_without_room_leaves_nothing_and_names_the_disk(tmp_path: Path) -> None:
    done = run_on_small_disk(tmp_path, lives=small_disk_restore.__name__)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["refused while copying"] > 5, said
    assert said["restored"] == 1
