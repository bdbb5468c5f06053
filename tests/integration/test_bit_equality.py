"""One table: every setting that changes float32's last bits; the canonical engines have one digest."""

from __future__ import annotations

import itertools
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.inference import build_large
from perturbnet.classifier.canonical.artefact import write_artefact
from perturbnet.classifier.canonical.compiler import compile_network

SCRIPT = Path(__file__).with_name("bit_digests.py")
ROOT = Path(__file__).parents[2]
ATEN = ("default", "avx2", "avx512")
ONEDNN = ("SSE41", "AVX2", "default")
# What the compiled loops are compiled for, so that they meet other instruction sets as well.
NUMBA = {
    "default": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
    "avx2": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"},
    "avx512": {},
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def digests(kind: str, folder: Path, aten: str, onednn: str) -> dict[str, list[str]]:
    """What a process under these settings prints."""
    settings = {} if aten == "default" else {"ATEN_CPU_CAPABILITY": aten}
    settings |= {} if onednn == "default" else {"ONEDNN_MAX_CPU_ISA": onednn}
    settings |= NUMBA[aten] if platform.machine() == "x86_64" else {}
    environment = {name: text for name, text in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, SCRIPT, kind, folder],
        env={**environment, **settings, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows: dict[str, list[str]] = json.loads(done.stdout)
    return {f"ATen {aten}, oneDNN ISA {onednn}, {name}": row for name, row in rows.items()}


def table(kind: str, folder: Path) -> dict[str, list[str]]:
    """Every configuration's digests."""
    found: dict[str, list[str]] = {}
    for aten, onednn in itertools.product(ATEN, ONEDNN):
        found |= digests(kind, folder, aten, onednn)
    return found


def check(found: dict[str, list[str]], least: int) -> None:
    """Float32 wanders, or the table shows nothing; the canonical engine has one digest."""
    plain = {row[0] for row in found.values()}
    exact = {digest for row in found.values() for digest in row[1:]}
    print(f"{len(found)} configurations: float32 {len(plain)} digests, canonical {len(exact)}")  # noqa: T201
    assert len(found) >= least
    assert len(plain) > 1
    assert len(exact) == 1


def test_the_reference_network_has_one_digest_under_all_settings(tmp_path: Path) -> None:
    check(table("reference", tmp_path), 144)


def test_efficientnetv2_l_has_one_digest_under_all_settings(tmp_path: Path) -> None:
    network = build_large()
    torch.save(network.state_dict(), tmp_path / "large.pt")
    artefact = compile_network(network, name="large", labels=tuple(map(str, range(1000))), size=480)
    write_artefact(artefact, tmp_path / "large.model")
    check(table("large", tmp_path), 11)
