"""What the validator of the soak holds in memory, round by round and life by life.

A process that has just started grows for a while (libraries, arenas, caches), so a life is looked at from
WARM_ROUNDS on. Two slopes are asked for, both in megabytes of resident memory for 100 rounds:

- within a long life: the median over all pairs of samples (Theil and Sen), which a single large round cannot
  tilt;
- from life to life: what a life holds at its end, over the rounds in the ledger by then. A validator that is
  killed often never grows old, but what it opens does.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

LIMIT_MB = 1.0  # for 100 rounds
WARM_ROUNDS = 100  # 790 rounds of one life: 3 MB in the first hundred, 0.08 MB for each hundred after them
LONG_ROUNDS = 100  # a life shorter than these and WARM_ROUNDS says nothing about a slope
SETTLED_ROUNDS = 5  # what a life must have closed to be compared with others
FEWEST_LIVES = 6

Sample = tuple[int, float]  # rounds closed in the ledger, megabytes


@dataclass
class Memory:
    """Samples of every life."""

    lives: list[list[Sample]] = field(default_factory=list)

    def begin_life(self) -> None:
        """Start a list of its own for a process."""
        self.lives.append([])

    def weigh(self, process: int, closed: int) -> None:
        """Note what a process holds after a round; nothing if it has just ended."""
        try:
            pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return
        self.lives[-1].append((closed, pages * os.sysconf("SC_PAGE_SIZE") / 1e6))

    def within(self) -> float:
        """The slope of the last life; NaN if it was no long one."""
        warm = self.lives[-1][WARM_ROUNDS:] if self.lives else []
        return slope(warm) if len(warm) >= LONG_ROUNDS else float("nan")

    def between(self) -> float:
        """The slope over lives; NaN if too few of them were long enough to settle."""
        ends = [life[-1] for life in self.lives[:-1] if len(life) >= SETTLED_ROUNDS]
        return slope(ends) if len(ends) >= FEWEST_LIVES else float("nan")

    def check(self) -> None:
        """Both slopes are at most LIMIT_MB, where they can be told."""
        for name, found in (("within a life", self.within()), ("from life to life", self.between())):
            assert not found > LIMIT_MB, f"memory {name}: {found:.2f} MB for 100 rounds, allowed {LIMIT_MB}"


def slope(samples: Sequence[Sample]) -> float:
    """Megabytes for 100 rounds: the median over all pairs of samples; NaN for fewer than two."""
    rises = [
        (b - a) / (later - before)
        for number, (before, a) in enumerate(samples)
        for later, b in samples[number + 1 :]
        if later > before
    ]
    return 100 * median(rises) if rises else float("nan")
