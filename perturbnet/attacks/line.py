"""A way out of the label: a rival, a direction towards it, the price at which its boundary was last seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perturbnet.attacks.protocol import Floats

STEP_MEMORY = 0.6  # of the mean of directions, in momentum steps
WIDEST, NARROWEST, SHRINK = 2.0, 1.003, 0.5  # of the factor that prices are spread over, and how it falls


@dataclass(eq=False)
class SearchLine:
    """A rival, the direction away from the label towards it, and where its boundary was last seen."""

    rival: int
    direction: Floats
    start: Floats  # the direction at the clean image
    margins: dict[int, float]  # the last seen with dense changes, by level; 0 is the clean image's
    price: float = 0.0
    width: float = WIDEST
    cost: float = float("inf")
    caution: float = 0.0  # how much dearer the dear values are
    evenness: float = 1.0  # see `Ground.fill`
    steps: int = 0  # momentum steps taken
    gain: float = 0.0  # of margin, in the last of them

    def expect(self, level: int) -> float:
        """The margin that a dense change of this level leaves: as seen, else in proportion to the nearest."""
        if level in self.margins:
            return self.margins[level]
        known = min((seen for seen in self.margins if seen), key=lambda seen: abs(seen - level), default=0)
        clean = self.margins[0]
        return clean if not known else clean - (clean - self.margins[known]) * level / known

    def step_to(self, level: int, margin: float, gradient: Floats) -> None:
        """A momentum step: what a dense change left, and the gradient there."""
        self.gain = self.margins.get(level, margin) - margin
        self.margins[level] = margin
        self.learn(gradient, STEP_MEMORY)
        self.steps += 1

    def hopeful(self, level: int, hope: float) -> bool:
        """Whether steps like the last one would close the margin."""
        return self.margins[level] <= hope * self.gain

    def aim(self, prices: NDArray[np.float64], margins: Floats) -> None:
        """Put the next prices around the boundary that the margins at falling prices show."""
        flips = np.flatnonzero(margins < 0)
        if not flips.size:
            self.width = min(WIDEST, self.width**1.5)
            self.price = float(prices[-1]) / self.width
        elif flips[0] == 0:
            self.width = min(WIDEST, self.width**1.5)
            self.price = float(prices[0]) * self.width ** (0.5 if len(prices) > 1 else 0.1)
        else:
            low, high = flips[0], flips[0] - 1
            share = margins[high] / (margins[high] - margins[low])
            self.price = float(prices[high] * (prices[low] / prices[high]) ** share)
            self.width = max(NARROWEST, self.width**SHRINK)

    def learn(self, gradient: Floats, memory: float) -> None:
        """Take a gradient into the mean; both have the scale of margin per level."""
        self.direction = memory * self.direction + (1 - memory) * gradient
