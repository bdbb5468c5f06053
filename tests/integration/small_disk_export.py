"""An export on a disk that runs full: `python -m tests.integration.small_disk_export DISK BUNDLE`.

DISK is an empty file system of 1 MB. It is filled until almost nothing is left, and room comes back a little
at a time, so that the disk is full at another write each time. JSON on standard output says how often the
export was refused, and how many rows it has in the end.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from perturbnet.adversarial_dataset.checking import check_dataset
from perturbnet.adversarial_dataset.exporting import Asked, export
from perturbnet.adversarial_dataset.layout import MANIFEST
from perturbnet.adversarial_dataset.manifest import DatasetManifest
from perturbnet.auditing.run import Means
from perturbnet.errors import OutputError
from perturbnet.transparency.bundle import open_bundle

STEP_BYTES = 16 << 10


def fill(ballast: Path) -> None:
    """Take all the room there is."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\1" * 4096)
        except OSError:
            pass


def attempt(bundle: Path, out: Path) -> DatasetManifest | None:
    """Export; None where the disk was full, and then nothing is half-written."""
    said = ""
    try:
        with open_bundle(bundle) as opened:
            return export(opened, out, Asked(shard_leaves=16), Means())
    except OutputError as error:
        said = error.message
    assert "the disk is full" in said, said
    assert not (out / MANIFEST).exists()
    assert not list(out.rglob("*.partial"))
    return None


def main() -> None:
    """Export until it succeeds, with a little more room each time."""
    disk, bundle = Path(sys.argv[1]), Path(sys.argv[2])
    ballast, out = disk / "ballast", disk / "out"
    fill(ballast)
    refused = 0
    while (manifest := attempt(bundle, out)) is None:
        refused += 1
        os.truncate(ballast, ballast.stat().st_size - STEP_BYTES)
    with open_bundle(bundle) as opened:
        check_dataset(out, bundle=opened)
    sys.stdout.write(json.dumps({"refused": refused, "rows": manifest.rows()}))


if __name__ == "__main__":
    main()
