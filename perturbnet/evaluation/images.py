"""A user's folder as a data set: written down once, with every digest, and read by row from then on.

`images.json` in the evaluation's folder is the record: which files were looked at, which are judged, with the
SHA-256 of their bytes and the digest of their pixels, and which are not, and why. Its own SHA-256 is the data
set's name in the ledger, so the log says exactly what was judged. Where the folder lies on this machine is
kept beside it and no part of that name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from perturbnet.datasets import SourceIdentity, SourceImage
from perturbnet.errors import DatasetError, DigestMismatch, LedgerError
from perturbnet.evaluation.scanning import (
    Candidate,
    Picture,
    Refusal,
    choose,
    decode_picture,
    list_candidates,
    read_file,
    read_pictures,
)
from perturbnet.runtime.artifacts import write_durably
from perturbnet.runtime.progress import Progress
from perturbnet.wire import canonical_json
from perturbnet.wire.digests import sha256_hex
from perturbnet.wire.images import pixel_digest

IMAGES_FILE = "images.json"
FORMAT = 1
MAX_RECORD_BYTES = 1 << 30


@dataclass(frozen=True)
class ImageOptions:
    """What of a folder is judged: `limit` pictures that `seed` draws, none larger than `longest_side`."""

    limit: int | None = None
    seed: str = ""
    longest_side: int | None = None

    def to_record(self) -> dict[str, Any]:
        """As `images.json` holds it."""
        return {"limit": self.limit or 0, "seed": self.seed, "longest_side": self.longest_side or 0}


@dataclass(frozen=True)
class Images:
    """The record of a folder: its name, what was wished for, and what came of every file."""

    name: str
    wish: ImageOptions
    listing: str  # digest of the paths and sizes that were found
    classes: tuple[str, ...]
    pictures: tuple[Picture, ...]
    refusals: tuple[Refusal, ...]

    def encode(self) -> bytes:
        """Canonical JSON; its SHA-256 names the data set."""
        return canonical_json.encode(
            {
                "format": FORMAT,
                "name": self.name,
                "wish": self.wish.to_record(),
                "listing": self.listing,
                "classes": list(self.classes),
                "pictures": [list(astuple(picture)) for picture in self.pictures],
                "refused": [list(astuple(refusal)) for refusal in self.refusals],
            }
        )

    @property
    def labelled(self) -> int:
        """How many pictures have a class of the user's."""
        return sum(picture.label != "" for picture in self.pictures)


class FolderSource:
    """The pictures of a folder by row; an `ImageSource`. What changed since it was recorded is refused."""

    def __init__(self, images: Images, folder: Path) -> None:
        """Read from `folder` what `images` records."""
        self.images, self.folder = images, folder
        digest = sha256_hex(images.encode())
        self.identity = SourceIdentity(f"folder:{images.name}", digest, "all", len(images.pictures), digest)

    def read(self, row: int) -> SourceImage:
        """See `ImageSource.read`.

        Raises:
            DigestMismatch: the file is not the one that was recorded.
            DatasetError: there is no such row, or the file cannot be read.

        """
        if not 0 <= row < len(self.images.pictures):
            raise DatasetError(f"row {row} does not exist; expected 0 to {len(self.images.pictures) - 1}")
        picture = self.images.pictures[row]
        data = read_file(self.folder / picture.path)
        found = sha256_hex(data)
        if found != picture.sha256:
            hint = "Put the file back as it was, or evaluate the folder as it is now into another --out."
            raise DigestMismatch(f"{picture.path} changed since", picture.sha256, found, hint=hint)
        pixels = decode_picture(data, self.images.wish.longest_side)
        if (got := pixel_digest(pixels)) != picture.pixels:
            hint = "The decoder of this machine gives other pixels than the one that recorded them."
            raise DigestMismatch(f"{picture.path}, decoded", picture.pixels, got, hint=hint)
        return SourceImage(row, pixels, picture.label_index, picture.label)


