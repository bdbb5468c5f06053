"""The exact arithmetic's inner loops, compiled for the CPU at hand when they are first called.

Rules
- IEEE 754 binary64, one operation at a time, in the order written. No `fastmath`: the compiler may neither
  reassociate nor fuse. Only `EXACT` kernels may fuse a product with a sum, because there both are exact.
- A kernel is one pass over memory and holds no rule of its own: what is computed is said in `engine`, and by
  docs/verification-spec.md. `portable` does the same with whole-tensor operations; tests compare every bit.
- Arrays are C-contiguous; rows are positions, columns channels.

Source: canonical-inference.md; numba's user manual on `njit`, `nogil`, `error_model` and `fastmath` flags.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from perturbnet.classifier.canonical.tables import HALF, STEPS_PER_UNIT

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Kernel = TypeVar("Kernel", bound=Callable[..., Any])

SCALE = float(STEPS_PER_UNIT)
STEP = 1.0 / STEPS_PER_UNIT
LIMIT = float(HALF)
WHOLE = 1.5 * 2.0**52  # added and taken away: rounds to whole numbers, half to even
BLOCK = 512  # values whose indices and distances stay in the first cache


def _compiled(kernel: Kernel) -> Kernel:
    return cast("Kernel", njit(nogil=True, error_model="numpy")(kernel))


def _compiled_exact(kernel: Kernel) -> Kernel:
    """Products and sums are exact here, so that fusing them changes nothing."""
    return cast("Kernel", njit(nogil=True, error_model="numpy", fastmath={"contract"})(kernel))


@_compiled
def locate(y: Doubles, index: NDArray[np.uint32], distance: Doubles) -> None:
    """Nearest entry of a table, and how far from it."""
    for i in range(y.size):
        nearest = (min(max(y[i] * SCALE, -LIMIT), LIMIT) + WHOLE) - WHOLE
        index[i] = np.uint32(np.int32(nearest) + np.int32(HALF))
        distance[i] = y[i] - nearest * STEP


@_compiled
def activate(y: Doubles, pairs: Doubles, anchor: float, out: Floats) -> None:
    """Table look-up of all of `y` (flat), rounded by `anchor`: value + distance · slope."""
    index, distance = np.empty(BLOCK, np.uint32), np.empty(BLOCK)
    for start in range(0, y.size, BLOCK):
        count = min(BLOCK, y.size - start)
        locate(y[start : start + count], index, distance)
        for i in range(count):
            found = distance[i] * pairs[index[i], 1] + pairs[index[i], 0]
            out[start + i] = (found + anchor) - anchor


@_compiled
def look_up(y: Doubles, pairs: Doubles) -> None:
    """Table look-up of all of `y` (flat), in place, without rounding."""
    index, distance = np.empty(BLOCK, np.uint32), np.empty(BLOCK)
    for start in range(0, y.size, BLOCK):
        count = min(BLOCK, y.size - start)
        locate(y[start : start + count], index, distance)
        for i in range(count):
            y[start + i] = distance[i] * pairs[index[i], 1] + pairs[index[i], 0]


@_compiled
def add_bias(sums: Doubles, bias: Doubles, low: Doubles, high: Doubles) -> None:
    """Add each channel's bias, in place; widen its extremes."""
    for row in range(sums.shape[0]):
        for c in range(sums.shape[1]):
            value = sums[row, c] + bias[c]
            sums[row, c] = value
            low[c] = min(low[c], value)
            high[c] = max(high[c], value)


@_compiled
def add_kept(values: Doubles, kept: Floats, largest: Doubles) -> None:
    """Add what a shortcut kept, in place; widen each channel's largest magnitude."""
    for row in range(values.shape[0]):
        for c in range(values.shape[1]):
            value = values[row, c] + np.float64(kept[row, c])
            values[row, c] = value
            largest[c] = max(largest[c], abs(value))


@_compiled
def round_to_grid(values: Doubles, anchor: float, out: Floats) -> None:
    """Round all of `values` (flat)."""
    for i in range(values.size):
        out[i] = (values[i] + anchor) - anchor


@_compiled
def scale(values: Floats, gate: Doubles, anchor: float, out: Floats) -> None:
    """Multiply each channel by its gate, and round."""
    for row in range(values.shape[0]):
        for c in range(values.shape[1]):
            out[row, c] = (np.float64(values[row, c]) * gate[c] + anchor) - anchor


@_compiled
def survey(values: Floats, total: Doubles, largest: Doubles) -> None:
    """Add to each channel's sum, which is exact, and widen its largest magnitude."""
    for row in range(values.shape[0]):
        for c in range(values.shape[1]):
            value = np.float64(values[row, c])
            total[c] += value
            largest[c] = max(largest[c], abs(value))


@_compiled
def stack_taps(
    image: Floats, first: int, row_stride: int, left: int, stride: int, kernel: int, out: Doubles
) -> None:
    """Rows `first`, `first + row_stride`, … of an image (height, width, c), each beside its neighbours.

    `out` is (rows, out_width, kernel · c); what lies outside of the image is 0.
    """
    height, width, channels = image.shape
    for r in range(out.shape[0]):
        row = first + r * row_stride
        for x in range(out.shape[1]):
            for j in range(kernel):
                column = x * stride - left + j
                target = out[r, x, j * channels : (j + 1) * channels]
                if 0 <= row < height and 0 <= column < width:
                    source = image[row, column]
                    for c in range(channels):
                        target[c] = source[c]
                else:
                    for c in range(channels):
                        target[c] = 0.0


@_compiled
def pad(image: Floats, top: int, left: int, out: Floats) -> None:
    """Copy an image (height, width, c) into a larger one, with zeros around."""
    height, width, channels = image.shape
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            y, x = row - top, column - left
            inside = 0 <= y < height and 0 <= x < width
            for c in range(channels):
                out[row, column, c] = image[y, x, c] if inside else np.float32(0)


@_compiled_exact
def depthwise(padded: Floats, weights: Doubles, bias: Doubles, stride: int, out: Doubles) -> None:
    """3×3 depthwise convolution; weights (3, 3, c), `out` (rows, out_width, c)."""
    p, q, r = weights[0, 0], weights[0, 1], weights[0, 2]
    s, t, u = weights[1, 0], weights[1, 1], weights[1, 2]
    v, w, z = weights[2, 0], weights[2, 1], weights[2, 2]
    for y in range(out.shape[0]):
        upper, middle, lower = padded[y * stride], padded[y * stride + 1], padded[y * stride + 2]
        for x in range(out.shape[1]):
            a, b, c = upper[x * stride], upper[x * stride + 1], upper[x * stride + 2]
            d, e, f = middle[x * stride], middle[x * stride + 1], middle[x * stride + 2]
            g, h, i = lower[x * stride], lower[x * stride + 1], lower[x * stride + 2]
            target = out[y, x]
            for n in range(target.size):
                first = np.float64(a[n]) * p[n] + np.float64(b[n]) * q[n] + np.float64(c[n]) * r[n]
                second = np.float64(d[n]) * s[n] + np.float64(e[n]) * t[n] + np.float64(f[n]) * u[n]
                third = np.float64(g[n]) * v[n] + np.float64(h[n]) * w[n] + np.float64(i[n]) * z[n]
                target[n] = bias[n] + first + second + third
