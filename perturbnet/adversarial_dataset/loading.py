"""A data set for whoever trains: `(clean, adversarial, label)`, built when it is asked for.

    for clean, adversarial, label in perturbnet.load_adversarial(PLACE, source="reference"):
        ...

Rules
- What is handed out has the digests that the row names, and they come from the ledger; anything else is an
  error. A set of perturbations needs the reader's own copy of the pictures; one with pictures needs nothing.
- A place is a folder or a repository of the hub. It is hostile until `key` has signed its manifest, and then
  as good as who holds the key.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np

from perturbnet.adversarial_dataset.layout import MANIFEST, NOTE, Mode, Split
from perturbnet.adversarial_dataset.manifest import (
    NAMED,
    DatasetManifest,
    check_files,
    read_manifest,
    verify_signature,
)
from perturbnet.adversarial_dataset.reading import Newest, ShardReader
from perturbnet.datasets import ImageSource, open_source
from perturbnet.errors import DatasetError, DigestMismatch, ImageError, OutputError
from perturbnet.rounds.pixels import rebuild_clean, require_source
from perturbnet.transparency.notes import parse_verifier_key
from perturbnet.wire import canonical_json
from perturbnet.wire.images import Pixels, decode_png, pixel_digest

_CLEAN_KEPT = 4


class Example(NamedTuple):
    """One example: uint8 (H, W, 3) twice, and the model's class of the clean image."""

    clean: Pixels
    adversarial: Pixels
    label: int


class AdversarialSet(Sequence[Example]):
    """The examples of one split, in the order of the log. A map-style data set, as PyTorch calls it."""

    def __init__(
        self, folder: Path, manifest: DatasetManifest, split: Split, source: ImageSource | None
    ) -> None:
        """See `load_adversarial`."""
        shards = [shard for shard in manifest.shards if shard.split is split]
        self.manifest, self.split = manifest, split
        self._reader, self._source = ShardReader(folder, manifest.mode, shards), source
        self._clean: Newest[tuple[int, str, str], Pixels] = Newest(_CLEAN_KEPT)

    def __len__(self) -> int:
        """How many examples."""
        return len(self._reader)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        """Build one example, or several.

        Raises:
            IndexError: there is none.
            DatasetError: a shard or a row that is not what it should be.
            DigestMismatch: a shard or an image with another digest.
            RowUnreadable, ChallengeError: a picture that the source does not make.

        """
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        row = self.row(index + len(self) if index < 0 else index)
        clean, adversarial = self._pixels(row)
        return Example(clean, adversarial, int(row["label"]))

    def __iter__(self) -> Iterator[Example]:
        """All examples, in order."""
        return (self[number] for number in range(len(self)))

    def row(self, index: int) -> Mapping[str, Any]:
        """All columns of an example, nothing rebuilt; raises as indexing."""
        return self._reader.read(index)

    def rows(self) -> Iterator[Mapping[str, Any]]:
        """All columns of all examples, in order; raises as indexing."""
        return (self.row(number) for number in range(len(self)))

    def _pixels(self, row: Mapping[str, Any]) -> tuple[Pixels, Pixels]:
        what = f"the example of leaf {row['leaf']}"
        whole, changed = f"{what}, the clean image", f"{what}, the adversarial image"
        if self.manifest.mode is Mode.FULL:
            clean = _decode(row["clean"], row["clean_pixels"], whole)
            return clean, _decode(row["adversarial"], row["adversarial_pixels"], changed)
        if self._source is None:
            raise DatasetError(f"{what} is a perturbation; the picture it changes is in no source")
        clean = self._rebuild(self._source, row, whole)
        return clean, _require(apply_sparse(clean, row, what), row["adversarial_pixels"], changed)

    def _rebuild(self, source: ImageSource, row: Mapping[str, Any], what: str) -> Pixels:
        named = {name: row[f"source_{name}"] for name in ("repository", "revision", "split")}
        require_source(source, {**named, "rows": source.identity.rows})
        number, freshness, digest = int(row["row"]), str(row["freshness"]), str(row["clean_pixels"])

        def rebuild() -> Pixels:
            how = _freshness(freshness, what)
            return rebuild_clean(source, number, how, digest, what)

        return self._clean.get_or((number, freshness, digest), rebuild)


