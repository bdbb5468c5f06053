"""A row by its index: row groups of the Parquet files, or the Arrow cache `datasets` makes of them.

100 MB in two shards, rows of 65 kB on average, as the production data set has them. Opening is without the
conversion, which the peer needs once and which takes the same disk again; ADR 8 has its cost.
"""

from __future__ import annotations

import atexit
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.harness import Case, Work
from perturbnet.datasets.tables import ParquetTable, iterate_cells, write_table

_SHARDS, _ROWS, _MEAN_BYTES = 2, 800, 65_000
_NAMES = [f"class {number}" for number in range(100)]


def cases() -> Sequence[Case]:
    """One row at random, all rows in order, opening."""
    peer = "datasets' Arrow cache"
    return (
        Case("one row by index", _row_here, _row_there, peer),
        Case("all rows in order", _scan_here, _scan_there, peer),
        Case("opening", lambda: lambda: ParquetTable(_shards()), _open_there, peer),
    )


def _row_here() -> Work:
    table, pick = ParquetTable(_shards()), random.Random(1)
    return lambda: table.read(pick.randrange(len(table)))


def _row_there() -> Work:
    table, pick = _converted(), random.Random(1)
    return lambda: table[pick.randrange(len(table))]["image"]["bytes"]


def _scan_here() -> Work:
    return lambda: sum(len(stored) for file in _shards() for stored, _ in iterate_cells(file))


def _scan_there() -> Work:
    table = _converted()
    return lambda: sum(len(row["image"]["bytes"]) for row in table)


def _open_there() -> Callable[[], Any]:
    _converted()
    return _converted


@cache
def _shards() -> list[Path]:
    folder = tempfile.TemporaryDirectory(prefix="perturb-bench-")
    atexit.register(folder.cleanup)
    files = [Path(folder.name) / f"train-{number:05d}-of-{_SHARDS:05d}.parquet" for number in range(_SHARDS)]
    for number, path in enumerate(files):
        with path.open("wb") as file:
            write_table(file, _rows(number), _NAMES)
    return files


def _rows(seed: int) -> Iterator[tuple[bytes, int]]:
    chance = random.Random(seed)
    for _ in range(_ROWS):
        yield chance.randbytes(int(_MEAN_BYTES * chance.lognormvariate(-0.125, 0.5))), chance.randrange(100)


def _converted() -> Any:
    import datasets

    datasets.disable_progress_bars()
    files = _shards()
    table = datasets.load_dataset(
        "parquet",
        data_files={"rows": [str(file) for file in files]},
        split="rows",
        cache_dir=str(files[0].parent / "arrow"),
    )
    return table.cast_column("image", datasets.Image(decode=False))
