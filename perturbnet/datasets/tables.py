"""Parquet files as one table, read by row where they lie; no network, no second copy.

Image bytes stay undecoded: how they are decoded is our rule (`source.decode_stored`), not a library's. A row
costs the reading of its row group, which the hub writes 100 rows at a time: 2.5 ms with rows of 55 kB, once
in a round. `datasets.load_dataset` would first convert all of it into an Arrow cache (measured on 0.5 GB:
2.9 s and another 0.5 GB of disk, then 0.06 ms a row), and what it reads from then on is not what was hashed.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from perturbnet.errors import DatasetError

_BATCH = 100  # rows; about 10 MB of pictures


def count_rows(files: Sequence[Path]) -> int:
    """Return the number of rows the files' footers state.

    Raises:
        DatasetError: a file that is not Parquet or is cut short, by name.

    """
    total = 0
    for file in files:
        try:
            total += pq.read_metadata(file).num_rows
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(f"{file} is not a complete Parquet file: {error}") from error
    return total


def iterate_cells(file: Path) -> Iterator[tuple[bytes, int | None]]:
    """Yield (stored image bytes, label) of every row of one Parquet file, in order, a batch in memory.

    A row without image bytes gives b"", one without a label None.

    Raises:
        DatasetError: it is not Parquet, is damaged, or has other columns.

    """
    try:
        with pq.ParquetFile(file, memory_map=True) as parquet:
            for batch in parquet.iter_batches(_BATCH, columns=["image", "label"], use_threads=False):
                stored, labels = pc.struct_field(batch.column("image"), "bytes"), batch.column("label")
                for image, label in zip(stored, labels, strict=True):
                    yield image.as_py() or b"", label.as_py()
    except (pa.ArrowException, KeyError, OSError) as error:
        raise DatasetError(f"{file} cannot be read row by row: {error}") from error


class ParquetTable:
    """The rows of several files, one after the other: columns image (undecoded) and label."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Map the files and read their footers.

        Raises:
            DatasetError: one is damaged or has other columns; the label names no classes, or other ones.

        """
        self._groups: list[tuple[pq.ParquetFile, int]] = []
        self._starts = [0]
        self._newest: tuple[int, pa.Table] | None = None
        classes = {file: self._add(file) for file in files}
        self.class_names = next(iter(classes.values()), ())
        for file, names in classes.items():
            if names != self.class_names:
                raise DatasetError(f"{file} names other classes than {files[0]}")

    def __len__(self) -> int:
        """The number of rows."""
        return self._starts[-1]

    def read(self, row: int) -> tuple[object, object]:
        """Return the image's bytes and the label of a row, 0 <= row < len; either may be None.

        Raises:
            DatasetError: its part of the file is damaged.

        """
        number = bisect_right(self._starts, row) - 1
        newest = self._newest
        if newest is None or newest[0] != number:
            newest = self._newest = number, self._read_group(number)
        table, inside = newest[1], row - self._starts[number]
        return pc.struct_field(table["image"], "bytes")[inside].as_py(), table["label"][inside].as_py()

    def _add(self, file: Path) -> tuple[str, ...]:
        try:
            parquet = pq.ParquetFile(file, memory_map=True)
            schema = parquet.schema_arrow
            names = _class_names(schema)
            for number in range(parquet.num_row_groups):
                self._groups.append((parquet, number))
                self._starts.append(self._starts[-1] + parquet.metadata.row_group(number).num_rows)
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(f"{file} cannot be opened: {error}") from error
        if names is None:
            raise DatasetError(f"{file} has columns {schema.names}; expected image and label (ClassLabel)")
        return names

    def _read_group(self, number: int) -> pa.Table:
        parquet, group = self._groups[number]
        try:
            return parquet.read_row_group(group, columns=["image", "label"], use_threads=False)
        except (pa.ArrowException, OSError) as error:
            first, last = self._starts[number], self._starts[number + 1] - 1
            raise DatasetError(f"rows {first} to {last} cannot be read: {error}") from error


def _class_names(schema: pa.Schema) -> tuple[str, ...] | None:
    """The label's class names, as `datasets` writes them beside the columns; None if these are others."""
    if not {"image", "label"} <= set(schema.names) or not pa.types.is_struct(schema.field("image").type):
        return None
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        kinds = features["image"]["_type"], features["label"]["_type"]
        names = features["label"]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    return tuple(map(str, names)) if kinds == ("Image", "ClassLabel") and isinstance(names, list) else None


def write_table(target: Any, rows: Iterator[tuple[bytes, int]], class_names: Sequence[str]) -> None:
    """Write (image bytes, label) rows to a binary file as Parquet, described as the hub does."""
    import datasets

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(class_names))}
    )
    schema = features.arrow_schema
    with pq.ParquetWriter(target, schema, compression="none") as writer:
        for batch in _batches(rows, 100):
            images = [{"bytes": data, "path": None} for data, _ in batch]
            labels = [label for _, label in batch]
            writer.write_table(pa.Table.from_pydict({"image": images, "label": labels}, schema=schema))


def _batches(rows: Iterator[tuple[bytes, int]], size: int) -> Iterator[list[tuple[bytes, int]]]:
    batch: list[tuple[bytes, int]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
