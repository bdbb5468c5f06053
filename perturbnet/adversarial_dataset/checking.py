"""An exported data set, checked by whoever received it.

1. The manifest is one, and the files that it names have their digests.
2. Every shard has its digest, and nothing else lies in the folder of shards.
3. The log's key signed the manifest: the key that is given, or the one that the log at hand names.
4. The log at hand has the same name, and its first leaves the same root.
5. Every row is what the log gives for its leaf, and no accepted answer is missing.
6. Every image can be rebuilt and has its digest.

Steps 4 and 5 need the log, step 6 the source (or a set with pictures). The first fault is raised; what was
not checked is said. An answer that was published only then, or is only now, is no fault. Whether the log
itself is right is for `perturb audit` to say.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from perturbnet.adversarial_dataset.columns import COMMON
from perturbnet.adversarial_dataset.examples import GONE, Builder, Row, unpack
from perturbnet.adversarial_dataset.layout import DATA_FOLDER, Mode, Split
from perturbnet.adversarial_dataset.loading import AdversarialSet
from perturbnet.adversarial_dataset.manifest import (
    DatasetManifest,
    check_file,
    check_files,
    read_manifest,
    read_signature,
    verify_signature,
)
from perturbnet.adversarial_dataset.plan import SeenImages, require_beginning
from perturbnet.adversarial_dataset.reading import ShardReader
from perturbnet.datasets import ImageSource
from perturbnet.errors import DatasetError
from perturbnet.rounds.attempts import read_attempts
from perturbnet.runtime.progress import Stages
from perturbnet.transparency.bundle import Bundle
from perturbnet.transparency.delegation import read_authority
from perturbnet.transparency.notes import VerifierKey

_COMPARED = [column.name for column in COMMON if column.name != "margin"]


@dataclass
class DatasetCheck:
    """What was found in order, and what was not looked at; lines for a person."""

    manifest: DatasetManifest
    done: list[str] = field(default_factory=list)
    left_open: list[str] = field(default_factory=list)


def check_dataset(
    folder: Path,
    *,
    key: VerifierKey | None = None,
    bundle: Bundle | None = None,
    source: ImageSource | None = None,
    progress: Stages | None = None,
) -> DatasetCheck:
    """Go through the steps of the module.

    Raises:
        DatasetError: not a data set, a row that the log does not give, or one that is missing.
        DigestMismatch: a file or an image with another digest.
        NoteError: not signed by the key that is given, or by the log's own.
        OutputError, BundleTampered: of another log, or the log was rewritten.

    """
    manifest = read_manifest(folder)
    checked = DatasetCheck(manifest)
    check_files(folder, manifest)
    _check_shards(folder, manifest)
    checked.done.append(f"{len(manifest.shards)} shards and {len(manifest.files)} files have their digests")
    _check_signature(folder, checked, key, bundle)
    if bundle is None:
        checked.left_open.append("whether the rows are those of the log: name it with --bundle")
    else:
        require_beginning(bundle, manifest.origin, manifest.leaves, manifest.root)
        _check_rows(folder, checked, bundle, progress)
    if source is None and manifest.mode is Mode.DELTA:
        checked.left_open.append("whether the images can be rebuilt: --rebuild, with the data set at hand")
    else:
        _check_images(folder, checked, source, progress)
    return checked


def _check_shards(folder: Path, manifest: DatasetManifest) -> None:
    for shard in manifest.shards:
        check_file(folder / shard.path, shard.sha256)
    named = {shard.path for shard in manifest.shards}
    inside = folder / DATA_FOLDER
    found = {f"{DATA_FOLDER}/{path.name}" for path in inside.iterdir()} if inside.is_dir() else set()
    if found != named:
        raise DatasetError(f"{inside} holds what the manifest does not name: {sorted(found - named)[:5]}")


def _check_signature(
    folder: Path, checked: DatasetCheck, key: VerifierKey | None, bundle: Bundle | None
) -> None:
    manifest = checked.manifest
    if bundle is not None and key is None:
        bundle.verify_signature()
        if read_signature(folder) is None:
            checked.left_open.append("who exported it: nobody signed the manifest")
            return
        changes = [bundle.entry(index).leaf for index in bundle.key_indices() if index < manifest.leaves]
        key = read_authority(bundle.entry(0).leaf, changes).key
    if key is None:
        checked.left_open.append("who exported it: name the log's key with --key, or the log with --bundle")
        return
    verify_signature(folder, manifest, key)
    checked.done.append(f"signed by {key.encode()}")


def _check_rows(folder: Path, checked: DatasetCheck, bundle: Bundle, progress: Stages | None) -> None:
    """Step 5, a round at a time."""
    manifest = checked.manifest
    rows = _Rows(folder, manifest)
    builder = Builder(bundle, Mode.DELTA)
    with closing(SeenImages()) as seen:
        for attempts in read_attempts(bundle, manifest.begin, manifest.stop, size=manifest.leaves):
            repeats = frozenset(seen.take(attempts))
            for expected in list(builder.rows(attempts, repeats)):
                row = rows.take(expected, builder.gone)
                if row is not None:
                    _compare(row, expected)
            rows.skip(builder.gone)
            if progress is not None:
                progress("rows", attempts.position, manifest.leaves)
    rows.require_end()
    if progress is not None:
        progress("rows", manifest.leaves, manifest.leaves)
    checked.done.append(f"{manifest.rows() - rows.skipped:,} rows are what the log gives")
    if rows.skipped:
        checked.left_open.append(f"{rows.skipped:,} rows whose answer is not published any more")


class _Rows:
    """The rows of all splits, in the order of the log."""

    def __init__(self, folder: Path, manifest: DatasetManifest) -> None:
        readers = [
            ShardReader(folder, manifest.mode, [one for one in manifest.shards if one.split is split])
            for split in Split
        ]
        streams = [_stream(reader, split) for split, reader in zip(Split, readers, strict=True)]
        self._rows = heapq.merge(*streams, key=lambda row: int(row[1]["leaf"]))
        self._next = next(self._rows, None)
        self._may_lack = manifest.left_out.get(GONE, 0)
        self.skipped = 0

    def take(self, expected: Row, gone: AbstractSet[int]) -> Mapping[str, Any] | None:
        """The row of this leaf, behind those of `gone`; None for one that may be missing."""
        leaf = expected.values["leaf"]
        self.skip(gone)
        if self._next is None or self._next[1]["leaf"] != leaf:
            self._may_lack -= 1
            if self._may_lack >= 0:
                return None
            raise DatasetError(f"no row for leaf {leaf}, whose answer was accepted")
        split, row = self._next
        if split is not expected.split:
            raise DatasetError(f"the row of leaf {leaf} is in split {split}, expected {expected.split}")
        self._next = next(self._rows, None)
        return row

    def skip(self, gone: AbstractSet[int]) -> None:
        """Pass rows of answers that the log no longer publishes."""
        while self._next is not None and self._next[1]["leaf"] in gone:
            self._next = next(self._rows, None)
            self.skipped += 1

    def require_end(self) -> None:
        """Refuse a row that the log does not give."""
        if self._next is not None:
            raise DatasetError(f"a row of leaf {self._next[1]['leaf']}, which the log does not give")


def _stream(reader: ShardReader, split: Split) -> Iterator[tuple[Split, Mapping[str, Any]]]:
    return ((split, reader.read(number)) for number in range(len(reader)))


def _compare(row: Mapping[str, Any], expected: Row) -> None:
    leaf = expected.values["leaf"]
    for name in _COMPARED:
        if row[name] != expected.values[name]:
            raise DatasetError(f"leaf {leaf}: {name} is {row[name]!r}, the log has {expected.values[name]!r}")
    if "positions" in row and expected.differences is not None:
        positions, changes = unpack(expected.differences)
        same = np.array_equal(row["positions"], positions) and np.array_equal(row["changes"], changes)
        if not same or row["delta"] != expected.values["delta"]:
            raise DatasetError(f"leaf {leaf}: another perturbation than the log's")


def _check_images(
    folder: Path, checked: DatasetCheck, source: ImageSource | None, progress: Stages | None
) -> None:
    """Step 6: loading compares every image with its digest."""
    done, of = 0, checked.manifest.rows()
    for split in Split:
        for _ in AdversarialSet(folder, checked.manifest, split, source):
            done += 1
            if progress is not None:
                progress("images", done, of)
    checked.done.append(f"{2 * done:,} images are equal to their digests")
