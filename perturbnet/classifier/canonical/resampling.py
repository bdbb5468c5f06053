"""The canonical preprocessing: bicubic resize and centre crop in integers, one rounding at the end.

The rational coefficients of `preprocessing.axis_maps` are rounded, half to even, to multiples of 2^-22; what
a row's sum then misses of 1 goes to its largest coefficient (the first of them). Both passes are sums of
integers below 2^53:

    V = Σ rows · v · columns            v: levels 0 to 255, V in units of 2^-44
    X = 2·V - 255                       in units of 2^-43, exact

Either pass may come first. X is the network's input before its one rounding (see `engine`).

Source: canonical-inference.md, "Preprocessing".
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from perturbnet.classifier.preprocessing import AxisMap, axis_maps
from perturbnet.errors import ModelError

Doubles = NDArray[np.float64]


@lru_cache(maxsize=64)
def coefficients(height: int, width: int, size: int, bits: int) -> tuple[Doubles, Doubles]:
    """Integer coefficients as float64: rows (size, height) and columns (size, width), read-only.

    Raises:
        ModelError: the sums could pass 2^53.

    """
    rows, columns = (_dense(axis, bits) for axis in axis_maps(height, width, size))
    if largest_sum(rows, columns, bits) + 255 * 2 ** (2 * bits - 1) > 2**53:
        raise ModelError(f"no exact resize of {width}×{height} to {size} with {bits} bits")
    rows.setflags(write=False)
    columns.setflags(write=False)
    return rows, columns


def largest_sum(rows: Doubles, columns: Doubles, bits: int) -> int:
    """Bound every partial sum of both passes: the first gives at most 255·Σ⁺, the second Σ|c| times that."""
    spread = [int(np.abs(side).sum(axis=1).max()) for side in (rows, columns)]
    positive = [(total + (1 << bits)) // 2 for total in spread]
    return 255 * max(positive[0] * spread[1], positive[1] * spread[0])


def integer_row(numerators: tuple[int, ...], denominator: int, bits: int) -> list[int]:
    """One output's coefficients in units of 2^-bits; they add up to exactly 1."""
    scaled = [_round_ratio(value << bits, denominator) for value in numerators]
    largest = scaled.index(max(scaled))
    scaled[largest] += (1 << bits) - sum(scaled)
    return scaled


def _dense(axis: AxisMap, bits: int) -> Doubles:
    dense = np.zeros((len(axis.starts), axis.inputs))
    for i, (start, row, whole) in enumerate(
        zip(axis.starts, axis.numerators, axis.denominators, strict=True)
    ):
        dense[i, start : start + len(row)] = integer_row(row, whole, bits)
    return dense


def _round_ratio(numerator: int, denominator: int) -> int:
    """The integer nearest to the ratio, ties to even; the denominator is positive."""
    whole, rest = divmod(numerator, denominator)
    if 2 * rest > denominator or (2 * rest == denominator and whole & 1):
        return whole + 1
    return whole
