"""Shards read back: what a stranger wrote, row by row, in bounded memory.

Rules
- A shard is read only when its bytes have the digest that the manifest names, which is checked when it is
  first opened. Its columns, number of rows and row groups are checked before a row is read; only a margin may
  be missing.
- A few row groups are kept, so reading in order costs each once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from perturbnet.adversarial_dataset.columns import schema_of
from perturbnet.adversarial_dataset.layout import Mode
from perturbnet.adversarial_dataset.manifest import Shard, check_file
from perturbnet.errors import DatasetError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

MAX_GROUP_BYTES = 1 << 28
FILES_OPEN, GROUPS_KEPT = 8, 4
K = TypeVar("K")
V = TypeVar("V")


class Newest(OrderedDict[K, V]):
    """The last few values that were asked for."""

    def __init__(self, keep: int) -> None:
        """Keep so many."""
        super().__init__()
        self._keep = keep

    def get_or(self, key: K, make: Callable[[], V]) -> V:
        """The value of a key, made where it is not kept."""
        if key not in self:
            self[key] = make()
            if len(self) > self._keep:
                self.popitem(last=False)
        self.move_to_end(key)
        return self[key]


@dataclass
class ShardReader:
    """The rows of several shards, one after the other."""

    folder: Path
    mode: Mode
    shards: list[Shard]
    _starts: list[int] = field(init=False)
    _files: Newest[int, pq.ParquetFile] = field(init=False)
    _groups: Newest[tuple[int, int], list[dict[str, Any]]] = field(init=False)
    _checked: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Nothing is opened yet."""
        self._starts = [0, *accumulate(shard.rows for shard in self.shards)]
        self._files, self._groups = Newest(FILES_OPEN), Newest(GROUPS_KEPT)

    def __len__(self) -> int:
        """How many rows the manifest names."""
        return self._starts[-1]

    def read(self, number: int) -> Mapping[str, Any]:
        """One row, by column.

        Raises:
            IndexError: there is none of this number.
            DatasetError: a shard that is missing, damaged or of another form.
            DigestMismatch: a shard with other bytes.

        """
        if not 0 <= number < len(self):
            raise IndexError(f"row {number} of {len(self)}")
        place = bisect_right(self._starts, number) - 1
        file = self._files.get_or(place, lambda: self._open(place))
        inside, group = number - self._starts[place], 0
        while inside >= (rows := file.metadata.row_group(group).num_rows):
            inside, group = inside - rows, group + 1
        return self._groups.get_or((place, group), lambda: self._read_group(place, file, group))[inside]

    def _open(self, place: int) -> pq.ParquetFile:
        import pyarrow as pa
        import pyarrow.parquet as pq

        shard = self.shards[place]
        path = self.folder / shard.path
        if place not in self._checked:
            check_file(path, shard.sha256)
            self._checked.add(place)
        try:
            file = pq.ParquetFile(path, memory_map=True)
            found, groups = file.schema_arrow, file.metadata.num_row_groups
            largest = max(file.metadata.row_group(number).total_byte_size for number in range(groups))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DatasetError(f"{path} cannot be opened: {error}") from None
        expected = schema_of(self.mode)
        if [(one.name, one.type) for one in found] != [(one.name, one.type) for one in expected]:
            raise DatasetError(f"{path} has the columns {found.names}, expected {expected.names}")
        if file.metadata.num_rows != shard.rows or largest > MAX_GROUP_BYTES:
            raise DatasetError(
                f"{path}: {file.metadata.num_rows} rows in groups of up to {largest} bytes; expected "
                f"{shard.rows} rows, and at most {MAX_GROUP_BYTES} bytes"
            )
        return file

    def _read_group(self, place: int, file: pq.ParquetFile, group: int) -> list[dict[str, Any]]:
        import pyarrow as pa

        try:
            return _rows(file.read_row_group(group, use_threads=False))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DatasetError(f"{self.folder / self.shards[place].path} cannot be read: {error}") from None


def _rows(table: Any) -> list[dict[str, Any]]:
    """The rows of a table; lists stay arrays. Raises ValueError for a cell that is empty."""
    for name in table.column_names:
        if name != "margin" and table.column(name).null_count:
            raise ValueError(f"a row without {name}")
    lists = [name for name in ("positions", "changes") if name in table.column_names]
    rows: list[dict[str, Any]] = table.drop_columns(lists).to_pylist()
    for name in lists:
        column = table.column(name).combine_chunks()
        for number, row in enumerate(rows):
            row[name] = column[number].values.to_numpy(zero_copy_only=False)
    return rows
