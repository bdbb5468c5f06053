"""`perturb evaluate` as a process: killed it goes on; and larger networks than unit tests have."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from perturbnet.classifier.weights import reference_weights
from perturbnet.datasets import open_source
from perturbnet.ledger.leaves import ChallengeLeaf, ReceiptLeaf
from perturbnet.statistics.robustness import count_log
from perturbnet.transparency.bundle import open_bundle
from perturbnet.wire.images import encode_png
from tests.support.evaluation.pictures import write_folder, write_weights

DEADLINE_S = 240.0


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "perturbnet.cli", "evaluate", *map(str, arguments)]


def evaluate(*arguments: str | Path) -> dict[str, Any]:
    done = subprocess.run(
        command(*arguments, "--json", "-"), capture_output=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def write_reference(folder: Path, count: int) -> Path:
    """Pictures of the reference data set, a folder for each class."""
    source = open_source("reference", cache_dir=folder.parent / "cache")
    for row in range(count):
        image = source.read(row)
        (folder / image.label).mkdir(parents=True, exist_ok=True)
        (folder / image.label / f"{row}.png").write_bytes(encode_png(image.pixels))
    return folder


@pytest.mark.slow
def test_killed_again_and_again_it_goes_on(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "in", count=3, classes=("0", "1"))
    model = write_weights(tmp_path / "w.safetensors", "test_vit")
    options = (
        "--model",
        model,
        "--images",
        folder,
        "--size",
        "64",
        "--seconds",
        "1",
        "--out",
        tmp_path / "out",
    )
    deaths, began_s = 0, time.monotonic()
    blobs = tmp_path / "out" / "state" / "blobs"
    while deaths < 3:
        known = set(blobs.glob("*/*"))
        process = subprocess.Popen(command(*options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and set(blobs.glob("*/*")) <= known:
            assert time.monotonic() - began_s < DEADLINE_S
            time.sleep(0.02)
        if process.poll() is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        deaths += 1
    assert deaths == 3
    found = evaluate(*options)
    assert found["statistics"]["images"] == 6
    assert found["audit"]["findings"] == []
    with open_bundle(tmp_path / "out" / "bundle") as bundle:
        leaves = [entry.leaf for entry in bundle.entries()]
    rows = Counter(leaf.row for leaf in leaves if isinstance(leaf, ChallengeLeaf))
    assert rows == dict.fromkeys(range(6), 1)
    assert len([leaf for leaf in leaves if isinstance(leaf, ReceiptLeaf)]) == 6
    assert "interrupted" not in found["statistics"]["outcomes"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "convnext_atto"])
def test_networks_that_do_not_compile(tmp_path: Path, name: str) -> None:
    folder = write_folder(tmp_path / "in", count=1, classes=("0", "1"))
    model = write_weights(tmp_path / "w.safetensors", name)
    found = evaluate(
        "--model",
        model,
        "--images",
        folder,
        "--out",
        tmp_path / "out",
        "--clock",
        "virtual",
        "--seconds",
        "0.5",
    )
    assert not found["reproducible"]
    assert found["plan"]["engine"] == "float64-plain"
    assert (found["statistics"]["images"], found["audit"]["findings"]) == (2, [])


@pytest.mark.slow
def test_the_reference_network_on_its_own_pictures(tmp_path: Path) -> None:
    folder = write_reference(tmp_path / "in", 3)
    weights = reference_weights()[0]
    found = evaluate(
        "--model",
        weights,
        "--arch",
        "perturb_efficientnetv2_reference",
        "--images",
        folder,
        "--clock",
        "virtual",
        "--seconds",
        "0.5",
        "--out",
        tmp_path / "out",
    )
    assert found["reproducible"]
    assert (found["statistics"]["images"], found["statistics"]["labelled"]) == (3, 3)
    assert found["audit"]["findings"] == []
    assert found["audit"]["checked"]["labels recomputed"] == found["statistics"]["accepted"]
    with open_bundle(tmp_path / "out" / "bundle") as bundle:
        until = found["statistics"]["until"]
        counted = count_log(bundle, found["plan"]["model_digest"], until=until)
    assert msgspec.to_builtins(counted) == found["statistics"]
    assert found["certificate"]["status"] == "verified"
