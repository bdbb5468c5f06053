"""Pictures as a data set stores them, and a shard of them."""

from __future__ import annotations

import io
import random
from pathlib import Path

from PIL import Image

from perturbnet.datasets.tables import write_table

JUNK = b"\x89PNG no picture"


def encode(row: int, form: str = "JPEG", mode: str = "RGB") -> bytes:
    target = io.BytesIO()
    size = 20 + row % 5, 15
    data = random.Random(row).randbytes(size[0] * size[1] * len(mode))
    Image.frombytes(mode, size, data).save(target, form)
    return target.getvalue()


def write(path: Path, rows: list[bytes]) -> Path:
    with path.open("wb") as file:
        write_table(file, ((data, number % 2) for number, data in enumerate(rows)), ["a", "b"])
    return path
