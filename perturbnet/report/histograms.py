"""Distributions in fixed room: how many values fell where, whatever their number.

Values are counted in fine bins between two bounds; what lies outside is counted in the outermost. A chart
merges fine bins into a few bars with round edges; a quantile is exact to a fine bin's width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

FINE_BINS = 4000
BARS = 20
ROUND_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class HistogramBar:
    """One bar: values from `low` to before `high`."""

    low: float
    high: float
    count: int


@dataclass
class Histogram:
    """Counts between `low` and `high`; `bins` must be a multiple of what the axis shows as round numbers."""

    low: float
    high: float
    bins: int = FINE_BINS
    counts: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        """Begin with nothing."""
        self.counts = np.zeros(self.bins, dtype=np.int64)

    def add(self, value: float, times: int = 1) -> None:
        """Count a value."""
        place = math.floor((value - self.low) / self.width + 1e-9)  # a value on an edge belongs above it
        self.counts[min(max(place, 0), self.bins - 1)] += times

    @property
    def width(self) -> float:
        """Of a fine bin."""
        return (self.high - self.low) / self.bins

    @property
    def total(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    def quantile(self, share: float) -> float:
        """The middle of the fine bin below which `share` of the values lie; NaN where there are none."""
        total = self.total
        if not total:
            return math.nan
        place = int(np.searchsorted(np.cumsum(self.counts), max(1, math.ceil(share * total))))
        return self.low + (place + 0.5) * self.width

    def bars(self, most: int = BARS) -> list[HistogramBar]:
        """At most `most` bars (and one more at each end) that cover all values, with round edges."""
        filled = np.flatnonzero(self.counts)
        if not len(filled):
            return []
        first = self.low + int(filled[0]) * self.width
        last = self.low + (int(filled[-1]) + 1) * self.width
        step = self._step((last - first) / most)
        begin = self.low + math.floor((first - self.low) / step + 1e-9) * step
        bars = []
        for number in range(max(1, math.ceil((last - begin) / step - 1e-9))):
            low, high = begin + number * step, begin + (number + 1) * step
            bars.append(HistogramBar(low, high, int(self.counts[self._place(low) : self._place(high)].sum())))
        return bars

    def _place(self, value: float) -> int:
        return min(max(round((value - self.low) / self.width), 0), self.bins)

    def _step(self, least: float) -> float:
        """A round number of fine bins, at least `least` wide."""
        wanted = max(1.0, least / self.width - 1e-9)
        size = 10.0 ** math.floor(math.log10(wanted))
        return next(size * step for step in ROUND_STEPS if size * step >= wanted - 1e-9) * self.width


Format = Callable[[float], str]
"""How a value of a distribution is written."""
