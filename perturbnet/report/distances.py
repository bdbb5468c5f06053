"""How far accepted answers lie from their clean images: four distributions, from the receipts alone.

A receipt names no size of its image. It follows from two of its numbers: the mean square is
255² / 10^(PSNR / 10), and the sum of squares divided by it is the number of values.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from perturbnet.ledger.leaves import ReceiptLeaf
from perturbnet.report.histograms import Histogram
from perturbnet.wire.units import PPB, from_ppb

FULL_SCALE = 255
MOST_LEVELS = 64
LOWEST_SSIM = 0.9


@dataclass(frozen=True)
class Distance:
    """One answer: greatest change and root mean square in levels of 255, share of values changed, SSIM."""

    linf_u8: int
    rmse_u8: float
    changed: float
    ssim: float


def level_histogram() -> Histogram:
    """A distribution of whole levels, each in the middle of its bin."""
    return Histogram(0.5, MOST_LEVELS + 0.5, MOST_LEVELS)


@dataclass
class Distances:
    """The distributions. `odd` counts answers whose figures cannot be; `perturb audit` names them."""

    linf: Histogram = field(default_factory=level_histogram)
    rmse: Histogram = field(default_factory=lambda: Histogram(0.0, 10.0))
    changed: Histogram = field(default_factory=lambda: Histogram(0.0, 1.0))
    ssim: Histogram = field(default_factory=lambda: Histogram(LOWEST_SSIM, 1.0, 10_000))
    odd: int = 0

    def add(self, leaf: ReceiptLeaf) -> None:
        """Take one accepted answer."""
        distance = measure(leaf)
        if distance is None:
            self.odd += 1
            return
        self.linf.add(distance.linf_u8)
        self.rmse.add(distance.rmse_u8)
        self.changed.add(distance.changed)
        self.ssim.add(distance.ssim)


def measure(leaf: ReceiptLeaf) -> Distance | None:
    """The distances that an accepted receipt states; None where they cannot be."""
    if not 1 <= leaf.linf_u8 <= FULL_SCALE or not 1 <= leaf.changed <= leaf.sum_sq:
        return None
    if not 0 < leaf.psnr_micro_db <= 2 * 10**8 or not -PPB <= leaf.ssim_ppb <= PPB:
        return None
    mean_sq = float(FULL_SCALE**2 / 10 ** (leaf.psnr_micro_db / 1e7))
    values = leaf.sum_sq / mean_sq
    return Distance(leaf.linf_u8, mean_sq**0.5, min(1.0, leaf.changed / values), from_ppb(leaf.ssim_ppb))
