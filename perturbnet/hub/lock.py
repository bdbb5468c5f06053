"""One process at a time on one file: flock(2), which the kernel releases however the holder ends.

huggingface_hub locks the same file in the same way (filelock's `UnixFileLock`), so it waits for us and we for
it; that lock waits in silence, and a person should see what is waited for. The lock file stays: removing it
would let two processes hold two inodes of one name.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_S = 0.2


@contextmanager
def hold(path: Path, *, sleep: Callable[[float], None], waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock at `path`; `waiting` is called before each sleep while another process has it.

    Raises:
        OSError: the folder cannot be written to, or the file system knows no locks.

    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o664)
    try:
        while not _try(handle):
            waiting()
            sleep(POLL_S)
        yield
    finally:
        os.close(handle)


def _try(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
