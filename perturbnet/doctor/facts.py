"""What this machine is, as the kernel and torch say it.

Source: adjtimex(2), <sys/timex.h>.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNSYNCHRONISED = 0x40  # STA_UNSYNC


@dataclass(frozen=True)
class ClockState:
    """What the kernel says of its clock: whether anything keeps it right, and how wrong it may be."""

    synchronised: bool
    max_error_s: float


@dataclass(frozen=True)
class Machine:
    """A machine in numbers."""

    processors: int
    memory_bytes: int
    open_files: int
    clock: ClockState | None


def existing(path: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def free_bytes(folder: Path) -> int:
    """What is free where a folder lies or would lie."""
    return shutil.disk_usage(existing(folder)).free


def read_machine() -> Machine:
    """Look at this machine."""
    return Machine(
        processors=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        clock=read_clock(),
    )


def read_gpus() -> list[tuple[str, int]]:
    """Name and memory (bytes) of each CUDA device that torch can use."""
    import torch

    if not torch.cuda.is_available():
        return []
    found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return [(one.name, one.total_memory) for one in found]


class _Timex(ctypes.Structure):
    """The beginning of `struct timex`; adjtimex(2). The rest is room for what the kernel writes after it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def read_clock() -> ClockState | None:
    """Ask the kernel, which needs no right for that (modes 0 changes nothing); None where it does not say."""
    adjtimex: Any = getattr(ctypes.CDLL(None), "adjtimex", None)
    found = _Timex()
    if adjtimex is None or adjtimex(ctypes.byref(found)) < 0:
        return None
    return ClockState(not found.status & UNSYNCHRONISED, found.maxerror / 1e6)
