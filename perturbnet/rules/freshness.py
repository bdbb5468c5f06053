"""Freshness: a seeded rescale, crop and flip of a picture, so that a prepared answer is worth little.

Rules (docs/architecture.md, "Rules of the network"; how little: docs/mining.md; why: docs/adr/0017)
- Rescale 0.8 to 1, height and width apart; a cut of a tenth to a quarter of each side; a flip; in exact
  integers. The seed belongs to the draw and was committed to before the epoch began; the parameters stand in
  the challenge leaf, so an auditor draws and applies them again.
- A seed names several views; which of them is sent depends on the model (`challenges.choose_view`).
- Rescaling is bilinear with half-pixel centres: every output is `(Σ w·u + total // 2) // total` over four
  input pixels with integer weights w, total = Σ w.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from perturbnet.errors import ChallengeError
from perturbnet.wire.images import MAX_PIXELS, MAX_SIDE, Pixels

_SEED_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FreshnessRanges:
    """From where freshness is drawn, least and most in thousandths: the rescale, and the cut of each side.

    `stretch`: height and width are rescaled apart. Of `views` views the first is sent that keeps `keep_milli`
    thousandths of the plain image's margin.
    """

    scale_milli: tuple[int, int] = (800, 1000)
    cut_milli: tuple[int, int] = (100, 250)
    stretch: bool = True
    views: int = 12
    keep_milli: int = 800


# Rules of the network, by the number under `augment` in its rules leaf (0: off). A form that a log may name
# is never changed: another one gets the next number.
FRESHNESS_FORMS = {
    1: FreshnessRanges(cut_milli=(0, 250), stretch=False, views=1, keep_milli=0),
    2: FreshnessRanges(),
}
FRESHNESS_FORM = 2
FRESHNESS_RANGES = FRESHNESS_FORMS[FRESHNESS_FORM]


@dataclass(frozen=True)
class Freshness:
    """How a source image was changed: rescaled, cropped, mirrored where `flip` is 1. Whole pixels."""

    seed: str
    scaled_height: int
    scaled_width: int
    top: int
    left: int
    height: int
    width: int
    flip: int
    view: int = 0  # which of the seed's views; leaves of form 1 do not say it

    def to_leaf(self) -> dict[str, int | str]:
        """As it stands in a challenge leaf."""
        return asdict(self)

    @classmethod
    def from_leaf(cls, leaf: Mapping[str, int | str]) -> Freshness:
        """Read it back from a challenge leaf, which may be a stranger's.

        Raises:
            ChallengeError: fields that are not these, or numbers that no image of allowed size could have.

        """
        wanted = {field.name: str if field.name == "seed" else int for field in fields(cls)}
        if {"view": int} | {name: type(value) for name, value in leaf.items()} != wanted:
            raise ChallengeError(f"not a freshness: expected {', '.join(wanted)}; got {dict(leaf)!r}")
        found = cls(**leaf)  # type: ignore[arg-type]  # names and types were compared above
        if not found.possible:
            raise ChallengeError(f"a freshness that cannot be applied: {found}")
        return found

    @property
    def possible(self) -> bool:
        """Whether seed, sizes and cuts are ones that an image of allowed size could have."""
        return (
            _SEED_HEX.fullmatch(self.seed) is not None
            and 0 < self.scaled_height <= MAX_SIDE
            and 0 < self.scaled_width <= MAX_SIDE
            and self.scaled_height * self.scaled_width <= MAX_PIXELS
            and min(self.top, self.left, self.height - 1, self.width - 1) >= 0
            and self.top + self.height <= self.scaled_height
            and self.left + self.width <= self.scaled_width
            and self.flip in {0, 1}
            and self.view >= 0
        )


def draw_freshness(
    seed: bytes, height: int, width: int, ranges: FreshnessRanges = FRESHNESS_RANGES, *, view: int = 0
) -> Freshness:
    """The parameters that 32 seed bytes name for one view of an image of this size."""
    named = seed + (bytes([view]) if view else b"")
    numbers = hashlib.sha256(b"freshness" + named).digest()
    pick = [int.from_bytes(numbers[i : i + 6], "big") for i in range(0, 30, 6)]
    across = hashlib.sha256(b"freshness width" + named).digest() if ranges.stretch else numbers
    scaled_height = max(1, height * _between(ranges.scale_milli, pick[0]) // 1000)
    scaled_width = max(1, width * _between(ranges.scale_milli, int.from_bytes(across[:6], "big")) // 1000)
    cut_height = scaled_height * _between(ranges.cut_milli, pick[1]) // 1000
    cut_width = scaled_width * _between(ranges.cut_milli, pick[2]) // 1000
    return Freshness(
        seed=seed.hex(),
        scaled_height=scaled_height,
        scaled_width=scaled_width,
        top=pick[3] % (cut_height + 1),
        left=pick[4] % (cut_width + 1),
        height=scaled_height - cut_height,
        width=scaled_width - cut_width,
        flip=numbers[30] & 1,
        view=view,
    )


def apply_freshness(pixels: Pixels, freshness: Freshness) -> Pixels:
    """Rescale, crop, mirror; (H, W, 3) uint8 in, (height, width, 3) uint8 out."""
    scaled = rescale(pixels, freshness.scaled_height, freshness.scaled_width)
    rows = slice(freshness.top, freshness.top + freshness.height)
    columns = slice(freshness.left, freshness.left + freshness.width)
    cropped = scaled[rows, columns]
    return np.ascontiguousarray(cropped[:, ::-1] if freshness.flip else cropped)


def rescale(pixels: Pixels, height: int, width: int) -> Pixels:
    """Bilinear, half-pixel centres, exact: sums of integers, one division that rounds halves up."""
    top, bottom, down = rescale_taps(pixels.shape[0], height)
    left, right, across = rescale_taps(pixels.shape[1], width)
    source = pixels.astype(np.int64)
    down, across = down[:, None, None], across[None, :, None]
    rows = source[top] * (2 * height - down) + source[bottom] * down
    total = 4 * height * width
    mixed = rows[:, left] * (2 * width - across) + rows[:, right] * across
    return ((mixed + total // 2) // total).astype(np.uint8)


def rescale_taps(size: int, wanted: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """For each output: its two input positions, and the second's weight in units of 1 / (2 · wanted)."""
    position = (2 * np.arange(wanted, dtype=np.int64) + 1) * size - wanted
    position = np.clip(position, 0, 2 * wanted * (size - 1))
    first = position // (2 * wanted)
    return first, np.minimum(first + 1, size - 1), position - first * 2 * wanted


def _between(range_milli: tuple[int, int], number: int) -> int:
    low, high = range_milli
    return low + number % (high - low + 1)
