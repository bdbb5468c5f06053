"""Pinned files, and how to write a file that survives a crash.

Rules
- A file that is used has the digest it was pinned with, or it is not used. The error names what was expected.
- A file is replaced whole or not at all: the bytes go to a temporary file in the same folder, are flushed to
  the disk (`fsync`), the file is renamed over its name (atomic, POSIX rename(2)), and the folder is flushed
  too, because the new name lives there. After a crash the name holds the old bytes or the new ones, never a
  part. The order is that of FiloSottile/sunlight, internal/durable/path.go.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO

from perturbnet.errors import ArtifactMissing, DigestMismatch
from perturbnet.runtime.folders import sync_folder

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Pin:
    """A file that is known: what it is called, the hex SHA-256 of its bytes, and their number."""

    name: str
    sha256: str
    size: int


def read_pins(name: str) -> dict[str, Any]:
    """Return a pins file of the package, such as `imagenet100.json`."""
    text = resources.files("perturbnet").joinpath(f"data/{name}").read_text(encoding="utf-8")
    pins: dict[str, Any] = json.loads(text)
    return pins


def sha256_file(path: Path) -> str:
    """Return the hex SHA-256 of a file, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def verify_file(path: Path, pin: Pin, *, hint: str = "") -> Path:
    """Return `path` if it holds the bytes that `pin` names; the size is looked at first.

    Raises:
        ArtifactMissing: there is no such file; `hint` says how to get it.
        DigestMismatch: another size or another digest.

    """
    if not path.is_file():
        raise ArtifactMissing(f"{pin.name} is missing: {path} does not exist", hint=hint)
    size = path.stat().st_size
    if size != pin.size:
        raise DigestMismatch(f"{pin.name} ({path})", f"{pin.size} bytes", f"{size} bytes", hint=hint)
    found = sha256_file(path)
    if found != pin.sha256:
        raise DigestMismatch(f"{pin.name} ({path})", f"sha256 {pin.sha256}", f"sha256 {found}", hint=hint)
    return path


def write_durably(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Put `data` at `path`, whole or not at all, and return only when it would survive a power cut.

    `mode` is the file's mode, whatever the umask; a secret wants 0o600.

    Raises:
        OSError: the disk is full, or the folder does not exist or may not be written to. `path` is then as
            before.

    """

    def write(file: BinaryIO) -> None:
        file.write(data)

    replace_durably(path, write, mode=mode)


def replace_durably(path: Path, write: Callable[[BinaryIO], None], *, mode: int = 0o644) -> None:
    """Like `write_durably`, for content too large to hold: `write` fills the temporary file.

    Raises:
        OSError: as `write_durably`. Whatever `write` raises passes through; `path` is then as before.

    """
    with _temporary(path) as (file, temporary):
        write(file)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
        temporary.replace(path)
    sync_folder(path.parent)


@contextmanager
def _temporary(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Open a file beside `path`; it is gone at the end unless it was renamed."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file, temporary
    finally:
        temporary.unlink(missing_ok=True)
