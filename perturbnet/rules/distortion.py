"""Distortion: how far an adversarial image is from its clean one, with the same result on every machine.

Everything is computed from uint8 RGB pixels of shape (H, W, 3). Sums are integers; what cannot be an integer
has a written order of IEEE 754 double operations, so a stranger's implementation gives the same bits.

SSIM is the mean over all windows and channels of the index of Wang et al. (2004), "Image quality assessment:
from error visibility to structural similarity", with the settings of scikit-image's
`structural_similarity(win_size=11, channel_axis=2, data_range=255, use_sample_covariance=False)`:
uniform window, borders cropped, K1 = 0.01, K2 = 0.03. To rebuild it:

1. For each channel and each of the (H - 10)(W - 10) windows of 11 x 11 values x (clean) and y (adversarial),
   take the integers `Sx = sum x`, `Sy = sum y`, `P = sum (x*x + y*y)`, `C = sum x*y`; N = 121.
2. Scaled by 400 N², the four factors of the index are integers below 2^53, hence exact as doubles:
   `A1 = 800 Sx Sy + 38081241`             (38081241 = 400 N² (0.01 * 255)²)
   `A2 = 800 (N C - Sx Sy) + 342731169`    (342731169 = 400 N² (0.03 * 255)²)
   `B1 = 400 (Sx² + Sy²) + 38081241`
   `B2 = 400 (N P - Sx² - Sy²) + 342731169`
3. `S = (A1 * A2) / (B1 * B2)`: two products and one division, each rounded to nearest even. |S| <= 1.
4. SSIM is the exact (rational) mean of all S, rounded once to the nearest double, ties to even.

The gates compare rationals built from the decimal text of a setting; no rounded decibel or ratio takes part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from perturbnet.wire.images import Pixels

Integers = NDArray[np.int32]
Doubles = NDArray[np.float64]

WINDOW = 11
FULL_SCALE = 255
CHANNELS = 3
PSNR_DIGITS = 60  # of 10^(T/10): its error is far below one part in the integers it is compared with

_AREA = WINDOW * WINDOW
_SCALE = 400  # makes (0.01 * 255)² = 2601/400 and (0.03 * 255)² = 23409/400 integers
_C1 = 2601 * _AREA * _AREA
_C2 = 23409 * _AREA * _AREA
_STRIP_VALUES = 1 << 16  # about what stays in a core's cache: five times faster than whole images at once
_LIMB_BITS = 36  # a sum of 2^16 limbs stays below 2^53, so it is exact as a double in any order
_WIDE = Context(prec=PSNR_DIGITS + 40, rounding=ROUND_HALF_EVEN)
_NARROW = Context(prec=PSNR_DIGITS, rounding=ROUND_HALF_EVEN)


@dataclass(frozen=True, slots=True)
class Distortion:
    """What separates two images of height x width pixels.

    `linf_u8`: greatest difference of a value, in levels of 0 to 255. `changed`: how many of the 3HW values
    differ. `sum_sq`: sum of squared differences, in levels². `ssim`: mean structural similarity, at most 1.
    """

    linf_u8: int
    changed: int
    sum_sq: int
    ssim: float
    height: int
    width: int


def measure(clean: Pixels, adversarial: Pixels) -> Distortion:
    """Measure everything about two images of one shape (H, W, 3), uint8, both sides at least `WINDOW`.

    Raises:
        ValueError: not two such images.

    """
    height, width = _shared_shape(clean, adversarial)
    linf_u8, changed, sum_sq = _differences(clean, adversarial)
    return Distortion(linf_u8, changed, sum_sq, ssim(clean, adversarial), height, width)


def ssim(clean: Pixels, adversarial: Pixels) -> float:
    """Return the structural similarity as the module's docstring defines it.

    Raises:
        ValueError: not two uint8 images of one shape (H, W, 3) with both sides at least `WINDOW`.

    """
    height, width = _shared_shape(clean, adversarial)
    total = sum(_exact_sum(_window_indices(x, y)) for x, y in _strips(clean, adversarial))
    windows = CHANNELS * (height - WINDOW + 1) * (width - WINDOW + 1)
    return float(Fraction(total, windows << 3 * _LIMB_BITS))


def rmse(sum_sq: int, height: int, width: int) -> float:
    """Root mean square error in units of full scale: `sqrt(sum_sq / (3HW)) / 255`, three IEEE operations."""
    return math.sqrt(sum_sq / (CHANNELS * height * width)) / FULL_SCALE


def psnr_micro_db(sum_sq: int, height: int, width: int) -> int | None:
    """Peak signal-to-noise ratio in millionths of a decibel, to nearest; None for equal images.

    For people only. A tie cannot occur: 10^((k + 0.5) / 10^7) is irrational for every integer k.
    """
    if sum_sq == 0:
        return None
    ratio = _WIDE.divide(Decimal(FULL_SCALE**2 * CHANNELS * height * width), Decimal(sum_sq))
    micro_db = _WIDE.multiply(_WIDE.log10(ratio), Decimal(10_000_000))
    return int(micro_db.to_integral_value(ROUND_HALF_EVEN))


def linf_at_least(linf_u8: int, minimum: Decimal | str) -> bool:
    """Whether `linf_u8 / 255 >= minimum`, as rationals. `minimum` is in units of full scale."""
    return Fraction(linf_u8, FULL_SCALE) >= exact_setting(minimum)


def linf_at_most(linf_u8: int, maximum: Decimal | str) -> bool:
    """Whether `linf_u8 / 255 <= maximum`, as rationals. `maximum` is in units of full scale."""
    return Fraction(linf_u8, FULL_SCALE) <= exact_setting(maximum)


def ssim_at_least(value: float, threshold: Decimal | str) -> bool:
    """Whether the double `value`, taken as the rational it is, reaches the decimal threshold."""
    return Fraction(value) >= exact_setting(threshold)


def psnr_at_least(sum_sq: int, height: int, width: int, threshold_db: Decimal | str) -> bool:
    """Whether `sum_sq * 10^(T/10) <= 255² * 3HW`, the power from `psnr_factor`; equal images pass."""
    return sum_sq * psnr_factor(threshold_db) <= FULL_SCALE**2 * CHANNELS * height * width


@lru_cache(maxsize=64)
def psnr_factor(threshold_db: Decimal | str) -> Fraction:
    """10^(T/10) of a decimal text T in decibels, rounded half even to `PSNR_DIGITS` significant digits.

    Raises:
        TypeError: a float, whose decimal text is lost.
        ValueError: not a finite decimal number.

    """
    exact_setting(threshold_db)
    tenth = _WIDE.divide(Decimal(threshold_db), Decimal(10))
    return Fraction(_NARROW.plus(_WIDE.power(Decimal(10), tenth)))


@lru_cache(maxsize=256)
def exact_setting(value: Decimal | str) -> Fraction:
    """Return the rational that a setting's decimal text names.

    Raises:
        TypeError: a float, whose decimal text is lost.
        ValueError: not a finite decimal number.

    """
    if not isinstance(value, (Decimal, str)):
        raise TypeError(f"{type(value).__name__} {value!r} is not exact; pass the decimal text")
    try:
        return Fraction(Decimal(value))
    except (ArithmeticError, ValueError) as error:  # not a number, NaN, an infinity
        raise ValueError(f"{value!r} is not a finite decimal number") from error


def _shared_shape(clean: Pixels, adversarial: Pixels) -> tuple[int, int]:
    for name, image in (("clean", clean), ("adversarial", adversarial)):
        if image.dtype != np.uint8 or image.ndim != CHANNELS or image.shape[2] != CHANNELS:
            found = f"{image.dtype} of shape {image.shape}"
            raise ValueError(f"{name}: expected uint8 of shape (H, W, 3), got {found}")
        if min(image.shape[:2]) < WINDOW:
            raise ValueError(f"{name}: expected both sides at least {WINDOW}, got shape {image.shape}")
    if clean.shape != adversarial.shape:
        raise ValueError(f"expected two images of one shape, got {clean.shape} and {adversarial.shape}")
    return clean.shape[0], clean.shape[1]


def _differences(clean: Pixels, adversarial: Pixels) -> tuple[int, int, int]:
    """Return (linf_u8, changed, sum_sq)."""
    gap = np.maximum(clean, adversarial)
    gap -= np.minimum(clean, adversarial)
    squares = gap.astype(np.uint16)
    squares *= squares  # 255² = 65025 fits
    return int(gap.max()), int(np.count_nonzero(gap)), int(squares.sum(dtype=np.uint64))


def _strips(clean: Pixels, adversarial: Pixels) -> Iterator[tuple[Pixels, Pixels]]:
    """Cut both images into strips of shape (rows + 10, 3W) that together hold every window once."""
    height, width, _ = clean.shape
    x, y = (np.ascontiguousarray(image).reshape(height, -1) for image in (clean, adversarial))
    rows = max(1, _STRIP_VALUES // (CHANNELS * width))
    for top in range(0, height - WINDOW + 1, rows):
        chosen = slice(top, top + rows + WINDOW - 1)
        yield x[chosen], y[chosen]


def _window_indices(clean: Pixels, adversarial: Pixels) -> Doubles:
    """Return S for every window of a strip, steps 1 to 3. No int32 here exceeds 2 * 30855² = 1904062050."""
    x, y = clean.astype(np.int32), adversarial.astype(np.int32)
    sum_x, sum_y = _box_sums(x), _box_sums(y)
    covariance, variance = _box_sums(x * y), _box_sums(x * x + y * y)
    product = sum_x * sum_y
    squares = sum_x * sum_x + sum_y * sum_y
    covariance *= _AREA
    covariance -= product
    variance *= _AREA
    variance -= squares
    upper = _factor(product, 2 * _SCALE, _C1)
    upper *= _factor(covariance, 2 * _SCALE, _C2)
    lower = _factor(squares, _SCALE, _C1)
    lower *= _factor(variance, _SCALE, _C2)
    upper /= lower
    return upper


def _factor(integers: Integers, scale: int, constant: int) -> Doubles:
    """`scale * integers + constant`; both steps are exact, below 2^53."""
    factor = integers * np.float64(scale)
    factor += constant
    return factor


def _box_sums(values: Integers) -> Integers:
    """Sum every 11 x 11 window of one channel in rows of interleaved RGB: (h, 3W) to (h - 10, 3(W - 10))."""
    return _run_sums(_run_sums(values, axis=0, step=1), axis=1, step=CHANNELS)


def _run_sums(values: Integers, *, axis: int, step: int) -> Integers:
    """Sum 11 values that lie `step` apart along `axis`: five additions, by way of sums of 2, 4 and 8."""

    def shifted(source: Integers, by: int, length: int) -> Integers:
        chosen = slice(by * step, by * step + length)
        return source[chosen] if axis == 0 else source[:, chosen]

    extent = values.shape[axis]
    two = shifted(values, 0, extent - step) + shifted(values, 1, extent - step)
    four = shifted(two, 0, extent - 3 * step) + shifted(two, 2, extent - 3 * step)
    length = extent - (WINDOW - 1) * step
    run = shifted(four, 0, length) + shifted(four, 4, length)
    run += shifted(two, 8, length)
    run += shifted(values, 10, length)
    return run


def _exact_sum(values: Doubles) -> int:
    """Return the exact sum of S values, times 2^108.

    A value that is not 0 has |S| >= 38081241 / (B1 * B2) > 2^-54, so it is a multiple of 2^-106: three limbs
    of 36 bits hold it, and each limb's sum over 2^16 values is exact as a double in any order.
    """
    flat, total = values.ravel(), 0
    for start in range(0, flat.size, _STRIP_VALUES):
        rest = flat[start : start + _STRIP_VALUES].copy()
        for shift in (2 * _LIMB_BITS, _LIMB_BITS, 0):
            rest *= 2.0**_LIMB_BITS
            limb = np.rint(rest)
            rest -= limb
            total += int(limb.sum()) << shift
    return total
