"""Which points lie inside which shape: the ten classes, in integers only.

Points are pairs (u, v) of int32 arrays in thousandths of the shape's radius, u to the right and v downwards;
their size stays below 4000, so every product here fits. Curves are compared by squares and straight edges by
cross
products: no square root, sine or rounding is involved, and the answer is the same on every machine. Vertices
are written down as constants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.int32]
Mask = NDArray[np.bool_]
Inside = Callable[[Grid, Grid], Mask]
UNIT = 1000
Polygon = tuple[tuple[int, int], ...]

TRIANGLE: Polygon = ((0, -980), (849, 490), (-849, 490))
STAR: Polygon = (
    (0, -1000),
    (235, -324),
    (951, -309),
    (380, 124),
    (588, 809),
    (0, 400),
    (-588, 809),
    (-380, 124),
    (-951, -309),
    (-235, -324),
)

ARROW: Polygon = ((0, -1000), (720, -120), (290, -120), (290, 950), (-290, 950), (-290, -120), (-720, -120))


def polygon(corners: Polygon) -> Inside:
    """Return the even-odd test for a closed polygon."""

    def inside(u: Grid, v: Grid) -> Mask:
        result = np.zeros(u.shape, dtype=bool)
        for (u0, v0), (u1, v1) in zip(corners, corners[1:] + corners[:1], strict=True):
            if v0 == v1:
                continue
            crosses = (v0 > v) != (v1 > v)
            side = (u - u0) * (v1 - v0) - (v - v0) * (u1 - u0)
            result ^= crosses & ((side < 0) if v1 > v0 else (side > 0))
        return result

    return inside


_HEART_POINT = polygon(((787, -25), (0, 900), (-787, -25), (0, -330)))


def disc(u: Grid, v: Grid) -> Mask:
    """A full disc."""
    return u * u + v * v <= 900 * 900


def ring(u: Grid, v: Grid) -> Mask:
    """A disc with a hole of half its radius."""
    square = u * u + v * v
    return (square <= 940 * 940) & (square >= 520 * 520)


def square(u: Grid, v: Grid) -> Mask:
    """A square."""
    return (np.abs(u) <= 720) & (np.abs(v) <= 720)


def hourglass(u: Grid, v: Grid) -> Mask:
    """Two triangles that meet at their tips, which are blunt."""
    return (np.abs(u) * 10 <= np.abs(v) * 9 + 500) & (np.abs(v) <= 720)


def cross(u: Grid, v: Grid) -> Mask:
    """A plus sign with thick arms."""
    wide, tall = np.abs(u), np.abs(v)
    return ((wide <= 290) & (tall <= 920)) | ((tall <= 290) & (wide <= 920))


def crescent(u: Grid, v: Grid) -> Mask:
    """A disc less another that is moved to the right."""
    bite = (u - 520) * (u - 520) + v * v <= 760 * 760
    return (u * u + v * v <= 960 * 960) & ~bite


def heart(u: Grid, v: Grid) -> Mask:
    """Two discs, and the triangle between their tangents."""
    wide, low = np.abs(u) - 430, v + 330
    lobes: Mask = wide * wide + low * low <= 470 * 470
    return lobes | _HEART_POINT(u, v)


SHAPES: Mapping[str, Inside] = MappingProxyType(
    {
        "arrow": polygon(ARROW),
        "crescent": crescent,
        "cross": cross,
        "disc": disc,
        "heart": heart,
        "hourglass": hourglass,
        "ring": ring,
        "square": square,
        "star": polygon(STAR),
        "triangle": polygon(TRIANGLE),
    }
)
"""Class text to test, in the order of the class index (alphabetical)."""


def rod(u: Grid, v: Grid) -> Mask:
    """A thin bar: clutter, no class."""
    return (np.abs(v) <= 45) & (np.abs(u) <= 980)


def block(u: Grid, v: Grid) -> Mask:
    """A small rectangle: clutter, no class."""
    return (np.abs(v) <= 480) & (np.abs(u) <= 840)
