"""Memory of a process that runs for months: what a round no longer needs goes back to the system.

- asyncio, pools and exceptions leave cycles behind. The collector looks at old objects rarely, and a cycle
  may hold images, so it is asked after every round. What was there at the start is set aside (`gc.freeze`)
  and costs it nothing.
- glibc keeps what was freed between blocks that are in use, and its resident memory follows the largest round
  of all. `malloc_trim` returns whole free pages, those inside the heap too. Another C library has no such
  call, and nothing is done there.

Source: man 3 malloc_trim; the documentation of Python's `gc` module.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from functools import cache


def set_aside() -> None:
    """Count what exists now as there for good; call it once, when everything is open."""
    gc.collect()
    gc.freeze()


def give_back() -> None:
    """Collect cycles and return free pages to the system: some milliseconds, between rounds."""
    gc.collect()
    trim = _find_trim()
    if trim is not None:
        trim(0)


@cache
def _find_trim() -> Callable[[int], int] | None:
    """The function of glibc, or None where the C library has none."""
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found
