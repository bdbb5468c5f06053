"""All miners of a full subnet answer in one instant: every answer is judged, and memory stays small."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
MINERS = 255  # with the validator itself the 256 uids of a subnet
MOST_MIB = 1.5e9 / 2**20
CROWD = [sys.executable, "-B", "-m", "tests.integration.crowd"]


@contextmanager
def miners(count: int) -> Iterator[str]:
    """A process that plays them all; yields its port."""
    with subprocess.Popen(
        [*CROWD, "miners", str(count)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.slow
def test_a_full_subnet_that_answers_at_once_stays_below_1500_mb(tmp_path: Path) -> None:
    with miners(MINERS) as port:
        command = [*CROWD, "validator", str(MINERS), port, str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    cost = json.loads(done.stdout)
    assert cost["codes"] == {"ok": MINERS}
    assert cost["bodies_mb"] > 0.5 * MINERS
    assert cost["peak_mib"] < MOST_MIB, cost
    grown_mib = cost["peak_mib"] - cost["before_mib"]
    assert grown_mib < 2 * cost["bodies_mb"], cost  # each body about once on its way to the disk
