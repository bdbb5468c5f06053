"""Room on the disk: asked for before it is needed, and named when it runs out all the same."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perturbnet.errors import DiskFull

# What a system needs to go on: logs, the ledger's journal, a shell. Never filled by a download.
RESERVE_BYTES = 64 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def require_space(folder: Path, needed: int, what: str) -> None:
    """Return if `needed` bytes fit beside the reserve on the disk that holds `folder` (or will hold it).

    Raises:
        DiskFull: they do not; it names what is needed, what is free, and the folder.

    """
    there = folder
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if needed + RESERVE_BYTES > free:
        raise DiskFull(what, folder, needed, free)


@contextmanager
def naming_full_disk(folder: Path, needed: int, what: str) -> Iterator[None]:
    """Turn the system's "no space", "quota" and "file too large" into our error.

    Raises:
        DiskFull: one of these three happened inside. Another OSError passes through.

    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        free = shutil.disk_usage(folder).free
        raise DiskFull(what, folder, needed, free, reason=error.strerror or "") from error


def readable_bytes(count: float) -> str:
    """Return a number of bytes as a person reads it: 1.5 GB, decimal, as hubs and disks are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
