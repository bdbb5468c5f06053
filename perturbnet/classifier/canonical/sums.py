"""Exact sums on the float64 units: convolutions as matrix products of our own, block by block.

Any order of summation gives the same bits (see `obligations`), so blocks are chosen for the cache alone.
Buffers are kept from layer to layer: memory given back and asked for again costs a page fault for every 4 kB.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from perturbnet.classifier.canonical.artefact import Layer, Step
from perturbnet.classifier.canonical.obligations import MOST_ACTIVATION, cap_of_bias

CHUNK = 1 << 15  # values in a buffer; a few such buffers fit a core's cache
CHANNELS = 512  # of a depthwise convolution at a time
PRODUCT = 1 << 19  # values of a matrix product's wider side at a time

Tensor = torch.Tensor


@dataclass(frozen=True)
class Grid:
    """A tensor on its grid: float32 multiples of 2^-exponent, (height · width, channels)."""

    values: Tensor
    exponent: int


@dataclass(frozen=True)
class Sums:
    """Exact sums with their bias, float64 (height · width, channels), and their extremes.

    `values` lies in the workspace: it is gone when the next sums are taken.
    """

    values: Tensor
    low: float
    high: float

    @property
    def largest(self) -> float:
        """The largest magnitude."""
        return max(-self.low, self.high)


class Workspace:
    """Two float64 buffers that grow to the largest layer: one for its sums, one for its weights."""

    def __init__(self, device: torch.device) -> None:
        """Begin empty."""
        self._device = device
        self._buffers: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """A float64 tensor of this shape in the named buffer; what was there is lost."""
        count = int(np.prod(shape))
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < count:
            buffer = self._buffers[name] = torch.empty(count, dtype=torch.float64, device=self._device)
        return buffer[:count].view(shape)


class ExactLayer:
    """One linear map: its sums are exact, whatever order they are taken in."""

    def __init__(self, layer: Layer, device: torch.device, workspace: Workspace) -> None:
        """Hold the weights in float32, which holds 24 bits and a power of two exactly."""
        real = np.ldexp(layer.weights.astype(np.float32), -layer.exponents)
        self._weights = tensor_of(real, device)
        cap = cap_of_bias(layer)
        self.cap = MOST_ACTIVATION if cap is None else min(cap, MOST_ACTIVATION)
        self._workspace = workspace
        self._bias = tensor_of(layer.bias, device)
        self._up, self._down = (tensor_of(np.ldexp(1.0, sign * layer.exponents), device) for sign in (1, -1))

    def bias(self, exponent: int) -> Tensor:
        """The bias, rounded half even to the sums' grid: multiples of 2^-(exponent + the channel's)."""
        return (self._bias * self._up * 2.0**exponent).round_() * self._down * 2.0**-exponent

    def _widened(self, *shape: int) -> Tensor:
        """The weights in float64."""
        wide = self._workspace.take("weights", *self._weights.shape)
        return wide.copy_(self._weights).view(shape)

    def project(self, grid: Grid) -> Sums:
        """A 1×1 convolution: one matrix product, a block of positions at a time."""
        weights = self._widened(-1, self._weights.shape[-1])
        bias = self.bias(grid.exponent)
        collector = _Collector(self._workspace, grid.values.shape[0], weights.shape[1])
        for part in parts_of(grid.values, PRODUCT, columns=max(weights.shape)):
            torch.addmm(bias, grid.values[part].double(), weights, out=collector.values[part])
            collector.note(part)
        return collector.sums()

    def convolve(self, grid: Grid, step: Step) -> Sums:
        """A k×k convolution as k matrix products, each over the taps of one kernel row, by blocks of rows."""
        weights = self._widened(step.kernel, step.kernel * step.cin, step.cout)
        bias = self.bias(grid.exponent)
        padded = _pad(grid.values, step)
        collector = _Collector(self._workspace, step.out_height * step.out_width, step.cout)
        for first, count in _row_blocks(
            step, PRODUCT, step.out_width * max(step.kernel * step.cin, step.cout)
        ):
            phases = [
                _stack_taps(padded, step, first, count, phase)
                for phase in range(min(step.stride, step.kernel))
            ]
            part = slice(first * step.out_width, (first + count) * step.out_width)
            out = collector.values[part]
            for y in range(step.kernel):
                skip = y // step.stride
                taps = phases[y % step.stride][skip : skip + count].reshape(-1, step.kernel * step.cin)
                torch.addmm(out if y else bias, taps, weights[y], out=out)
            collector.note(part)
        return collector.sums()

    def depthwise(self, grid: Grid, step: Step) -> Sums:
        """A k×k depthwise convolution as k² shifted multiply-adds, by blocks of rows and channels."""
        weights = self._widened(step.kernel, step.kernel, step.cout)
        bias = self.bias(grid.exponent)
        padded = _pad(grid.values, step)
        collector = _Collector(self._workspace, step.out_height * step.out_width, step.cout)
        sums = collector.values.view(step.out_height, step.out_width, step.cout)
        for first, count in _row_blocks(step, CHUNK, step.out_width * CHANNELS):
            rows = padded[first * step.stride : (first + count - 1) * step.stride + step.kernel]
            for begin in range(0, step.cout, CHANNELS):
                part = slice(begin, begin + CHANNELS)
                block = _shift_and_add(
                    rows[:, :, part].double(), weights[:, :, part], bias[part], step, count
                )
                sums[first : first + count, :, part] = block
            collector.note(slice(first * step.out_width, (first + count) * step.out_width))
        return collector.sums()


class _Collector:
    """Takes sums block by block while they are in the cache, and keeps their extremes."""

    def __init__(self, workspace: Workspace, rows: int, columns: int) -> None:
        self.values = workspace.take("sums", rows, columns)
        self._lows: list[Tensor] = []
        self._highs: list[Tensor] = []

    def note(self, part: slice) -> None:
        """A block is complete."""
        low, high = torch.aminmax(self.values[part])
        self._lows.append(low)
        self._highs.append(high)

    def sums(self) -> Sums:
        """All of it."""
        return Sums(self.values, float(torch.stack(self._lows).min()), float(torch.stack(self._highs).max()))


def _shift_and_add(rows: Tensor, weights: Tensor, bias: Tensor, step: Step, count: int) -> Tensor:
    """`count` output rows of a depthwise convolution, float64 (count, out_width, channels)."""
    sums = bias.expand(count, step.out_width, -1).contiguous()
    for y in range(step.kernel):
        for x in range(step.kernel):
            sums.addcmul_(rows[y :: step.stride, x :: step.stride][:count, : step.out_width], weights[y, x])
    return sums


def _pad(values: Tensor, step: Step) -> Tensor:
    """(height · width, c) to (height', width', c) with zeros around, as far as the kernel reaches."""
    down = (step.out_height - 1) * step.stride + step.kernel
    across = (step.out_width - 1) * step.stride + step.kernel
    shape = max(down, step.pad_top + step.height), max(across, step.pad_left + step.width), step.cin
    padded = torch.zeros(shape, dtype=values.dtype, device=values.device)
    inside = padded[step.pad_top : step.pad_top + step.height, step.pad_left : step.pad_left + step.width]
    inside.copy_(values.reshape(step.height, step.width, step.cin))
    return padded


def _stack_taps(padded: Tensor, step: Step, first: int, count: int, phase: int) -> Tensor:
    """Input rows of one phase of the stride, float64 (rows, out_width, k · cin)."""
    more = (step.kernel - 1 - phase) // step.stride
    rows = padded[first * step.stride + phase :: step.stride][: count + more]
    columns = [rows[:, x :: step.stride][:, : step.out_width] for x in range(step.kernel)]
    return torch.cat(columns, dim=2).double()


def _row_blocks(step: Step, values: int, per_row: int) -> Iterator[tuple[int, int]]:
    """First output row and number of rows, so that a block holds about `values` values."""
    size = max(1, values // per_row)
    for first in range(0, step.out_height, size):
        yield first, min(size, step.out_height - first)


def parts_of(values: Tensor, size: int, *, columns: int = 0) -> list[slice]:
    """Slices of rows that hold about `size` values each."""
    rows = max(1, size // max(1, columns or values.shape[1]))
    return [slice(start, start + rows) for start in range(0, values.shape[0], rows)]


def tensor_of(array: NDArray[Any], device: torch.device) -> Tensor:
    """A copy of an array on the device."""
    return torch.from_numpy(np.array(array)).to(device)
