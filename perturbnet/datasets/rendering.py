"""The reference pictures: a figure and some clutter over a photograph, drawn in integers.

A row is a pure function of (split, row, photographs): randomness from `draws`, rotation by rational points of
the unit circle ((q² - p²), 2pq, (q² + p²)), coverage counted on a grid of 2×2 points per pixel, blending with
one shift. No float and no libm, so the pixels are the same on every machine and are pinned by digest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from perturbnet.datasets.seeded_numbers import SeededNumbers
from perturbnet.datasets.shapes import SHAPES, UNIT, Grid, Inside, block, disc, rod
from perturbnet.wire.images import Pixels

Canvas = NDArray[np.int32]

HEIGHT, WIDTH = 120, 150
ROWS: Mapping[str, int] = MappingProxyType({"train": 2400, "test": 480})
CLASSES = tuple(SHAPES)
_KEY = b"perturb/reference/1"
_FULL = 64  # opacity is counted in 64ths
_SUB = 2  # points per pixel and axis
_WHOLE = _FULL * _SUB * _SUB  # weight of a pixel that is covered and opaque; a power of two
_FRACTION = 20  # bits kept of the rotation's coefficients


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a figure stands: centre in pixels, radius in pixels, rotation (p, q) by the angle 2·atan(p/q)."""

    y: int
    x: int
    radius: int
    p: int
    q: int


def render(split: str, row: int, photographs: Sequence[Pixels]) -> tuple[Pixels, int]:
    """Draw one row.

    Uint8 pixels (HEIGHT, WIDTH, 3) and its class index. Classes take turns, so each is as frequent.
    """
    draws = SeededNumbers(_KEY, f"{split}:{row}")
    label = row % len(CLASSES)
    canvas = _background(draws, draws.one_of(photographs))
    for _ in range(draws.between(2, 5)):
        _draw_clutter(canvas, draws)
    _draw_shape(canvas, draws, SHAPES[CLASSES[label]])
    for _ in range(draws.below(3)):
        _draw_clutter(canvas, draws)
    return canvas.astype(np.uint8), label


def coverage(inside: Inside, pose: Pose) -> tuple[NDArray[np.int32], slice, slice]:
    """Count the points of each pixel that lie inside.

    Int32 0 to 4, and the rows and columns of the window.
    """
    top, bottom = max(0, pose.y - pose.radius - 1), min(HEIGHT, pose.y + pose.radius + 2)
    left, right = max(0, pose.x - pose.radius - 1), min(WIDTH, pose.x + pose.radius + 2)
    dy, dx = _points(top, bottom, pose.y), _points(left, right, pose.x)
    scale = (pose.q**2 + pose.p**2) * pose.radius * 2 * _SUB
    cos, sin = ((part * UNIT << _FRACTION) // scale for part in (pose.q**2 - pose.p**2, 2 * pose.p * pose.q))
    u: Grid = ((dx * cos)[None, :] + (dy * sin)[:, None] >> _FRACTION).astype(np.int32)
    v: Grid = ((dy * cos)[:, None] - (dx * sin)[None, :] >> _FRACTION).astype(np.int32)
    hits = inside(u, v).view(np.uint8)
    by_row = hits[0::2] + hits[1::2]
    counted = (by_row[:, 0::2] + by_row[:, 1::2]).astype(np.int32)
    return counted, slice(top, bottom), slice(left, right)


def _points(start: int, stop: int, centre: int) -> NDArray[np.int64]:
    """Offsets from the centre, in quarter pixels, of the points between two pixel borders."""
    return 2 * np.arange(start * _SUB, stop * _SUB, dtype=np.int64) + 1 - (2 * centre + 1) * _SUB


def _background(draws: SeededNumbers, photograph: Pixels) -> Canvas:
    """Cut a window, perhaps twice as large and halved, mirror it, and change each channel's gain."""
    zoom = draws.between(1, 2)
    top = draws.below(photograph.shape[0] - HEIGHT * zoom + 1)
    left = draws.below(photograph.shape[1] - WIDTH * zoom + 1)
    window = photograph[top : top + HEIGHT * zoom, left : left + WIDTH * zoom].astype(np.int32)
    if zoom > 1:
        pairs = window[0::2] + window[1::2]
        window = (pairs[:, 0::2] + pairs[:, 1::2] + 2) >> 2
    if draws.below(2):
        window = window[:, ::-1]
    gain = np.array([draws.between(44, 76) for _ in range(3)], dtype=np.int32)
    bright: Canvas = np.minimum(window * gain >> 6, 255)
    return bright


def _draw_shape(canvas: Canvas, draws: SeededNumbers, inside: Inside) -> None:
    """Draw a figure near the middle, half transparent, in a colour unlike what is behind it."""
    pose = _pose(draws, (HEIGHT // 2, 7), (WIDTH // 2, 10), (29, 45))
    counted, rows, columns = coverage(inside, pose)
    window = canvas[rows, columns]
    _blend(window, counted, _contrasting(draws, _mean_colour(window)), draws.between(24, 44))


def _draw_clutter(canvas: Canvas, draws: SeededNumbers) -> None:
    inside = draws.one_of((rod, rod, block, disc))
    radii = (24, 60) if inside is rod else (3, 8)
    pose = _pose(draws, (HEIGHT // 2, HEIGHT // 2), (WIDTH // 2, WIDTH // 2), radii)
    counted, rows, columns = coverage(inside, pose)
    colour = np.array([draws.below(256) for _ in range(3)], dtype=np.int32)
    _blend(canvas[rows, columns], counted, colour, draws.between(28, 60))


def _pose(draws: SeededNumbers, y: tuple[int, int], x: tuple[int, int], radii: tuple[int, int]) -> Pose:
    """Draw a pose: centre within (middle, reach) on each axis, radius within `radii`, any rotation."""
    return Pose(
        y=min(draws.between(y[0] - y[1], y[0] + y[1]), HEIGHT - 1),
        x=min(draws.between(x[0] - x[1], x[0] + x[1]), WIDTH - 1),
        radius=draws.between(*radii),
        p=draws.between(-64, 64),
        q=draws.one_of((8, 16, 24, 32, 48, 64)),
    )


def _mean_colour(window: Canvas) -> NDArray[np.int64]:
    mean: NDArray[np.int64] = window.sum(axis=(0, 1), dtype=np.int64) // (window.shape[0] * window.shape[1])
    return mean


def _contrasting(draws: SeededNumbers, around: NDArray[np.int64]) -> NDArray[np.int32]:
    """Draw a colour at least 150 levels (summed over channels) away from `around`; some colour always is."""
    while True:
        colour = np.array([draws.below(256) for _ in range(3)], dtype=np.int32)
        if int(np.abs(colour - around).sum()) >= 150:
            return colour


def _blend(window: Canvas, counted: NDArray[np.int32], colour: NDArray[np.int32], opacity: int) -> None:
    """Paint `colour` into `window`, in place, with `opacity` 64ths of a pixel whose points are all inside."""
    weight = (counted * opacity)[:, :, None]
    window += ((colour - window) * weight + _WHOLE // 2) >> _WHOLE.bit_length() - 1