def record_images(
    out: Path,
    folder: Path,
    wish: ImageOptions,
    *,
    classes: Sequence[str],
    label_of: Callable[[str], tuple[str, int]],
    progress: Progress,
) -> Images:
    """Look at a folder and record it in `out`; or find there what was recorded of the same folder before.

    Args:
        out: the evaluation's folder.
        folder: the user's images.
        wish: what of it is judged.
        classes: the model's class texts; a record made with others is another one.
        label_of: class text and index of a class folder's name; raises for one that is no class.
        progress: told (read, in all).

    Raises:
        DatasetError: no such folder, nothing in it that can be judged, or a folder that is no class.
        LedgerError: `out` records other images.

    """
    found, unnamed = list_candidates(folder)
    for name in sorted({candidate.folder for candidate in found} - {""}):
        label_of(name)  # refuse before everything is read
    chosen, listing = choose(found, wish.limit, wish.seed), _digest_listing(found)
    path = out / IMAGES_FILE
    if path.exists():
        known = read_images(out)
        _require_same(known, wish, listing, tuple(classes), out)
        return known
    pictures, refusals = read_pictures(folder, chosen, label_of, wish.longest_side, progress)
    name = folder.resolve().name or "images"
    images = Images(name, wish, listing, tuple(classes), tuple(pictures), (*unnamed, *refusals))
    if not pictures:
        first = f"{images.refusals[0].path}: {images.refusals[0].reason}"
        raise DatasetError(
            f"none of the {len(chosen)} pictures in {folder} can be judged; the first: {first}"
        )
    write_durably(path, images.encode())
    return images


def read_images(out: Path) -> Images:
    """What `out` records.

    Raises:
        LedgerError: there is no record, or it is damaged.

    """
    path = out / IMAGES_FILE
    try:
        with path.open("rb") as file:
            data = file.read(MAX_RECORD_BYTES + 1)
        found: Any = canonical_json.decode(data[:MAX_RECORD_BYTES])
        return _parse(found)
    except OSError as error:
        raise LedgerError(f"{path} cannot be read: {error.strerror}") from None
    except (canonical_json.NotCanonical, KeyError, TypeError, ValueError) as error:
        raise LedgerError(f"{path} is not a record of images: {error!r}") from None


def open_images(out: Path, folder: Path) -> FolderSource:
    """The data set of the evaluation in `out`, whose pictures lie in `folder`.

    Raises:
        LedgerError: `out` has no record of images, or a damaged one.

    """
    return FolderSource(read_images(out), folder)


def _parse(found: dict[str, Any]) -> Images:
    if found["format"] != FORMAT:
        raise ValueError(f"format {found['format']}, expected {FORMAT}")
    wish = found["wish"]
    return Images(
        name=str(found["name"]),
        wish=ImageOptions(wish["limit"] or None, wish["seed"], wish["longest_side"] or None),
        listing=str(found["listing"]),
        classes=tuple(found["classes"]),
        pictures=tuple(Picture(*row) for row in found["pictures"]),
        refusals=tuple(Refusal(*row) for row in found["refused"]),
    )


def _digest_listing(found: Sequence[Candidate]) -> str:
    return canonical_json.digest([list(astuple(candidate)) for candidate in found])


def _name(classes: tuple[str, ...]) -> str:
    return f"{len(classes)} of digest {canonical_json.digest(list(classes))[:16]}"


def _require_same(
    known: Images, wish: ImageOptions, listing: str, classes: tuple[str, ...], out: Path
) -> None:
    facts: tuple[tuple[str, object, object], ...] = (
        ("--limit", known.wish.limit, wish.limit),
        ("--seed", known.wish.seed, wish.seed),
        ("--longest-side", known.wish.longest_side, wish.longest_side),
        ("the files in the folder", known.listing[:16], listing[:16]),
        ("the model's classes", _name(known.classes), _name(classes)),
    )
    for name, there, here in facts:
        if there != here:
            raise LedgerError(
                f"{out} judges other images: {name}: {there} there, {here} here",
                hint="give the same images and options to go on with it, or name another --out",
            )
