"""From pixels to the network's input: our own pinned numbers, never a library's default of the day.

The shorter side is resized to S by antialiased bicubic interpolation (a = -1/2), the middle S×S is kept, and
levels are scaled by mean and standard deviation. Resize and crop are linear and separable, so they are two
matrices: `input = rows @ levels @ columns.T`. Their entries are exact rationals, computed in integers: with
input size n and output size m the distance of input j from output i, in units of the stretched filter, is

    x = ((2j + 1)·m - (2i + 1)·n) / (2·max(n, m))

and Keys' kernel (R. G. Keys, 1981, "Cubic convolution interpolation for digital image processing", equation
15) of a rational is a rational. Rows are normalised to sum 1, which also settles the borders. Nothing is
rounded to uint8 in between: a change of one level must not vanish.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from perturbnet.errors import ModelError
from perturbnet.wire import canonical_json


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Pinned numbers.

    `size` S in pixels (shorter side and crop), `mean` and `std` of levels / 255, all channels alike.
    """

    size: int
    mean: Fraction = Fraction(1, 2)
    std: Fraction = Fraction(1, 2)

    def digest(self) -> str:
        """Hex SHA-256 that names these numbers and the rules of this module."""
        return canonical_json.digest(
            {
                "kernel": "keys-bicubic a=-1/2, antialias, borders renormalised",
                "long_side": "floor(S*long/short)",
                "crop": "floor((side-S)/2)",
                "size": self.size,
                "mean": str(self.mean),
                "std": str(self.std),
            }
        )


REFERENCE = Preprocessing(size=96)
PRODUCTION = Preprocessing(size=480)


@dataclass(frozen=True, slots=True)
class AxisMap:
    """One axis: output i is Σ_j numerators[i][j]·input[starts[i] + j] / denominators[i], all integers."""

    inputs: int
    starts: tuple[int, ...]
    numerators: tuple[tuple[int, ...], ...]
    denominators: tuple[int, ...]

    def matrix(self) -> NDArray[np.float64]:
        """The dense matrix (outputs, inputs), each entry the float64 nearest to the rational."""
        dense = np.zeros((len(self.starts), self.inputs))
        for i, (start, row, whole) in enumerate(
            zip(self.starts, self.numerators, self.denominators, strict=True)
        ):
            dense[i, start : start + len(row)] = [weight / whole for weight in row]
        return dense


@lru_cache(maxsize=256)
def axis_maps(height: int, width: int, size: int) -> tuple[AxisMap, AxisMap]:
    """Return the maps of rows and of columns for an image of `height` × `width` pixels.

    Raises:
        ModelError: a side that is not positive.

    """
    if min(height, width) < 1:
        raise ModelError(
            f"an image of {height}x{width} pixels has no preprocessing; both sides must be at least 1"
        )
    shorter = min(height, width)
    return axis_map(height, size * height // shorter, size), axis_map(width, size * width // shorter, size)


@lru_cache(maxsize=256)
def matrices(height: int, width: int, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return `rows` (size, height) and `columns` (size, width), read-only float64; see the module's text."""
    rows, columns = (axis.matrix() for axis in axis_maps(height, width, size))
    rows.setflags(write=False)
    columns.setflags(write=False)
    return rows, columns


def axis_map(inputs: int, outputs: int, kept: int, kernel: str = "bicubic") -> AxisMap:
    """Build the map from `inputs` to the middle `kept` of `outputs` pixels, 1 <= kept <= outputs.

    `kernel` is one of KERNELS: Keys' cubic, or the triangle; stretched by inputs / outputs where that is
    above 1 (antialias).
    """
    first = (outputs - kept) // 2
    starts, numerators = [], []
    for i in range(first, first + kept):
        start, row = _taps(inputs, outputs, i, KERNELS[kernel])
        starts.append(start)
        numerators.append(row)
    return AxisMap(inputs, tuple(starts), tuple(numerators), tuple(sum(row) for row in numerators))


def _taps(inputs: int, outputs: int, i: int, kernel: Kernel) -> tuple[int, tuple[int, ...]]:
    """Return the first input and the weights of output `i`, over a common denominator that cancels."""
    unit = 2 * max(inputs, outputs)
    reach = kernel.support * unit
    centre = (2 * i + 1) * inputs
    start = max(0, (centre - reach - outputs) // (2 * outputs) + 1)
    stop = min(inputs, -((outputs - centre - reach) // (2 * outputs)))
    weights = [kernel.weight(abs((2 * j + 1) * outputs - centre), unit) for j in range(start, stop)]
    return start, tuple(weights)


def _keys(n: int, d: int) -> int:
    """2·d³ times Keys' kernel (a = -1/2) at n / d >= 0."""
    if n < d:
        return 3 * n**3 - 5 * n**2 * d + 2 * d**3
    if n < 2 * d:
        return -(n**3) + 5 * n**2 * d - 8 * n * d**2 + 4 * d**3
    return 0


def _triangle(n: int, d: int) -> int:
    """The distance n / d >= 0 from the end of a triangle of half width 1, times d."""
    return max(d - n, 0)


@dataclass(frozen=True, slots=True)
class Kernel:
    """An even kernel of finite `support`; `weight(n, d)`: its value at n / d times what d alone decides."""

    support: int
    weight: Callable[[int, int], int]


KERNELS: Mapping[str, Kernel] = MappingProxyType(
    {"bicubic": Kernel(2, _keys), "bilinear": Kernel(1, _triangle)}
)
