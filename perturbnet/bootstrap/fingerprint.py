r"""The fingerprint of a data set: one Merkle root over the pixels of every row, in the order of rows.

Rules
- A row's leaf is its pixel digest (`images.pixel_digest`, 32 bytes), of the pixels as they are decoded here:
  Pillow, `convert("RGB")`. The tree is RFC 6962's (`perturbnet.ledger.merkle`).
- A row that does not decode has a leaf of its own kind: b"perturb/undecodable/1\n" and the SHA-256 of its
  stored bytes (of nothing, if it holds none). Such data are longer than a digest, so no picture has such a
  leaf. The row is listed by number and reason; it is never left out.
- The work is done file by file. A part is what one Parquet file gives: its leaves and what was seen on the
  way. It is written when it is complete, so whatever stops a run costs at most one file.
- Parts are merged in the order of their names, whatever order they were made in; the leaves are joined, and
  the root over them is the same as if one process had read all rows.
- JPEG decoders differ in the last bit between libraries. Which ones decoded stands in each part; a part made
  by another decoder than this process's is refused by name, not mixed in.
- The labels that stand beside the pictures have a digest of their own in each part: SHA-256 over each row's
  class index, 32-bit big-endian, and -1 where there is none.

Source: RFC 6962, section 2.1; libjpeg-turbo's and Pillow's versions as `PIL.features` states them.
"""

from __future__ import annotations

import hashlib
import struct
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from perturbnet.datasets.source import picture_stored
from perturbnet.datasets.tables import count_rows, iterate_cells
from perturbnet.errors import ArtifactError, DigestMismatch, RowUnreadable
from perturbnet.ledger import merkle
from perturbnet.runtime.progress import Progress
from perturbnet.wire.digests import sha256_hex
from perturbnet.wire.images import picture_digest

UNDECODABLE_DOMAIN = b"perturb/undecodable/1\n"
NO_LABEL = -1


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A row that is no picture to this decoder: its number, hex SHA-256 of its stored bytes, and why."""

    row: int
    stored_sha256: str
    reason: str


@dataclass(frozen=True, slots=True)
class FileFingerprint:
    """What one Parquet file gives.

    Its name in the data set, hex root over its own rows, hex digest of its labels, rows by class index, rows
    that do not decode (numbered within the file), the decoder's versions, and the leaves: 32 bytes for a row.
    """

    name: str
    rows: int
    root: str
    labels: str
    classes: Mapping[int, int]
    undecodable: tuple[Undecodable, ...]
    decoder: Mapping[str, str]
    leaves: bytes
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A data set: its parts in order, all leaves, and the hex root over them."""

    parts: tuple[FileFingerprint, ...]
    root: str
    leaves: bytes

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.leaves) // merkle.HASH_BYTES

    @property
    def undecodable(self) -> tuple[Undecodable, ...]:
        """The rows that do not decode, numbered within the data set."""
        found, offset = [], 0
        for part in self.parts:
            found += [replace(item, row=item.row + offset) for item in part.undecodable]
            offset += part.rows
        return tuple(found)

    @property
    def classes(self) -> dict[int, int]:
        """The number of rows of each class index."""
        total: Counter[int] = Counter()
        for part in self.parts:
            total.update(part.classes)
        return dict(sorted(total.items()))


def decoder_versions() -> dict[str, str]:
    """Return what decodes stored pictures in this process, by name and version."""
    import PIL
    from PIL import features

    turbo = features.version("libjpeg_turbo")
    jpeg = f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {features.version('jpg')}"
    return {"jpeg": jpeg, "pillow": PIL.__version__}


def row_leaf(pixel_digest: str) -> bytes:
    """Return the 32-byte leaf of a row whose pixels have this hex digest."""
    return merkle.leaf_hash(bytes.fromhex(pixel_digest))


def undecodable_leaf(stored_sha256: str) -> bytes:
    """Return the 32-byte leaf of a row that does not decode, from the hex SHA-256 of its stored bytes."""
    return merkle.leaf_hash(UNDECODABLE_DOMAIN + bytes.fromhex(stored_sha256))


def leaf_of(row: int, stored: bytes) -> tuple[bytes, Undecodable | None]:
    """Decode a row and return its 32-byte leaf, and what is wrong with it if it does not decode."""
    try:
        return row_leaf(picture_digest(picture_stored(row, stored))), None
    except RowUnreadable as error:
        digest = sha256_hex(stored)
        return undecodable_leaf(digest), Undecodable(row, digest, error.detail)


def root_of(leaves: bytes) -> str:
    """Return the hex root over joined 32-byte leaves."""
    size = merkle.HASH_BYTES
    return merkle.root(leaves[at : at + size] for at in range(0, len(leaves), size)).hex()


def fingerprint_file(path: Path, name: str, progress: Progress | None = None) -> FileFingerprint:
    """Read one Parquet file row by row; `progress` is told (rows done, rows).

    Raises:
        DatasetError: it is not Parquet, is damaged, or has other columns than image and label.

    """
    started_s = time.perf_counter()
    total = count_rows([path])
    leaves, labels = bytearray(), hashlib.sha256()
    classes: Counter[int] = Counter()
    undecodable: list[Undecodable] = []
    for row, (stored, label) in enumerate(iterate_cells(path)):
        leaf, fault = leaf_of(row, stored)
        leaves += leaf
        if fault is not None:
            undecodable.append(fault)
        index = NO_LABEL if label is None else label
        labels.update(struct.pack(">i", index))
        classes[index] += 1
        if progress is not None:
            progress(row + 1, total)
    return FileFingerprint(
        name=name,
        rows=len(leaves) // merkle.HASH_BYTES,
        root=root_of(bytes(leaves)),
        labels=labels.hexdigest(),
        classes=dict(sorted(classes.items())),
        undecodable=tuple(undecodable),
        decoder=decoder_versions(),
        leaves=bytes(leaves),
        seconds=time.perf_counter() - started_s,
    )


def merge(parts: Sequence[FileFingerprint]) -> Fingerprint:
    """Join parts, given in any order, in the order of their names.

    Raises:
        ArtifactError: none, or two of one name.
        DigestMismatch: a part was made by another decoder than this process's.

    """
    ordered = tuple(sorted(parts, key=lambda part: part.name))
    if not ordered or len({part.name for part in ordered}) != len(ordered):
        raise ArtifactError(f"{len(ordered)} parts of a fingerprint; expected at least one, each file once")
    for part in ordered:
        require_decoder(part.decoder, f"the part {part.name}")
    leaves = b"".join(part.leaves for part in ordered)
    return Fingerprint(ordered, root_of(leaves), leaves)


def require_decoder(stated: Mapping[str, str], what: str) -> None:
    """Return if `stated` is what decodes in this process.

    Raises:
        DigestMismatch: it is not; both are named.

    """
    ours = decoder_versions()
    if dict(stated) != ours:
        raise DigestMismatch(
            f"{what}, its decoder",
            _spoken(stated),
            _spoken(ours),
            hint="Pictures decode differently between versions: run `perturb bootstrap` again, which decodes "
            "every row with this one. The same digest comes out if the pixels are the same.",
        )


def _spoken(decoder: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(decoder.items())) or "none"
