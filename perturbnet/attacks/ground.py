"""One image as a searcher sees it: flat level changes, what they cost, and the moves that pay best.

A change is an int16 vector of level differences, one for each value of the image in C order. Its cost is
the sum of its squares: that is what the score's second part depends on. Moving a value from j - 1 to j levels
away costs 2j - 1 and gains its share of the margin, so a direction (margin per level, signed) and a price
(margin that one unit of cost must bring) say how far each value goes: `fill`. For one level this is "the n
values of largest gradient". Where the SSIM gate binds, a value's cost is multiplied by its dearness.
Everything here is arithmetic; no pass of a model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from perturbnet.attacks.protocol import Floats, Pixels

Change = NDArray[np.int16]  # (values,)


class Ground:
    """The clean image and how far each value may move at a level."""

    def __init__(self, clean: Pixels) -> None:
        """Take a uint8 image (H, W, 3)."""
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
            price: in units of margin per cost.
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
        else:
            bought = bought if evenness == 1 else bought ** np.float32(1 / evenness)
            steps = np.floor(np.minimum((bought + 1) * np.float32(0.5), level))
        return self._clip((-np.sign(direction) * steps).astype(np.int16))

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
        worth = np.where(size > 0, -gradient * away, np.inf)  # margin that a step back gives up
        back = _least(worth / (np.maximum(2 * size - 1, 1) * dear), moves)
        debt = float(worth[back].sum()) - slack
        out = change.copy()
        out[back] -= away[back]
        if debt <= 0:
            return out
        gain = self._gains(change, gradient, level)
        gain[back] = 0
        rate = gain / ((2 * size + 1) * dear)
        forth = _least(-rate, min(2 * moves, rate.size - 1))
        forth = forth[np.argsort(-rate[forth])]
        enough = int(np.searchsorted(np.cumsum(gain[forth]), debt)) + 1
        chosen = forth[:enough][gain[forth[:enough]] > 0]
        out[chosen] -= np.sign(gradient[chosen]).astype(np.int16)
        return out

    def _gains(self, change: Change, gradient: Floats, level: int) -> Floats:
        """Margin that one more step away from clean gains, 0 where there is no such step."""
        step = -np.sign(gradient).astype(np.int16)
        moved = change + step
        allowed = (np.abs(moved) <= level) & (step * change >= 0)
        inside = (self.flat + moved >= 0) & (self.flat + moved <= 255)
        return np.where(allowed & inside, np.abs(gradient), 0).astype(np.float32)

    def _clip(self, change: NDArray[np.int16]) -> Change:
        return np.clip(change, -self.flat, 255 - self.flat)


def cost(change: Change) -> int:
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
