"""When only a few passes fit: one gradient, then one change at a time, each chosen by all that was seen.

A large network on a CPU takes seconds for a pass and as long for a verification, so a challenge is three or
four gradients long. A batch is no cheaper by the image there, so nothing is asked in batches.

Along one direction the margin is taken for a function of the linear gain alone (`Ground.gain`), whatever
the level: below the least gain that flips and above the largest that does not lies what is asked next. The
first change has some times the linear size; what it left says how far to go. SSIM costs next to nothing
beside a pass, so nothing is asked that it would refuse: flat places become dearer until it does not. When the
boundary is found, or the most that SSIM lets pass does not flip, a new gradient there joins the direction.
The first flip is shown to the verifier at once, later ones when their level is lower, and the best at the end
(`finds`): an image that is verified early beats none.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from perturbnet.attacks.finds import Finds
from perturbnet.attacks.ground import Change, Ground
from perturbnet.attacks.protocol import AttackTask, Floats

FIRST, FIRST_DENSE = 2.5, 1.3  # of the linear size; of it where that takes more than the least level has
FULL = 0.6  # of a level's gain: from there on the dense change is tried instead
LEAST_GROWTH, MOST_GROWTH, SPARE = 1.3, 8.0, 1.15  # of the gain, while nothing flips; over what should do
BETWEEN = (0.15, 0.85)  # of the way from what failed to what flips
CLOSE = 1.05  # the two are that near: the boundary is found
MEMORY = 0.5  # of the direction, when a gradient joins it
TRUST = 0.2  # in what a gradient promises beyond what it was met at
JITTER = 0.02  # so that two seeds make two images
CAUTIONS = (0.5, 1.0, 2.0, 4.0, 8.0)  # how much dearer flat places become
SSIM_HALVINGS, SLIGHTLY = 5, 1e-3


def search_scarcely(finds: Finds, ground: Ground, task: AttackTask) -> None:
    """Search until the next pass would not end in time; what is found is in `finds`.

    Raises:
        OutOfTime: always, as `Finds` does before such a pass.

    """
    margins, gradients = finds.gradients(ground.nothing())
    noise = np.random.default_rng(task.seed).standard_normal(ground.values, np.float32)
    direction = gradients[0] * (1 + np.float32(JITTER) * noise)
    way = _Way(finds, ground, list(task.levels), direction, float(margins[0]))
    gain = way.first
    while True:
        at = way.follow(gain)
        margins, gradients = finds.gradients(at[None])
        finds.show_in_turn()
        gain = way.turn(at, float(margins[0]), gradients[0])


@dataclass(eq=False)
class _Way:
    """One direction and how far to go along it; `margin` is the clean image's."""

    finds: Finds
    ground: Ground
    levels: list[int]
    direction: Floats
    margin: float
    caution: float = 0.0
    most: float = float("inf")  # the least gain that flipped
    least: tuple[float, float] = field(init=False)  # the largest gain that did not, and what it left

    def __post_init__(self) -> None:
        """Nothing is known but the clean image."""
        self.least = 0.0, self.margin

    @property
    def first(self) -> float:
        """The gain to try first."""
        few = FIRST * self.margin
        return few if few <= self.full(self.levels[0]) else FIRST_DENSE * self.margin

    def follow(self, gain: float) -> Change:
        """Ask until the boundary is found, or seen to be far: where a gradient would help most."""
        change = self._change(gain)
        while True:
            reached = self.ground.gain(change, self.direction)
            left = self._ask(change, reached)
            if self.most <= CLOSE * self.least[0]:
                return change
            gain = self._next(left, reached)
            change = self._change(gain)
            if np.isinf(self.most) and self.ground.gain(change, self.direction) <= CLOSE * reached:
                return change

    def turn(self, at: Change, left: float, gradient: Floats) -> float:
        """Go on in the mean of the direction and a gradient met on the way; the gain to try first."""
        self.direction = MEMORY * self.direction + (1 - MEMORY) * gradient
        self.most, self.least = float("inf"), (0.0, self.margin)
        if self.finds.change is not None:
            self.most = self.ground.gain(self.finds.change, self.direction)
            return self.most / SPARE
        promised = self.ground.gain(at, gradient) + left / TRUST
        denses = (self.ground.dense(self.direction, level) for level in self.levels)
        enough = (dense for dense in denses if self.ground.gain(dense, gradient) > promised)
        dense = next(enough, self.ground.dense(self.direction, self.levels[-1]))
        return self.ground.gain(dense, self.direction)

    def _ask(self, change: Change, reached: float) -> float:
        """The margin that a change leaves; what is known of the boundary follows it."""
        left = float(self.finds.margins(change[None])[0])
        if left < 0:
            self.most = min(self.most, reached)
            self.least = self.least if self.least[0] < self.most else (0.0, self.margin)
        elif reached > self.least[0]:
            self.least = reached, left
        return left

    def _next(self, left: float, reached: float) -> float:
        """The gain to try: between what failed and what flips, or further, by what the last one did."""
        if np.isfinite(self.most):
            least, least_left = self.least
            share = least_left / (least_left - left) if left < 0 else 0.5
            return least + (self.most - least) * float(np.clip(share * SPARE, *BETWEEN))
        wanted = SPARE * reached * self.margin / max(self.margin - left, 1e-9)
        return float(np.clip(wanted, LEAST_GROWTH * reached, MOST_GROWTH * reached))

    def _change(self, gain: float) -> Change:
        """At the least level that gains so much and passes SSIM; else the most that passes it there."""
        for level in self.levels:
            full = self.full(level)
            if np.isinf(self.most) and CLOSE * self.least[0] < full and FULL * full <= gain < full / FULL:
                return self._visible(full, level)
            if gain <= full:
                return self._visible(gain, level)
        return self._visible(self.full(self.levels[-1]), self.levels[-1])

    def _visible(self, gain: float, level: int) -> Change:
        """Flat places dearer, then less, until SSIM lets it pass: that costs no pass of the network."""
        for caution in [self.caution, *(each for each in CAUTIONS if each > self.caution)]:
            self.caution = caution
            change = self._fill(gain, level)
            if self.finds.passes(change):
                return change
        low, high = self.least[0], gain
        for _ in range(SSIM_HALVINGS):
            gain = (low + high) / 2
            change = self._fill(gain, level)
            low, high = (gain, high) if self.finds.passes(change) else (low, gain)
        return self._fill(low, level)

    def _fill(self, gain: float, level: int) -> Change:
        dearness = self.finds.dearness(self.caution)
        return self.ground.fill_to(self.direction, gain * (1 - SLIGHTLY), level, dearness=dearness)

    def full(self, level: int) -> float:
        """What the dense change of a level gains."""
        return self.ground.gain(self.ground.dense(self.direction, level), self.direction)
