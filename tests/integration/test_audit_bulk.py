"""10,000 receipts of the reference profile, made on one instruction set and recomputed on another.

The validator runs with ATen's AVX2 kernels and one thread, the auditor with the machine's own and two. Every
label, digest of logits, distortion and score must come out the same, bit for bit; and one bit is changed, to
show that the comparison would notice.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakes import NETUID

ROUNDS, MINERS = 100, 100
ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("many_receipts.py")
MADE_ON = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
READ_ON = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}  # threads that spin starve each other

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]


def run(command: list[str], settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A process under these settings and no others of their kind."""
    plain = {name: text for name, text in os.environ.items() if not name.endswith("_NUM_THREADS")}
    return subprocess.run(
        command,
        env={**plain, **settings, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def audit(folder: Path, hotkey: str, cache: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """`perturb audit` in a process of its own."""
    command = [sys.executable, "-m", "perturbnet.cli", "audit", str(folder / "log"), "--hotkey", hotkey]
    given = ["--anchors", str(folder / "anchors.json"), "--netuid", str(NETUID), "--profile", "reference"]
    done = run([*command, *given, "--json", "-", *options], {**READ_ON, "PERTURB_CACHE_DIR": str(cache)})
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, report


def test_10000_receipts_come_out_the_same_on_another_instruction_set(tmp_path: Path, cache_dir: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(tmp_path), str(cache_dir), str(ROUNDS), str(MINERS)]
    made = run(command, MADE_ON)
    assert made.returncode == 0, made.stderr[-3000:]
    hotkey = made.stdout.split()[-1]

    code, report = audit(tmp_path, hotkey, cache_dir)
    assert (code, report["findings"]) == (0, [])
    assert report["checked"]["labels recomputed"] == ROUNDS * MINERS
    assert report["checked"]["receipts recomputed"] == ROUNDS * MINERS

    code, plain = audit(tmp_path, hotkey, cache_dir, "--no-model")
    assert (code, plain["findings"]) == (0, [])
    each = [1000 * run["seconds"] / (ROUNDS * MINERS) for run in (report, plain)]
    print(f"ms per receipt: {each[0]:.2f} with the model, {each[1]:.2f} without")  # noqa: T201
