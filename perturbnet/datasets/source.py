"""Where images come from: one row, one image, or an error that says why not.

A source is opened by row index and memory-mapped, so 126,689 rows cost no memory. Every source says who it is
(`SourceIdentity`); its fingerprint goes into the traversal, which starts anew when it changes.
"""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from perturbnet.datasets.tables import ParquetTable
from perturbnet.errors import DatasetError, RowUnreadable
from perturbnet.wire import canonical_json
from perturbnet.wire.images import Pixels

_FAULTS = (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError, Warning)


@dataclass(frozen=True, slots=True)
class SourceIdentity:
    """Which data set this is: repository, revision, split, number of rows, and a digest of what is in it.

    `manifest_digest` is the hex SHA-256 of the manifest's data set section (`bootstrap.manifest`). A source
    that was opened without a manifest puts there what it can say by itself.
    """

    repository: str
    revision: str
    split: str
    rows: int
    manifest_digest: str

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of the canonical JSON of all five."""
        return canonical_json.digest(asdict(self))


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One row.

    Uint8 pixels (H, W, 3), RGB; `label` is the network's own text, `label_index` its class index.
    """

    row: int
    pixels: Pixels
    label_index: int
    label: str


class ImageSource(Protocol):
    """A data set that is read by row."""

    @property
    def identity(self) -> SourceIdentity:
        """Which data set this is."""
        ...

    def read(self, row: int) -> SourceImage:
        """Return one row.

        Raises:
            RowUnreadable: the row does not decode, or is not the one that was pinned.
            DatasetError: there is no such row.

        """
        ...


def decode_stored(row: int, data: bytes) -> Pixels:
    """Decode an image as stored in a data set: Pillow, `convert("RGB")`, nothing else (no EXIF rotation).

    Raises:
        RowUnreadable: the bytes are no image, are cut short, or claim more pixels than Pillow allows.

    """
    return np.ascontiguousarray(np.asarray(picture_stored(row, data), dtype=np.uint8))


def picture_stored(row: int, data: bytes) -> Image.Image:
    """Decode the same as Pillow's own picture, RGB: for whoever needs the bytes and no array.

    Raises:
        RowUnreadable: see `decode_stored`.

    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd but readable metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as picture:
                picture.load()
                return picture if picture.mode == "RGB" else picture.convert("RGB")
    except _FAULTS as error:
        raise RowUnreadable(row, f"{type(error).__name__}: {error}") from error


def read_cells(table: ParquetTable, row: int) -> tuple[bytes, int]:
    """Return the stored image bytes and the label of one row.

    Raises:
        DatasetError: there is no such row, or its part of the file is damaged.
        RowUnreadable: the row holds no image bytes or no label.

    """
    if not 0 <= row < len(table):
        raise DatasetError(f"row {row} does not exist; expected 0 to {len(table) - 1}")
    data, label = table.read(row)
    if not isinstance(data, bytes) or not isinstance(label, int):
        raise RowUnreadable(row, "it holds no image bytes or no label")
    return data, label
