"""What was seen of a file when all of it was hashed, so that seeing it again costs a `stat`.

Rules
- A file is hashed whole once; beside its SHA-256 stand its size, mtime, ctime and inode.
- While all four are as they were, the file is taken for unchanged. The mtime alone can be set by anybody
  (`touch -r`, `cp -p`, `rsync -t`); the ctime cannot, short of changing the system's clock.
- When one differs, the file is hashed again: what was only moved or copied has the same digest and is right.
- What a `stat` can never show (a disk that rots) shows when every byte is hashed (`--paranoid`), and in every
  row that is read, which is compared with its own leaf.

Source: git's index compares files in the same way (git documentation, racy-git.txt). A file that changes
while it is hashed is refused, so a witness never speaks of bytes that were not seen.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from perturbnet.errors import ArtifactError, ArtifactMissing, DigestMismatch
from perturbnet.runtime.artifacts import sha256_file


@dataclass(frozen=True, slots=True)
class FileWitness:
    """One file: path, bytes, hex SHA-256; times in ns since 1970 and inode as `stat` gives them."""

    path: str
    size: int
    sha256: str
    mtime_ns: int
    ctime_ns: int
    inode: int

    def to_json(self) -> dict[str, str | int]:
        """Return the fields by name."""
        return asdict(self)


def read_witness(stated: object, where: str) -> FileWitness:
    """Return what `FileWitness.to_json` wrote.

    Raises:
        ArtifactError: it is something else; `where` names the file that states it.

    """
    kinds = {field.name: str if field.type in (str, "str") else int for field in fields(FileWitness)}
    if not isinstance(stated, Mapping) or set(stated) != set(kinds):
        raise ArtifactError(f"{where}: {str(stated)[:80]!r} does not describe a file")
    for name, kind in kinds.items():
        if not isinstance(stated[name], kind) or isinstance(stated[name], bool):
            raise ArtifactError(f"{where}: {name} is {stated[name]!r}, expected {kind.__name__}")
    values: dict[str, Any] = dict(stated)
    return FileWitness(**values)


def witness_file(path: Path) -> FileWitness:
    """Hash a file and remember how it looked.

    Raises:
        ArtifactMissing: there is no such file.
        ArtifactError: it changed while it was read.

    """
    before = _stat(path)
    if before is None:
        raise ArtifactMissing(f"{path} does not exist")
    sha256 = sha256_file(path)
    after = _stat(path)
    if after is None or _look(before) != _look(after):
        raise ArtifactError(f"{path} changed while it was read", hint="Is another program writing to it?")
    return FileWitness(str(path), after.st_size, sha256, after.st_mtime_ns, after.st_ctime_ns, after.st_ino)


def require_unchanged(witness: FileWitness, *, paranoid: bool = False, hint: str = "") -> None:
    """Return if a file is still what was hashed; hash it again if it looks different, or if `paranoid`.

    Raises:
        ArtifactMissing: it is gone.
        DigestMismatch: it has another size or another digest.

    """
    path = Path(witness.path)
    found = _stat(path)
    if found is None:
        raise ArtifactMissing(f"{path} is gone", hint=hint)
    if found.st_size != witness.size:
        raise DigestMismatch(str(path), f"{witness.size} bytes", f"{found.st_size} bytes", hint=hint)
    expected = (witness.size, witness.mtime_ns, witness.ctime_ns, witness.inode)
    if not paranoid and _look(found) == expected:
        return
    sha256 = sha256_file(path)
    if sha256 != witness.sha256:
        raise DigestMismatch(str(path), f"sha256 {witness.sha256}", f"sha256 {sha256}", hint=hint)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _look(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
