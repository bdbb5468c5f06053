"""What the SSIM and PSNR gates leave a searcher: where a change is seen, and how much of it passes.

A change that looks like noise to the image lowers SSIM in a window of variance v by about e / (2v + e + C2),
e its own variance there; so a value's share in the loss is the mean of 1 / (2v + C2) over the windows that
hold it, times the square of its change. Flat windows are dear. From two levels on many images fail at the
gate where the label has long fallen; with these weights the same margin is had from the busy places.

Source: SSIM as in docs/verification-spec.md (uniform windows of 11, C2 = (0.03 · 255)²); Wang et al. 2004.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from perturbnet.attacks.protocol import AttackTask, Floats
from perturbnet.wire.images import Pixels

WINDOW = 11
C2 = (0.03 * 255) ** 2


class Gates:
    """The gates of one task; `weights` (values,) float32 have mean 1."""

    def __init__(self, task: AttackTask) -> None:
        """Take the task's thresholds."""
        self._task = task
        self._most = task.clean.size * 255.0**2 / 10 ** (task.min_psnr_db / 10)
        self._weights: Floats | None = None

    @property
    def weights(self) -> Floats:
        """How dear a change of one level is to SSIM, by value; computed when first asked for."""
        if self._weights is None:
            raw = visibility(self._task.clean).reshape(-1)
            self._weights = (raw / raw.mean()).astype(np.float32)
        return self._weights

    def pass_cost(self, cost: int) -> bool:
        """PSNR: whether a change of this sum of squares is small enough."""
        return self._task.min_psnr_db <= 0 or cost <= self._most

    def pass_picture(self, pixels: Pixels) -> bool:
        """SSIM, exact: costs about as much as a small network's pass."""
        return self._task.min_ssim <= 0 or self._task.similarity(pixels) >= self._task.min_ssim


def visibility(clean: Pixels) -> NDArray[np.float64]:
    """(H, W, 3): the sum of 1 / (2v + C2) over the windows that hold a value."""
    values = clean.astype(np.float64)
    mean = _boxes(values) / WINDOW**2
    variance = _boxes(values * values) / WINDOW**2 - mean * mean
    dear = 1 / (2 * variance + C2)
    edge = ((WINDOW - 1, WINDOW - 1), (WINDOW - 1, WINDOW - 1), (0, 0))
    return _boxes(np.pad(dear, edge))


def _boxes(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over every WINDOW × WINDOW square inside."""
    for axis in (0, 1):
        sums = np.cumsum(values, axis=axis)
        zero = np.zeros_like(np.take(sums, [0], axis=axis))
        sums = np.concatenate([zero, sums], axis=axis)
        last = sums.shape[axis]
        values = np.take(sums, range(WINDOW, last), axis=axis) - np.take(
            sums, range(last - WINDOW), axis=axis
        )
    return values
