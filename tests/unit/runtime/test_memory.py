"""After a round nothing unreachable is kept, and freed pages go back to the system."""

from __future__ import annotations

import gc
import os
import weakref
from pathlib import Path

from perturbnet.runtime import memory


class Knot:
    """Refers to itself, as an exception does that is kept by its own frame."""

    def __init__(self) -> None:
        self.itself = self


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_cycles_are_collected_also_after_what_was_set_aside() -> None:
    gc.disable()
    try:
        memory.set_aside()
        knot = Knot()
        alive = weakref.ref(knot)
        del knot
        assert alive() is not None
        memory.give_back()
        assert alive() is None
    finally:
        gc.unfreeze()
        gc.enable()


def test_free_pages_between_used_blocks_are_returned() -> None:
    assert memory._find_trim() is not None  # the tests run on glibc
    # malloc serves these from its heap; every hundredth keeps the top from falling.
    blocks = [bytearray(60_000) for _ in range(1000)]
    kept = blocks[::100]
    del blocks
    before_mb = resident_mb()
    memory.give_back()
    assert before_mb - resident_mb() > 30
    assert len(kept) == 10
