"""The embedded data set: rendered once into the cache, checked against pins, opened like the production one.

Rules
- Rendering writes `<split>.parquet`, then `<split>.rows.json`, each durably and each only when complete.
  Without the second the first counts as never finished and is rendered again.
- The rows file holds the pixel digest of every row. SHA-256 over those digests, in order, is pinned in the
  package (`perturbnet/data/reference.json`), so the rows file cannot lie; likewise the labels.
- Opening compares the Parquet file's SHA-256 with the one in the rows file (damage), and every row that is
  read with its own digest (anything else). A cache that does not match is a named error; it is neither used
  nor deleted.
- The folder's name contains the pins, so another version of the pictures never meets this one's files.

Validators draw from `train`, as in production, where the network was trained on the rows it is attacked on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from perturbnet.datasets.rendering import CLASSES, render
from perturbnet.datasets.source import SourceIdentity, SourceImage, decode_stored, read_cells
from perturbnet.datasets.tables import ParquetTable, write_table
from perturbnet.errors import DatasetError, DigestMismatch, RowUnreadable
from perturbnet.runtime.artifacts import replace_durably, sha256_file, write_durably
from perturbnet.runtime.progress import Progress
from perturbnet.wire import canonical_json
from perturbnet.wire.digests import is_digest, sha256_hex
from perturbnet.wire.images import Pixels, pixel_digest

REPOSITORY = "perturbnet/reference"
DEFAULT_SPLIT = "train"


@dataclass(frozen=True, slots=True)
class SplitPin:
    """What a split must be.

    Number of rows, SHA-256 over its rows' pixel digests, SHA-256 over its label bytes.
    """

    rows: int
    pixels: str
    labels: str


class ReferenceSource:
    """One split of the embedded data set; an `ImageSource`."""

    def __init__(self, identity: SourceIdentity, table: ParquetTable, row_digests: tuple[str, ...]) -> None:
        """Keep the open table and the digests its rows must have."""
        self.identity = identity
        self._table = table
        self._row_digests = row_digests

    def read(self, row: int) -> SourceImage:
        """Return one row; see `ImageSource.read`."""
        data, label = read_cells(self._table, row)
        pixels = decode_stored(row, data)
        found = pixel_digest(pixels)
        if found != self._row_digests[row] or label != row % len(CLASSES):
            raise RowUnreadable(
                row, f"expected pixels {self._row_digests[row]}, got {found} with label {label}"
            )
        return SourceImage(row, pixels, label, CLASSES[label])


@cache
def pinned_splits() -> Mapping[str, SplitPin]:
    """Return the pins by split name."""
    text = resources.files("perturbnet").joinpath("data/reference.json").read_text()
    return {name: SplitPin(**pin) for name, pin in json.loads(text)["splits"].items()}


@cache
def load_photographs() -> tuple[Pixels, ...]:
    """Return the bank of photographs, uint8 (H, W, 3), in the order of their names."""
    folder = resources.files("perturbnet").joinpath("data/photographs")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".png"))
    return tuple(
        np.asarray(Image.open(BytesIO(folder.joinpath(name).read_bytes())).convert("RGB")) for name in names
    )


def open_reference(cache_dir: Path, split: str, progress: Progress | None = None) -> ReferenceSource:
    """Open a split, rendering it first if this cache never held it.

    Raises:
        DatasetError: no such split.
        DigestMismatch: the cache is damaged, or this machine renders other pixels than were pinned.

    """
    pin = pinned_splits().get(split)
    if pin is None:
        raise DatasetError(f"reference has no split {split!r}; expected one of {sorted(pinned_splits())}")
    parquet = parquet_path(cache_dir, split)
    rows_file = parquet.with_name(f"{split}.rows.json")
    if not rows_file.exists():
        parquet.parent.mkdir(parents=True, exist_ok=True)
        _render_split(split, pin, parquet, rows_file, progress)
    row_digests = _check_cache(split, pin, parquet, rows_file)
    table = ParquetTable([parquet])
    found = len(table), table.class_names
    if found != (pin.rows, CLASSES):
        raise DatasetError(f"{parquet} holds {found[0]} rows of {found[1]}; expected {pin.rows} of {CLASSES}")
    identity = SourceIdentity(
        REPOSITORY, pin.pixels, split, pin.rows, canonical_json.digest([pin.pixels, pin.labels])
    )
    return ReferenceSource(identity, table, row_digests)


def parquet_path(cache_dir: Path, split: str) -> Path:
    """Return where a pinned split is rendered to."""
    return cache_dir / "reference" / pinned_splits()[split].pixels[:16] / f"{split}.parquet"


def render_rows(split: str, rows: int, progress: Progress | None = None) -> Iterator[tuple[Pixels, int]]:
    """Yield (pixels, label) of the first `rows` rows of a split; `progress` is told (done, rows)."""
    photographs = load_photographs()
    for row in range(rows):
        yield render(split, row, photographs)
        if progress is not None:
            progress(row + 1, rows)


def fold_digests(row_digests: list[str]) -> str:
    """Hex SHA-256 over the rows' pixel digests (32 bytes each), in order."""
    return sha256_hex(b"".join(bytes.fromhex(one) for one in row_digests))


