"""A data set out of a real ledger: the reference profile's pictures and model, every image again.

And a disk that is really full: the export says so, and goes on where it was once there is room.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import perturbnet
from perturbnet.adversarial_dataset.layout import CROISSANT, Split
from perturbnet.adversarial_dataset.manifest import read_manifest
from perturbnet.wire.images import pixel_digest
from tests.integration import small_disk_export
from tests.support.auditing.honest import live
from tests.support.auditing.published import publish_honest
from tests.support.fakes import NETUID

ROOT = Path(__file__).parents[2]
MANY = Path(__file__).with_name("many_receipts.py")
ROUNDS, MINERS = 6, 16
MOUNT = 'mount -t tmpfs -o size=1m none "$1" && shift && exec "$@"'


def perturb(cache: Path, *arguments: object) -> str:
    """A command of ours in a process of its own."""
    command = [sys.executable, "-m", "perturbnet.cli", *(str(argument) for argument in arguments)]
    env = {"PERTURB_CACHE_DIR": str(cache), "PERTURB_PROFILE": "reference", "NETUID": str(NETUID)}
    done = subprocess.run(command, env=_environment() | env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # mlcroissant's own, of rdflib and pandas
def test_a_real_ledgers_examples_are_its_images_for_every_reader(tmp_path: Path, cache_dir: Path) -> None:
    import datasets
    import mlcroissant

    made = [sys.executable, str(MANY), str(tmp_path), str(cache_dir), str(ROUNDS), str(MINERS)]
    subprocess.run(made, check=True, env=_environment(), capture_output=True)
    log, delta, full = tmp_path / "log", tmp_path / "delta", tmp_path / "full"
    perturb(cache_dir, "export", "dataset", log, delta, "--margins")
    perturb(cache_dir, "export", "dataset", log, full, "--mode", "full")
    rows = read_manifest(delta).rows()
    assert rows == read_manifest(full).rows() > 0

    said = perturb(cache_dir, "export", "verify", delta, "--bundle", log, "--rebuild")
    assert f"{2 * rows} images are equal to their digests" in said

    found = 0
    for split in Split:
        examples = perturbnet.load_adversarial(
            delta, source="reference", split=split.value, cache_dir=cache_dir
        )
        for (clean, adversarial, label), row in zip(examples, examples.rows(), strict=True):
            assert pixel_digest(clean) == row["clean_pixels"]
            assert pixel_digest(adversarial) == row["adversarial_pixels"]
            assert row["label"] == label != row["adversarial_label"]
            assert row["margin"] > 0
            found += 1
    assert found == rows

    loaded = datasets.load_dataset(str(full), cache_dir=str(tmp_path / "cache"))
    pictures = [(np.asarray(row["adversarial"]), row) for part in loaded.values() for row in part]
    assert len(pictures) == rows
    assert all(pixel_digest(pixels) == row["adversarial_pixels"] for pixels, row in pictures)

    described = mlcroissant.Dataset(jsonld=str(full / CROISSANT))
    assert described.metadata.issues.errors == set()
    records = [
        one for record_set in described.metadata.record_sets for one in described.records(record_set.id)
    ]
    assert len(records) == rows


@pytest.mark.needs("unshare -rm mount -t tmpfs none /tmp")
def test_a_disk_that_is_full_is_said_and_nothing_is_half_written(tmp_path: Path) -> None:
    honest = live(tmp_path, rounds=8)
    bundle = publish_honest(honest, tmp_path / "bundle")
    disk = tmp_path / "disk"
    disk.mkdir()
    program = [sys.executable, "-B", "-m", small_disk_export.__name__, str(disk), str(bundle)]
    command = ["unshare", "-rm", "sh", "-c", MOUNT, "sh", str(disk), *program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["refused"] >= 3
    assert said["rows"] > 0