def load_adversarial(
    place: str | Path,
    *,
    source: ImageSource | str | None = None,
    split: str = "train",
    key: str | None = None,
    revision: str | None = None,
    cache_dir: Path | None = None,
) -> AdversarialSet:
    """Open an exported data set; nothing is read but its manifest.

    Args:
        place: a folder that `perturb export dataset` has written, or a repository of the hub (`name/name`).
        source: the data set whose pictures are changed, or its profile (`reference`, `imagenet100`); a set
            that holds the pictures needs none.
        split: `train`, `validation` or `test`; no source image is in two.
        key: the log's public key on paper (`perturb ledger key`): the manifest must be signed by it.
        revision: of the repository.
        cache_dir: where a profile's pictures lie; default: PERTURB_CACHE_DIR.

    Raises:
        OutputError: a set of perturbations and no source, or no such split.
        DatasetError: no data set, or another source.
        DigestMismatch: a file that is not the one in the manifest.
        NoteError: `key` did not sign it.

    """
    folder = _open_place(place, split, revision)
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    if key is not None:
        verify_signature(folder, manifest, parse_verifier_key(key))
    if split not in set(Split):
        raise OutputError(f"no split {split!r}; expected {', '.join(Split)}")
    if isinstance(source, str):
        source = open_source(source, cache_dir=cache_dir or _default_cache())
    if source is None and manifest.mode is Mode.DELTA:
        names = ", ".join(sorted({one.repository for one in manifest.sources}))
        raise OutputError(
            f"{place} holds perturbations of {names}, no pictures",
            hint='name your copy: source="reference" or source=open_source(…); perturb bootstrap makes it',
        )
    return AdversarialSet(folder, manifest, Split(split), source)


def apply_sparse(clean: Pixels, row: Mapping[str, Any], what: str) -> Pixels:
    """Return the adversarial pixels: a row's hostile perturbation on its clean image, uint8 (H, W, 3).

    Raises:
        DatasetError: of another size, longer than the image, out of order, or outside of it.

    """
    positions, changes = row["positions"], row["changes"]
    shape = row["height"], row["width"]
    if clean.shape[:2] != shape:
        raise DatasetError(f"{what}: a perturbation for {shape}, the clean image has {clean.shape[:2]}")
    if not len(positions) == len(changes) <= clean.size:
        raise DatasetError(f"{what}: positions and changes do not belong to one image of {clean.size} values")
    ascending = bool((positions[1:] > positions[:-1]).all())
    if len(positions) and not (ascending and positions[0] >= 0 and positions[-1] < clean.size):
        raise DatasetError(f"{what}: positions are not ascending numbers below {clean.size}")
    pixels = clean.copy().reshape(-1)
    pixels[positions] += changes.view(np.uint8)
    return pixels.reshape(clean.shape)


def _open_place(place: str | Path, split: str, revision: str | None) -> Path:
    """The folder itself, or what a repository of the hub has for a split: files that its manifest names."""
    folder = Path(place)
    if folder.exists() or not isinstance(place, str) or place.count("/") != 1:
        return folder
    manifest = read_manifest(_fetch(place, revision, [MANIFEST]))
    shards = [shard.path for shard in manifest.shards if shard.split == split]
    return _fetch(place, revision, [MANIFEST, NOTE, *NAMED, *shards])


def _fetch(repository: str, revision: str | None, names: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        snapshot = snapshot_download(repository, repo_type="dataset", revision=revision, allow_patterns=names)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise DatasetError(f"{repository} is no folder, and the hub does not give it: {error}") from None
    return Path(snapshot)


def _default_cache() -> Path:
    from perturbnet.config import load_settings

    return load_settings(os.environ).settings.cache_dir


def _freshness(text: str, what: str) -> Mapping[str, int | str]:
    try:
        value = canonical_json.decode(text.encode())
    except canonical_json.NotCanonical as error:
        raise DatasetError(f"{what}: a freshness that is none: {error.message}") from None
    if not isinstance(value, dict):
        raise DatasetError(f"{what}: a freshness that is no object")
    return value


def _decode(cell: Any, digest: str, what: str) -> Pixels:
    data = cell.get("bytes") if isinstance(cell, dict) else None
    if not isinstance(data, bytes):
        raise DatasetError(f"{what} is not there")
    try:
        return _require(decode_png(data), digest, what)
    except ImageError as error:
        raise DatasetError(f"{what} is no picture: {error.message}") from None


def _require(pixels: Pixels, digest: str, what: str) -> Pixels:
    found = pixel_digest(pixels)
    if found != digest:
        raise DigestMismatch(what, digest, found)
    return pixels
