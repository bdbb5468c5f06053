"""The fingerprint of one Parquet file of JPEGs, 500×375, 65 kB each; ImageNet's are larger; one core.

Ours reads the file twice, as bootstrap does: its SHA-256, then every row decoded and hashed into the tree.
The peer is what cannot be saved: `sha256sum` of the same file, and Pillow decoding the same pictures to RGB.
A wall ratio of 1.25 is 0.8 of its rate. CPU seconds leave out the peer's child process: wall is what counts.
"""

from __future__ import annotations

import functools
import io
import random
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.harness import Case, Work
from perturbnet.bootstrap.fingerprint import fingerprint_file
from perturbnet.bootstrap.witness import witness_file
from perturbnet.datasets.reference import load_photographs
from perturbnet.datasets.tables import iterate_cells, write_table

ROWS = 120
SIZE = (500, 375)


def cases() -> Sequence[Case]:
    """One file."""
    return (Case(f"{ROWS} JPEGs", _fingerprinter, _decoder, "sha256sum and Pillow alone"),)


@functools.cache
def _file() -> tuple[tempfile.TemporaryDirectory[str], Path]:
    """Photographs with the grain that a camera adds, which is what makes JPEGs large."""
    photographs, chance = load_photographs(), random.Random(1)

    def encoded(row: int) -> bytes:
        picture = Image.fromarray(photographs[row % len(photographs)]).resize(SIZE)
        grain = np.frombuffer(chance.randbytes(SIZE[0] * SIZE[1] * 3), np.uint8).reshape(SIZE[1], SIZE[0], 3)
        grained = np.clip(np.asarray(picture).astype(int) + grain % 17 - 8, 0, 255).astype(np.uint8)
        target = io.BytesIO()
        Image.fromarray(grained).save(target, "JPEG", quality=92)
        return target.getvalue()

    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "shard.parquet"
    with path.open("wb") as file:
        write_table(file, ((encoded(row), 0) for row in range(ROWS)), ["a"])
    return folder, path


def _fingerprinter() -> Work:
    _, path = _file()

    def work() -> str:
        witness_file(path)
        return fingerprint_file(path, path.name).root

    return work


def _decoder() -> Work:
    _, path = _file()
    pictures = [data for data, _ in iterate_cells(path)]

    def work() -> int:
        subprocess.run(["sha256sum", path], check=True, capture_output=True)
        for data in pictures:
            with Image.open(io.BytesIO(data)) as picture:
                picture.convert("RGB")
        return len(pictures)

    return work
