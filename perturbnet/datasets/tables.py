"""Parquet files as one memory-mapped table, through the `datasets` library; no network.

`datasets` turns Parquet into Arrow once, in its own cache, and maps that file. Image bytes stay undecoded:
how they are decoded is our rule (`source.decode_stored`), not the library's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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


def open_table(files: Sequence[Path], arrow_cache: Path, *, quiet: bool) -> tuple[Any, tuple[str, ...]]:
    """Return a `datasets.Dataset` with columns image (undecoded) and label, and the label's class names.

    Raises:
        DatasetError: damaged files, or other columns.

    """
    import datasets

    try:
        with _progress_bars(hidden=quiet):
            table = datasets.load_dataset(
                "parquet",
                data_files={"rows": [str(file) for file in files]},
                split="rows",
                cache_dir=str(arrow_cache),
            )
    except (datasets.exceptions.DatasetGenerationError, pa.ArrowException, OSError) as error:
        raise DatasetError(f"{files[0].parent} cannot be opened: {error.__cause__ or error}") from error
    label = table.features.get("label")
    if not isinstance(label, datasets.ClassLabel) or not isinstance(
        table.features.get("image"), datasets.Image
    ):
        raise DatasetError(
            f"{files[0].parent} has columns {dict(table.features)}; expected image and label (ClassLabel)"
        )
    return table.cast_column("image", datasets.Image(decode=False)), tuple(label.names)


def write_table(target: Any, rows: Iterator[tuple[bytes, int]], class_names: Sequence[str]) -> None:  # noqa: ANN401
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


@contextmanager
def _progress_bars(*, hidden: bool) -> Iterator[None]:
    import datasets

    shown: Callable[[], None] = datasets.enable_progress_bars
    was_shown = not datasets.are_progress_bars_disabled()
    if hidden:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if hidden and was_shown:
            shown()
