"""The training example from end to end, small: a network's ledger, its export, a training, fresh attacks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from perturbnet.attack_comparison.gains import LEVELS

ROOT = Path(__file__).parents[2]


def run(*command: str) -> str:
    """What a program prints; fails with what it said."""
    ended = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_ledger_is_trained_on_and_attacked_afresh(cache_dir: Path, tmp_path: Path) -> None:
    network, export, out = (str(tmp_path / name) for name in ("network", "export", "out"))
    perturb = ("-c", "from perturbnet.cli import main; main()")
    assert cache_dir.is_dir()
    run(*perturb, "localnet", "--miners", "1", "--rounds", "10", "--seed", "training", "--keep", network)
    run(*perturb, "export", "dataset", f"{network}/bundle", export, "--profile", "reference")

    script = ("examples/adversarial_training.py", export, "--images", "2", "--seeds", "0", "--epochs", "1")
    figures = tmp_path / "figures.json"
    shown = run(*script, "--out", out, "--json", str(figures))
    assert "Robust accuracy, 2 test images, 1 trainings" in shown
    found = json.loads(figures.read_text())
    assert [each["level"] for each in found["levels"]] == list(LEVELS)
    assert found["weights"].keys() == {"reference", "seed-0"}
    assert found["weights"]["reference"] != found["weights"]["seed-0"]
    for name in found["weights"]:
        assert len((Path(out) / f"{name}-test.jsonl").read_text().splitlines()) == 3

    again = tmp_path / "again.json"
    assert run(*script, "--out", out, "--json", str(again)) == shown  # nothing is done twice
    assert json.loads(again.read_text()) == found
