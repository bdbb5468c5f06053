"""The two digests the hub names content by, computed piece by piece.

A file kept with Git LFS has the SHA-256 of its bytes. Any other is a git blob: the SHA-1 of `blob <size>`, a
zero byte, and the bytes (git-hash-object). SHA-1 is git's choice, and there the commit vouches for it; every
file of the production profile is an LFS file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO, Protocol

from perturbnet.hub.listing import HubFile

PIECE = 1 << 20


class Digest(Protocol):
    """What hashlib returns."""

    def update(self, data: bytes, /) -> None:
        """Take more bytes."""

    def hexdigest(self) -> str:
        """Hex of the digest so far."""


def start_digest(file: HubFile) -> Digest:
    """Return the digest the hub uses for this file, before its first byte."""
    if file.sha256 is not None:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)


def feed(digest: Digest, source: BinaryIO) -> int:
    """Feed the rest of an open file; return the number of bytes."""
    count = 0
    while piece := source.read(PIECE):
        digest.update(piece)
        count += len(piece)
    return count


def digest_of(file: HubFile, path: Path) -> str:
    """Return the hex digest of what lies at `path`, of the kind the hub names `file` by.

    Raises:
        OSError: it cannot be read.

    """
    digest = start_digest(file)
    with path.open("rb") as source:
        feed(digest, source)
    return digest.hexdigest()
