"""Shards: one Parquet file for each split of a range of leaves, written whole or not at all.

Rules
- Rows are in the order of the log. A row group closes at ROWS_A_GROUP rows or GROUP_BYTES of pictures and
  perturbations, so neither writer nor reader holds more than that.
- The bytes follow from the rows and from the version of pyarrow, and from nothing else: no time, no chance.
- A shard is filled in the work folder, flushed, and renamed to its name: after a crash it is there, whole,
  or not there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from perturbnet.adversarial_dataset.columns import columns_of, encoding_of, schema_of
from perturbnet.adversarial_dataset.examples import Row, unpack
from perturbnet.adversarial_dataset.layout import DATA_FOLDER, Mode, Split, shard_path
from perturbnet.adversarial_dataset.manifest import Shard
from perturbnet.runtime.artifacts import sha256_file
from perturbnet.runtime.folders import sync_folder

if TYPE_CHECKING:
    import pyarrow.parquet as pq

ROWS_A_GROUP = 32
GROUP_BYTES = 16 << 20


@dataclass
class _Open:
    """A shard that is being filled."""

    path: Path
    writer: pq.ParquetWriter
    rows: int = 0
    waiting: list[Row] = field(default_factory=list)
    waiting_bytes: int = 0


class RangeWriter:
    """Writes the shards of one range of leaves; a split without rows has none. A context manager."""

    def __init__(self, folder: Path, work: Path, mode: Mode, start: int, stop: int) -> None:
        """Shards go to `folder`, and grow in `work`, a folder on the same disk."""
        self._folder, self._work, self._mode, self._range = folder, work, mode, (start, stop)
        self._open: dict[Split, _Open] = {}

    def __enter__(self) -> Self:
        """Nothing is opened before there is a row."""
        return self

    def __exit__(self, *_: object) -> None:
        """What was not finished is gone."""
        for shard in self._open.values():
            with suppress(OSError):  # the disk may be full, and the file goes anyway
                shard.writer.close()
            shard.path.unlink(missing_ok=True)

    def add(self, row: Row) -> None:
        """Take a row. Raises OSError when the disk is full."""
        shard = self._open.get(row.split) or self._begin(row.split)
        shard.waiting.append(row)
        shard.waiting_bytes += _weight(row)
        if len(shard.waiting) == ROWS_A_GROUP or shard.waiting_bytes >= GROUP_BYTES:
            self._flush(shard)

    def finish(self) -> list[Shard]:
        """Give the shards their names, durably. Raises OSError."""
        (self._folder / DATA_FOLDER).mkdir(exist_ok=True)
        done = [self._finish(split, self._open[split]) for split in Split if split in self._open]
        sync_folder(self._folder / DATA_FOLDER)
        return done

    def _begin(self, split: Split) -> _Open:
        import pyarrow.parquet as pq

        path = self._work / f"{split}-{self._range[0]:012d}.partial"
        try:
            writer = pq.ParquetWriter(path, schema_of(self._mode), **encoding_of(self._mode))
        except OSError:
            path.unlink(missing_ok=True)
            raise
        self._open[split] = _Open(path, writer)
        return self._open[split]

    def _flush(self, shard: _Open) -> None:
        if shard.waiting:
            shard.writer.write_table(to_table(shard.waiting, self._mode))
            shard.rows += len(shard.waiting)
            shard.waiting, shard.waiting_bytes = [], 0

    def _finish(self, split: Split, shard: _Open) -> Shard:
        self._flush(shard)
        shard.writer.close()
        handle = os.open(shard.path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        name = shard_path(split, *self._range)
        digest, size = sha256_file(shard.path), shard.path.stat().st_size
        shard.path.replace(self._folder / name)
        return Shard(name, split, *self._range, shard.rows, size, digest)


def to_table(rows: Iterable[Row], mode: Mode) -> Any:
    """The rows as an Arrow table."""
    import pyarrow as pa

    rows, schema = list(rows), schema_of(mode)
    arrays = []
    sparse = [unpack(row.differences) for row in rows if row.differences is not None]
    for column in columns_of(mode):
        kind = schema.field(column.name).type
        if column.name in ("positions", "changes"):
            parts = [one[column.name == "changes"] for one in sparse]
            offsets = np.cumsum([0, *map(len, parts)]).astype(np.int32)
            values = pa.array(np.concatenate(parts), kind.value_type)
            arrays.append(pa.ListArray.from_arrays(offsets, values, type=kind))
        else:
            arrays.append(pa.array([row.values[column.name] for row in rows], kind))
    return pa.Table.from_arrays(arrays, schema=schema)


def _weight(row: Row) -> int:
    if row.differences is not None:
        return row.differences.size
    return sum(len(row.values[name]["bytes"]) for name in ("clean", "adversarial"))
