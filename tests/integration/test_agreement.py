"""Canonical labels are float64's wherever float64 is sure: the tool that measures it, on many pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "agreement.py"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.mark.parametrize(("network", "inputs"), [("reference", 1000), ("large", 6)])
def test_labels_agree_with_float64(network: str, inputs: int, tmp_path: Path) -> None:
    """For `large`, 200 were measured by hand (docs/inference-cost.md); here as many as a minute allows."""
    figures = tmp_path / "figures.json"
    command = [sys.executable, str(TOOL), network, "--inputs", str(inputs), "--json", str(figures)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(figures.read_text())
    assert found["inputs"] == inputs
    assert found["sure"] >= 0.9 * inputs
    assert found["sure_and_different"] == 0
    assert found["beyond_bound"] == 0
