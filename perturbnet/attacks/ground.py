"""One image as a searcher sees it: flat level changes, what they cost, and the moves that pay best.

A change is an int16 vector of level differences, one for each value of the image in C order. Its cost is
the sum of its squares, which is what the score's second part depends on, and `per_value` for each changed
value where the caller wants few of them. Moving a value from j - 1 to j levels away costs 2j - 1 and gains
its share of the margin, so a direction (margin per level, signed) and a price (margin that one unit of cost
must bring) say how far each value goes: `fill`. For one level this is "the n values of largest gradient", and
the two aims are one. Where the SSIM gate binds, a value's cost is multiplied by its dearness.
Everything here is arithmetic; no pass of a model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from perturbnet.attacks.protocol import Floats
from perturbnet.wire.images import Pixels

Change = NDArray[np.int16]  # (values,)
LEAST_PRICE, HALVINGS = 1e-7, 12  # of the largest gradient; of the way between, in its logarithm


class Ground:
    """The clean image and how far each value may move at a level."""

    def __init__(self, clean: Pixels, per_value: int = 0) -> None:
        """Take a uint8 image (H, W, 3), and what a changed value costs beside its square."""
        self.per_value = per_value
        self.shape = clean.shape
        self.flat = clean.reshape(-1).astype(np.int16)
        self.values = self.flat.size

    def images(self, changes: NDArray[np.int16]) -> Pixels:
        """Apply changes (N, values) that stay inside 0 to 255: uint8 (N, H, W, 3)."""
        return (self.flat + changes).astype(np.uint8).reshape(-1, *self.shape)

    def nothing(self, rows: int = 1) -> NDArray[np.int16]:
        """No change, (rows, values)."""
        return np.zeros((rows, self.values), np.int16)

    def dense(self, direction: Floats, level: int) -> Change:
        """Every value that counts as far as the level allows, against `direction`."""
        return self._clip(-level * np.sign(direction).astype(np.int16))

    def fill(
        self,
        direction: Floats,
        price: float,
        level: int,
        *,
        evenness: float = 1.0,
        dearness: Floats | None = None,
    ) -> Change:
        """Every move whose margin per cost is at least `price`.

        Args:
            direction: margin per level, signed, (values,).
            price: the margin that the first level of a value must bring; more levels in proportion to cost.
            level: the largest change of a value.
            evenness: 1 takes steps at their cost; less takes later steps of a value as cheaper than they are,
                and 0 takes all or none, which is best where the margin falls faster the further one goes.
            dearness: factors of the cost, (values,).

        """
        bought = np.abs(direction) * np.float32(1 / price)
        if dearness is not None:
            bought /= dearness
        if evenness == 0:
            steps = np.where(bought >= 1, np.float32(level), np.float32(0))
        elif self.per_value:
            bought *= 1 + self.per_value
            steps = np.floor(np.clip((bought + 1) * np.float32(0.5), 1, level))
            steps *= (bought - steps) * steps >= self.per_value
        else:
            bought = bought if evenness == 1 else bought ** np.float32(1 / evenness)
            steps = np.floor(np.minimum((bought + 1) * np.float32(0.5), level))
        return self._clip((-np.sign(direction) * steps).astype(np.int16))

    def gain(self, change: Change, direction: Floats) -> float:
        """By how much a change lowers the margin if it is linear along `direction`."""
        return -float(np.dot(direction, change.astype(np.float32)))

    def fill_to(
        self, direction: Floats, gain: float, level: int, *, dearness: Floats | None = None
    ) -> Change:
        """The cheapest change that gains about so much, or the dense one if that does not."""
        best, high = self.dense(direction, level), float(np.abs(direction).max())
        low = high * LEAST_PRICE
        for _ in range(HALVINGS):
            price = float(np.sqrt(low * high))
            found = self.fill(direction, price, level, dearness=dearness)
            if self.gain(found, direction) >= gain:
                best, low = found, price
            else:
                high = price
        return best

    def swap(
        self,
        change: Change,
        gradient: Floats,
        moves: int,
        *,
        slack: float,
        level: int,
        dearness: Floats | None = None,
    ) -> Change:
        """Take back the `moves` steps that do least, and add the fewest that pay for them.

        Args:
            change: a flip.
            gradient: of the margin, at the flip.
            moves: steps to take back.
            slack: how far below 0 the margin stands.
            level: the largest change of a value.
            dearness: factors of the cost, (values,).

        """
        size, away = np.abs(change), np.sign(change)
        dear = 1 if dearness is None else dearness
        stride = np.where(size > 0, size if self.per_value else 1, 0)  # few values: back to clean at once
        worth = np.where(size > 0, -gradient * away * stride, np.inf)  # margin that a step back gives up
        saving = stride * (2 * size - stride) + self.per_value
        back = _least(worth / (np.maximum(saving, 1) * dear), moves)
        debt = float(worth[back].sum()) - slack
        out = change.copy()
        out[back] -= (away * stride)[back].astype(np.int16)
        if debt <= 0:
            return out
        step = self._steps(change, gradient, level)
        gain = np.where(step == 0, 0, np.abs(gradient * step))
        gain[back] = 0
        stride = np.abs(step)
        rate = gain / ((stride * (2 * size + stride) + self.per_value * (size == 0) + (step == 0)) * dear)
        forth = _least(-rate, min(2 * moves, rate.size - 1))
        forth = forth[np.argsort(-rate[forth])]
        enough = int(np.searchsorted(np.cumsum(gain[forth]), debt)) + 1
        chosen = forth[:enough][gain[forth[:enough]] > 0]
        out[chosen] += step[chosen]
        return out

    def _steps(self, change: Change, gradient: Floats, level: int) -> Change:
        """The next move away from clean of each value: one level, or all that is left where values count."""
        sign = -np.sign(gradient).astype(np.int16)
        reach = level * sign if self.per_value else change + sign
        aim = self._clip(reach)
        allowed = (np.abs(aim) <= level) & (sign * change >= 0)
        return np.where(allowed, aim - change, 0).astype(np.int16)

    def _clip(self, change: NDArray[np.int16]) -> Change:
        return np.clip(change, -self.flat, 255 - self.flat)

    def cost(self, change: Change) -> int:
        """What a change costs: see the module."""
        return squares(change) + self.per_value * int(np.count_nonzero(change))


def squares(change: Change) -> int:
    """Sum of squares of the level differences."""
    wide = change.astype(np.int64)
    return int(np.dot(wide, wide))


def price_for(direction: Floats, margin: float) -> float:
    """The price at which one-level moves would close `margin` if the model were linear.

    Where all of them would not, the price that leaves only the weakest tenth of the useful values out.
    """
    gains = np.sort(np.abs(direction[direction != 0]))[::-1]
    if gains.size == 0:
        return 1.0
    at = min(int(np.searchsorted(np.cumsum(gains), margin)), int(gains.size * 0.9))
    return float(gains[at])


def _least(ratio: NDArray[np.floating], count: int) -> NDArray[np.intp]:
    count = max(1, min(count, ratio.size - 1))
    return np.argpartition(ratio, count)[:count]
