"""The production data set: `clane9/imagenet-100` at one revision, train split, opened by row, offline.

It is opened from a snapshot on this machine, as huggingface_hub lays it out:
`<hub>/datasets--clane9--imagenet-100/snapshots/<revision>/data/train-00000-of-000NN.parquet`, where <hub> is
`<cache_dir>/hub` or the user's own hub cache. Nothing is fetched here: `snakemake bootstrap` does that, and
checks every byte. Here it must be the pinned revision, with every shard and every row, or it is refused.

The data set numbers its 100 classes itself. Their synsets (in its order,
`perturbnet/data/imagenet100-synsets.txt`) give the network's class index and text, and its own texts are
compared with those, so that a reordered data set is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perturbnet.classifier.labels import ImageNetClass, imagenet100_classes
from perturbnet.datasets.source import SourceIdentity, SourceImage, decode_stored, read_cells
from perturbnet.datasets.tables import ParquetTable, count_rows
from perturbnet.errors import ArtifactMissing, DatasetError, RowUnreadable
from perturbnet.runtime.artifacts import read_pins
from perturbnet.wire import canonical_json
from perturbnet.wire.digests import sha256_hex

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.parquet")
_FOOTER_BYTES = 1 << 16
_HOW = "Fetch it with `perturb bootstrap` or `snakemake bootstrap` (about 8 GB; it resumes when interrupted)."


@dataclass(frozen=True, slots=True)
class ShardFiles:
    """What must be there: the hub's repository, its revision (a commit), the split and its number of rows."""

    repository: str
    revision: str
    split: str
    rows: int


def pinned_snapshot() -> ShardFiles:
    """Return what `perturbnet/data/imagenet100.json` pins."""
    stated = read_pins("imagenet100.json")["dataset"]
    return ShardFiles(stated["repository"], stated["revision"], stated["split"], stated["rows"])


class SnapshotSource:
    """A split of a hub snapshot; an `ImageSource`."""

    def __init__(
        self, identity: SourceIdentity, table: ParquetTable, classes: Sequence[ImageNetClass]
    ) -> None:
        """Keep the open table and the network's class for each of the data set's labels."""
        self.identity = identity
        self._table = table
        self._classes = tuple(classes)

    def read(self, row: int) -> SourceImage:
        """Return one row; see `ImageSource.read`."""
        data, label = read_cells(self._table, row)
        if not 0 <= label < len(self._classes):
            raise RowUnreadable(row, f"its label is {label}; expected 0 to {len(self._classes) - 1}")
        known = self._classes[label]
        return SourceImage(row, decode_stored(row, data), known.index, known.text)


def open_snapshot(snapshot: ShardFiles, hubs: Sequence[Path]) -> SnapshotSource:
    """Open the snapshot from the first of `hubs` that has it.

    Raises:
        ArtifactMissing: none has it; the hint says how to get it.
        DatasetError: another revision, missing shards, damaged files, another number of rows, other classes.

    """
    folder = _find_snapshot(snapshot, hubs)
    shards = _find_shards(folder, snapshot.split)
    rows = count_rows(shards)
    if rows != snapshot.rows:
        raise DatasetError(
            f"{folder} holds {rows} {snapshot.split} rows; expected {snapshot.rows}",
            hint=f"It is truncated. {_HOW}",
        )
    table = ParquetTable(shards)
    classes = _match_classes(table.class_names)
    identity = SourceIdentity(
        snapshot.repository, snapshot.revision, snapshot.split, rows, canonical_json.digest(_describe(shards))
    )
    return SnapshotSource(identity, table, classes)


def _find_snapshot(snapshot: ShardFiles, hubs: Sequence[Path]) -> Path:
    name = "datasets--" + snapshot.repository.replace("/", "--")
    folders = [hub / name / "snapshots" for hub in hubs]
    for folder in folders:
        if (folder / snapshot.revision).is_dir():
            return folder / snapshot.revision
    others = sorted({entry.name for folder in folders if folder.is_dir() for entry in folder.iterdir()})
    if others:
        raise DatasetError(
            f"{snapshot.repository}: found revision {', '.join(others)}; expected {snapshot.revision}",
            hint=_HOW,
        )
    places = ", ".join(str(hub) for hub in hubs)
    raise ArtifactMissing(f"{snapshot.repository} at {snapshot.revision} is not in {places}", hint=_HOW)


def _find_shards(folder: Path, split: str) -> list[Path]:
    """Return the split's shards in order; their names say how many there must be."""
    found = sorted((folder / "data").glob(f"{split}-*.parquet"))
    parts = [_SHARD.search(file.name) for file in found]
    numbers = [int(part[1]) for part in parts if part]
    total = max((int(part[2]) for part in parts if part), default=0)
    missing = sorted(set(range(total)) - set(numbers))
    if not total or missing or len(found) != total:
        raise DatasetError(
            f"{folder}/data holds {len(found)} {split} shards, of {total}; missing: {missing or 'all'}",
            hint=_HOW,
        )
    return found


def _match_classes(names: Sequence[str]) -> tuple[ImageNetClass, ...]:
    classes = imagenet100_classes()
    if len(names) != len(classes):
        raise DatasetError(f"the data set names {len(names)} classes; expected {len(classes)}")
    for position, (name, known) in enumerate(zip(names, classes, strict=True)):
        if not _words(name) & _words(known.text):
            raise DatasetError(
                f"class {position} of the data set is {name!r}; expected {known.text!r} ({known.synset})"
            )
    return classes


def _words(text: str) -> set[str]:
    return {word.strip().casefold() for word in text.split(",")}


def _describe(shards: Sequence[Path]) -> list[dict[str, str | int]]:
    """Name, size and footer digest of each shard: enough to tell two snapshots apart without reading 8 GB.

    The content itself was compared with the hub's digests by `snakemake bootstrap`.
    """
    described: list[dict[str, str | int]] = []
    for shard in shards:
        size = shard.stat().st_size
        with shard.open("rb") as file:
            file.seek(max(0, size - _FOOTER_BYTES))
            footer = sha256_hex(file.read())
        described.append({"name": shard.name, "size": size, "footer_sha256": footer})
    return described
