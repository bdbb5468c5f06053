"""Content-addressed files: the bytes that leaves only name by digest.

A blob is written once, durably (temporary file, fsync, rename, fsync of the folder), before anything refers to it, and
read back only if it still has its digest. The layout is `blobs/<first two hex digits>/<digest>`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from perturbnet.artifacts import write_durably
from perturbnet.errors import ArtifactMissing, DigestMismatch


class BlobStore:
    """A folder of blobs."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`; it is created when the first blob is written."""
        self.folder = folder

    def put(self, data: bytes) -> str:
        """Store `data` durably and return its hex SHA-256."""
        digest = hashlib.sha256(data).hexdigest()
        path = self._path(digest)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, data)
        return digest

    def get(self, digest: str) -> bytes:
        """Read a blob.

        Raises:
            ArtifactMissing: there is none (or retention removed it).
            DigestMismatch: it is damaged.

        """
        path = self._path(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise ArtifactMissing(f"blob {digest} is not in {self.folder}") from None
        got = hashlib.sha256(data).hexdigest()
        if got != digest:
            raise DigestMismatch(f"blob {path.name}", digest, got)
        return data

    def drop(self, digest: str) -> None:
        """Forget a blob; its digest stays in the log."""
        self._path(digest).unlink(missing_ok=True)

    def _path(self, digest: str) -> Path:
        return self.folder / digest[:2] / digest
