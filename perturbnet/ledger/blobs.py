"""Content-addressed files: the bytes that leaves only name by digest.

A blob is written once, durably (temporary file, fsync, rename, fsync of the folder), before anything refers
to it, and read back only if it still has its digest. The layout is `blobs/<first two hex digits>/<digest>`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from perturbnet.errors import ArtifactError, ArtifactMissing, DigestMismatch, LedgerError
from perturbnet.runtime.artifacts import write_durably
from perturbnet.runtime.folders import make_folder
from perturbnet.wire.digests import is_digest, sha256_hex


class BlobStore:
    """A folder of blobs."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`; it is created when the first blob is written."""
        self.folder = folder

    def put(self, data: bytes) -> str:
        """Store `data` durably and return its hex SHA-256; a damaged blob of that name is written anew.

        Raises:
            LedgerError: it cannot be written, for example because the disk is full.

        """
        digest = sha256_hex(data)
        path = self._path(digest)
        try:
            if not (path.is_file() and path.read_bytes() == data):
                make_folder(path.parent)
                write_durably(path, data)
        except OSError as error:
            raise LedgerError(f"blob {digest} was not recorded in {self.folder}: {error.strerror}") from error
        return digest

    def get(self, digest: str) -> bytes:
        """Read a blob.

        Raises:
            ArtifactMissing: there is none (or retention removed it).
            DigestMismatch: it is damaged.
            ArtifactError: `digest` is none, or the file cannot be read.

        """
        path = self._path(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise ArtifactMissing(f"blob {digest} is not in {self.folder}") from None
        except OSError as error:
            raise ArtifactError(f"blob {digest} in {self.folder} cannot be read: {error.strerror}") from error
        got = sha256_hex(data)
        if got != digest:
            raise DigestMismatch(f"blob {path.name}", digest, got)
        return data

    def drop(self, digest: str) -> None:
        """Forget a blob; its digest stays in the log."""
        self._path(digest).unlink(missing_ok=True)

    def path(self, digest: str) -> Path:
        """Where a blob lies, whether it is there or not.

        Raises:
            ArtifactError: `digest` is none.

        """
        return self._path(digest)

    def sweep(self, known: Collection[str]) -> int:
        """Remove what is not `known`, and files that a crash left unfinished; return how many went.

        Raises:
            LedgerError: the folder cannot be read, or a file not removed.

        """
        removed = 0
        try:
            for path in self.folder.glob("*/*") if self.folder.is_dir() else ():
                if path.name not in known:
                    path.unlink()
                    removed += 1
        except OSError as error:
            raise LedgerError(f"{self.folder} cannot be swept: {error.strerror}") from error
        return removed

    def _path(self, digest: str) -> Path:
        if not is_digest(digest):
            raise ArtifactError(f"{digest!r} is no digest of a blob: expected 64 lower-case hex digits")
        return self.folder / digest[:2] / digest
