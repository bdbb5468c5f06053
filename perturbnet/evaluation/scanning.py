"""Which pictures of a user's folder are judged: found, read once; what is refused is named with its reason.

Rules
- Files are taken in the order of their paths; links are not followed, other names than PICTURE_SUFFIXES and
  names that begin with a dot are left alone.
- A picture is read as the network reads a data set's (`datasets.decode_stored`: no EXIF rotation, RGB), by
  one of the decoders in FORMATS only. Its bytes and its pixels are capped before they are read or decoded.
- Refused, with its reason: what does not decode, what is too large, or too small for the SSIM window, and
  what has the same pixels as a picture before it, for an image counts once.
- A picture's class is the folder right below the user's that it lies in; none where it lies in no folder.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from perturbnet.datasets.source import decode_stored
from perturbnet.datasets.user_images import MAX_PICTURE_BYTES
from perturbnet.errors import ChallengeError, DatasetError, RowUnreadable
from perturbnet.rounds.challenges import require_size
from perturbnet.rules.freshness import rescale
from perturbnet.runtime.progress import Progress
from perturbnet.wire.digests import sha256_hex
from perturbnet.wire.images import Pixels, pixel_digest

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
MAX_DECODED_PIXELS = 1 << 26  # 192 MiB of RGB, before `longest_side` makes it smaller
MAX_FILES = 2_000_000
MAX_REASON_CHARACTERS = 200
_FAULTS = (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError, Warning)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may be a picture: its path below the folder, in parts joined by /, and its bytes."""

    path: str
    size_bytes: int

    @property
    def folder(self) -> str:
        """The class's folder; empty where the file lies in none."""
        head, slash, _ = self.path.partition("/")
        return head if slash else ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that is judged: what it must be when it is read again."""

    path: str
    sha256: str
    pixels: str  # digest of the pixels that are judged
    label: str  # class text, "" where it has none
    label_index: int  # -1 where it has none


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file that is not judged, and why."""

    path: str
    reason: str


def list_candidates(folder: Path) -> tuple[list[Candidate], list[Refusal]]:
    """Every file in `folder` that may be a picture, by path; and those whose names cannot be recorded.

    Raises:
        DatasetError: there is no such folder, or it holds no picture or too many.

    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} is no folder of images", hint="name a folder: DIR/class/picture.png")
    found, unnamed = [], []
    for path in _walk(folder):
        name = path.relative_to(folder).as_posix()
        if name.isprintable():
            found.append(Candidate(name, path.lstat().st_size))
        else:
            unnamed.append(Refusal(ascii(name), "a name that cannot be recorded: rename it"))
        if len(found) > MAX_FILES:
            raise DatasetError(f"{folder} holds more than {MAX_FILES} pictures", hint="judge it in parts")
    if not found:
        kinds = ", ".join(PICTURE_SUFFIXES)
        raise DatasetError(f"{folder} holds no picture", hint=f"pictures are files that end in {kinds}")
    return sorted(found, key=lambda candidate: candidate.path), unnamed


def choose(candidates: Sequence[Candidate], limit: int | None, seed: str) -> list[Candidate]:
    """All of them, or `limit` that the seed chooses, whatever they hold; by path."""
    if limit is None or limit >= len(candidates):
        return list(candidates)
    drawn = sorted(candidates, key=lambda each: hashlib.sha256(f"{seed}\n{each.path}".encode()).digest())
    return sorted(drawn[:limit], key=lambda candidate: candidate.path)


def read_pictures(
    folder: Path,
    candidates: Sequence[Candidate],
    label_of: Callable[[str], tuple[str, int]],
    longest_side: int | None,
    progress: Progress,
) -> tuple[list[Picture], list[Refusal]]:
    """Read every candidate once: the pictures that can be judged, and the files that cannot, with reasons.

    Args:
        folder: the user's.
        candidates: of `list_candidates`.
        label_of: class text and index of a class folder's name.
        longest_side: larger pictures are made smaller, see `fit`.
        progress: told (read, in all).

    """
    pictures: list[Picture] = []
    refusals: list[Refusal] = []
    seen: dict[str, str] = {}
    for number, candidate in enumerate(candidates, 1):
        try:
            data = read_file(folder / candidate.path)
            digest = pixel_digest(decode_picture(data, longest_side))
            if digest in seen:
                raise ChallengeError(f"the same pixels as {seen[digest]}")
        except (DatasetError, ChallengeError) as error:
            refusals.append(Refusal(candidate.path, _reason(error)))
        else:
            seen[digest] = candidate.path
            label, index = label_of(candidate.folder) if candidate.folder else ("", -1)
            sha256 = sha256_hex(data)
            pictures.append(Picture(candidate.path, sha256, digest, label, index))
        progress(number, len(candidates))
    return pictures, refusals


def read_file(path: Path) -> bytes:
    """The bytes of a picture, at most MAX_PICTURE_BYTES.

    Raises:
        DatasetError: it cannot be read, is no plain file, or is larger.

    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            data = file.read(MAX_PICTURE_BYTES + 1)
    except OSError as error:
        raise DatasetError(f"{path.name} cannot be read: {error.strerror}") from None
    if len(data) > MAX_PICTURE_BYTES:
        raise DatasetError(f"{path.name}: more than {MAX_PICTURE_BYTES} bytes")
    return data


def decode_picture(data: bytes, longest_side: int | None) -> Pixels:
    """The pixels that are judged, uint8 (H, W, 3).

    Raises:
        RowUnreadable: not a picture of FORMATS, damaged, or of more than MAX_DECODED_PIXELS.
        ChallengeError: too small or too large to be judged.

    """
    _require_format(data)
    pixels = decode_stored(0, data)
    if longest_side is not None:
        pixels = fit(pixels, longest_side)
    require_size(0, pixels)
    return pixels


def fit(pixels: Pixels, longest_side: int) -> Pixels:
    """Make a picture smaller, in exact integers, until its longer side is `longest_side`; never larger."""
    height, width, _ = pixels.shape
    longer = max(height, width)
    if longer <= longest_side:
        return pixels
    return rescale(pixels, max(1, height * longest_side // longer), max(1, width * longest_side // longer))


def _require_format(data: bytes) -> None:
    """Only our decoders, and the size its header claims, before anything is decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                width, height = picture.size
    except _FAULTS as error:
        raise RowUnreadable(0, f"not a picture ({', '.join(FORMATS)}): {type(error).__name__}") from None
    if width * height > MAX_DECODED_PIXELS:
        raise RowUnreadable(0, f"{width}x{height}: more than {MAX_DECODED_PIXELS} pixels")


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            path = Path(parent) / name
            if not name.startswith(".") and path.suffix.lower() in PICTURE_SUFFIXES and path.is_file():
                yield path


def _reason(error: DatasetError | ChallengeError) -> str:
    text = error.message.removeprefix("row 0 is unreadable: ").removeprefix("row 0: ")
    return "".join(character for character in text if character.isprintable())[:MAX_REASON_CHARACTERS]