def _render_split(
    split: str, pin: SplitPin, parquet: Path, rows_file: Path, progress: Progress | None
) -> None:
    digests: list[str] = []
    labels = bytearray()

    def encoded() -> Iterator[tuple[bytes, int]]:
        for pixels, label in render_rows(split, pin.rows, progress):
            digests.append(pixel_digest(pixels))
            labels.append(label)
            yield _encode(pixels), label
        _require_pinned(split, pin, digests, bytes(labels))

    def write(file: BinaryIO) -> None:
        write_table(file, encoded(), CLASSES)

    replace_durably(parquet, write)
    write_durably(
        rows_file, canonical_json.encode({"parquet_sha256": sha256_file(parquet), "pixels": digests})
    )


def _encode(pixels: Pixels) -> bytes:
    """A PNG, quickly: the pins hold for pixels, so how well they are packed does not matter."""
    target = BytesIO()
    Image.fromarray(pixels).save(target, "PNG", compress_level=1)
    return target.getvalue()


def _require_pinned(split: str, pin: SplitPin, digests: list[str], labels: bytes) -> None:
    """Refuse rows other than the pinned ones, before their file gets its name."""
    hint = "This machine draws other pixels than were pinned; please report it with numpy's version."
    if (found := fold_digests(digests)) != pin.pixels:
        raise DigestMismatch(f"reference/{split}, rendered", pin.pixels, found, hint=hint)
    if (found := sha256_hex(labels)) != pin.labels:
        raise DigestMismatch(f"reference/{split}, labels", pin.labels, found, hint=hint)


def _check_cache(split: str, pin: SplitPin, parquet: Path, rows_file: Path) -> tuple[str, ...]:
    """Return the row digests, after checking them against the pin and the Parquet file against them."""
    hint = f"The cache is damaged. Remove {parquet.parent} and it will be rendered again."
    digests, parquet_sha256 = _read_rows_file(rows_file)
    if (found := fold_digests(digests)) != pin.pixels:
        raise DigestMismatch(str(rows_file), pin.pixels, found, hint=hint)
    if not parquet.is_file():
        raise DatasetError(f"reference/{split}: {parquet} is missing", hint=hint)
    if (found := sha256_file(parquet)) != parquet_sha256:
        raise DigestMismatch(str(parquet), parquet_sha256, found, hint=hint)
    return tuple(digests)


def _read_rows_file(rows_file: Path) -> tuple[list[str], str]:
    """Return the row digests and the Parquet file's digest it states.

    Anything malformed reads as no rows at all.
    """
    try:
        stated = canonical_json.decode(rows_file.read_bytes())
    except canonical_json.NotCanonical:
        return [], ""
    digests = stated.get("pixels") if isinstance(stated, dict) else None
    parquet_sha256 = stated.get("parquet_sha256") if isinstance(stated, dict) else None
    well_formed = isinstance(digests, list) and all(
        isinstance(one, str) and is_digest(one) for one in digests
    )
    return (digests, str(parquet_sha256)) if well_formed and isinstance(digests, list) else ([], "")
