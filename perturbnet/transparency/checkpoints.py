"""Checkpoints: a log's name, its size and its root, signed.

The text of the note has three lines: the origin, the size in decimal without leading zeroes, the root in
base64. Extension lines are read and kept, and never written: no monitor can check them.

Source: c2sp.org/tlog-checkpoint.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from perturbnet.errors import NoteError
from perturbnet.ledger.merkle import HASH_BYTES
from perturbnet.transparency.notes import Note, SigningKey, decode_base64

MAX_SIZE = 2**48
_SIZE = re.compile(r"0|[1-9][0-9]{0,15}")


@dataclass(frozen=True)
class Checkpoint:
    """A tree head: the log's name, how many leaves, the 32-byte root over them."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        """The text that is signed."""
        root = base64.b64encode(self.root).decode()
        return "".join(f"{line}\n" for line in (self.origin, self.size, root, *self.extensions))


def sign_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> Note:
    """The checkpoint as a note with the log's own signature."""
    text = checkpoint.text()
    return Note(text, (key.sign(text),))


def parse_checkpoint(text: str) -> Checkpoint:
    """Read the text of a checkpoint; nothing is verified.

    Raises:
        NoteError: another form.

    """
    if not text.endswith("\n"):
        raise NoteError("a checkpoint does not end with a newline")
    lines = text[:-1].split("\n")
    if len(lines) < 3 or not all(lines):
        raise NoteError(f"a checkpoint has three lines or more and none is empty, this has {len(lines)}")
    origin, size, root = lines[:3]
    if not _SIZE.fullmatch(size) or int(size) > MAX_SIZE:
        raise NoteError(f"the size {size[:40]!r} of a checkpoint is no decimal number up to {MAX_SIZE}")
    return Checkpoint(origin, int(size), parse_hash(root), tuple(lines[3:]))


def parse_hash(text: str) -> bytes:
    """Read a 32-byte hash in base64.

    Raises:
        NoteError: another length or another form.

    """
    try:
        data = decode_base64(text)
    except ValueError:
        data = b""
    if len(data) != HASH_BYTES:
        raise NoteError(f"{text[:60]!r} is not the base64 of a hash of {HASH_BYTES} bytes")
    return data


def encode_hash(data: bytes) -> str:
    """A hash in base64."""
    return base64.b64encode(data).decode()
