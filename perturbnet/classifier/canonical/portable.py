"""The exact arithmetic with torch's whole-tensor operations: any device, CUDA included.

Any order of summation gives the same bits (see `obligations`), so blocks are chosen for the cache alone.
Convolutions are our own products: no Winograd, no FFT.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from perturbnet.classifier.canonical.artefact import Step
from perturbnet.classifier.canonical.layers import (
    ExactLayer,
    Grid,
    Sums,
    Table,
    Tensor,
    Workspace,
    anchor,
)
from perturbnet.classifier.canonical.tables import HALF, STEPS_PER_UNIT

CHUNK = 1 << 15  # values in a buffer; a few such buffers fit a core's cache
CHANNELS = 512  # of a depthwise convolution at a time
PRODUCT = 1 << 19  # values of a matrix product's wider side at a time


class PortableArithmetic:
    """Sums, look-ups and roundings for `engine`. One network's pass at a time: the workspace is shared."""

    name = "torch"

    def __init__(self, device: torch.device) -> None:
        """Compute on `device`."""
        self._workspace = Workspace(device)

    def take_sums(self, layer: ExactLayer, grid: Grid, step: Step) -> Sums:
        """A convolution's exact sums with bias."""
        if step.depthwise:
            return self.depthwise(layer, grid, step)
        if step.kernel == 1 and step.stride == 1:
            return self.project(layer, grid)
        return self.convolve(layer, grid, step)

    def project(self, layer: ExactLayer, grid: Grid) -> Sums:
        """A 1×1 convolution: one matrix product, a block of positions at a time."""
        weights = self._widen(layer, -1, layer.weights.shape[-1])
        bias = layer.bias(grid.exponent)
        collector = _Collector(self._workspace, grid.values.shape[0], weights.shape[1])
        for part in parts_of(grid.values, PRODUCT, columns=max(weights.shape)):
            torch.addmm(bias, grid.values[part].double(), weights, out=collector.values[part])
            collector.note(part)
        return collector.sums()

    def convolve(self, layer: ExactLayer, grid: Grid, step: Step) -> Sums:
        """A k×k convolution as k matrix products, each over the taps of one kernel row, by blocks of rows."""
        weights = self._widen(layer, step.kernel, step.kernel * step.cin, step.cout)
        bias = layer.bias(grid.exponent)
        padded = _pad(grid.values, step)
        collector = _Collector(self._workspace, step.out_height * step.out_width, step.cout)
        for first, count in row_blocks(step, PRODUCT, widest_row(step)):
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

    def depthwise(self, layer: ExactLayer, grid: Grid, step: Step) -> Sums:
        """A k×k depthwise convolution as k² shifted multiply-adds, by blocks of rows and channels."""
        weights = self._widen(layer, step.kernel, step.kernel, step.cout)
        bias = layer.bias(grid.exponent)
        padded = _pad(grid.values, step)
        collector = _Collector(self._workspace, step.out_height * step.out_width, step.cout)
        sums = collector.values.view(step.out_height, step.out_width, step.cout)
        for first, count in row_blocks(step, CHUNK, step.out_width * CHANNELS):
            rows = padded[first * step.stride : (first + count - 1) * step.stride + step.kernel]
            for begin in range(0, step.cout, CHANNELS):
                part = slice(begin, begin + CHANNELS)
                block = _shift_and_add(
                    rows[:, :, part].double(), weights[:, :, part], bias[part], step, count
                )
                sums[first : first + count, :, part] = block
            collector.note(slice(first * step.out_width, (first + count) * step.out_width))
        return collector.sums()

    def activate(self, table: Table, sums: Tensor, exponent: int, *busy: Grid | None) -> Grid:
        """The table's function, rounded to multiples of 2^-exponent."""
        out = self._workspace.take_grid(sums, *busy)
        self._fill(table, sums, out, exponent)
        return Grid(out, exponent)

    def look_up(self, table: Table, sums: Tensor) -> None:
        """The table's function before any rounding, in place."""
        self._fill(table, sums, sums, None)

    def add_kept(self, values: Tensor, kept: Grid) -> float:
        """Add what a shortcut kept, in place; the largest magnitude of the result."""
        values.add_(kept.values)
        return _largest(values)

    def round(self, values: Tensor, exponent: int, *busy: Grid | None) -> Grid:
        """Multiples of 2^-exponent."""
        out = self._workspace.take_grid(values, *busy)
        for part in parts_of(values, CHUNK):
            out[part] = _round_(values[part].clone(), exponent)
        return Grid(out, exponent)

    def survey(self, grid: Grid) -> tuple[Tensor, float]:
        """The mean over positions (an exact sum, one division; (1, channels)), and the largest magnitude."""
        values = grid.values
        return values.sum(dim=0, dtype=torch.float64, keepdim=True) / float(len(values)), _largest(values)

    def scale(self, grid: Grid, gate: Tensor, exponent: int, *busy: Grid | None) -> Grid:
        """Each channel times its gate (float64 (channels)), rounded to multiples of 2^-exponent."""
        out = self._workspace.take_grid(grid.values, grid, *busy)
        for part in parts_of(grid.values, CHUNK):
            out[part] = _round_(grid.values[part].double().mul_(gate), exponent)
        return Grid(out, exponent)

    def _widen(self, layer: ExactLayer, *shape: int) -> Tensor:
        """The layer's weights in float64."""
        return self._workspace.take("weights", *layer.weights.shape).copy_(layer.weights).view(shape)

    def _fill(self, table: Table, sums: Tensor, out: Tensor, exponent: int | None) -> None:
        """Piece by piece, in buffers that stay in a core's cache."""
        flat, filled = sums.view(-1), out.view(-1)
        work, value, slope = (self._workspace.take(name, CHUNK) for name in ("work", "value", "slope"))
        index = self._workspace.take("index", CHUNK, dtype=torch.int32)
        for start in range(0, len(flat), CHUNK):
            source, target = flat[start : start + CHUNK], filled[start : start + CHUNK]
            count = len(source)
            y = _evaluate(table, source, work[:count], value[:count], slope[:count], index[:count])
            target.copy_(y if exponent is None else _round_(y, exponent))


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


def _evaluate(table: Table, y: Tensor, work: Tensor, value: Tensor, slope: Tensor, index: Tensor) -> Tensor:
    """One product and one sum, each rounded once; the result lies in `work`."""
    nearest = torch.mul(y, float(STEPS_PER_UNIT), out=work).round_().clamp_(-HALF, HALF)
    index.copy_(nearest).add_(HALF)
    torch.index_select(table.values, 0, index, out=value)
    torch.index_select(table.slopes, 0, index, out=slope)
    distance = torch.sub(y, nearest, alpha=1.0 / STEPS_PER_UNIT, out=work)  # the product is exact
    return distance.mul_(slope).add_(value)


def _round_(values: Tensor, exponent: int) -> Tensor:
    """Round half even to multiples of 2^-exponent, in place."""
    return values.add_(anchor(exponent)).sub_(anchor(exponent))


def _largest(values: Tensor) -> float:
    low, high = torch.aminmax(values)
    return max(-float(low), float(high))


def _shift_and_add(rows: Tensor, weights: Tensor, bias: Tensor, step: Step, count: int) -> Tensor:
    """`count` output rows of a depthwise convolution, float64 (count, out_width, channels)."""
    sums = bias.expand(count, step.out_width, -1).contiguous()
    for y in range(step.kernel):
        for x in range(step.kernel):
            sums.addcmul_(rows[y :: step.stride, x :: step.stride][:count, : step.out_width], weights[y, x])
    return sums


def padded_shape(step: Step) -> tuple[int, int, int]:
    """Height, width and channels of the input with zeros around, as far as the kernel reaches."""
    down = (step.out_height - 1) * step.stride + step.kernel
    across = (step.out_width - 1) * step.stride + step.kernel
    return max(down, step.pad_top + step.height), max(across, step.pad_left + step.width), step.cin


def _pad(values: Tensor, step: Step) -> Tensor:
    """(height · width, c) to `padded_shape`."""
    padded = torch.zeros(padded_shape(step), dtype=values.dtype, device=values.device)
    inside = padded[step.pad_top : step.pad_top + step.height, step.pad_left : step.pad_left + step.width]
    inside.copy_(values.reshape(step.height, step.width, step.cin))
    return padded


def _stack_taps(padded: Tensor, step: Step, first: int, count: int, phase: int) -> Tensor:
    """Input rows of one phase of the stride, float64 (rows, out_width, k · cin)."""
    rows = padded[first * step.stride + phase :: step.stride][: tap_rows(step, count, phase)]
    columns = [rows[:, x :: step.stride][:, : step.out_width] for x in range(step.kernel)]
    return torch.cat(columns, dim=2).double()


def tap_rows(step: Step, count: int, phase: int) -> int:
    """How many input rows of one phase of the stride `count` output rows need."""
    return count + (step.kernel - 1 - phase) // step.stride


def widest_row(step: Step) -> int:
    """Values of one output row on the wider side of its matrix product."""
    return step.out_width * max(step.kernel * step.cin, step.cout)


def row_blocks(step: Step, values: int, per_row: int) -> Iterator[tuple[int, int]]:
    """First output row and number of rows, so that a block holds about `values` values."""
    size = max(1, values // per_row)
    for first in range(0, step.out_height, size):
        yield first, min(size, step.out_height - first)


def parts_of(values: Tensor, size: int, *, columns: int = 0) -> list[slice]:
    """Slices of rows that hold about `size` values each."""
    rows = max(1, size // max(1, columns or values.shape[1]))
    return [slice(start, start + rows) for start in range(0, values.shape[0], rows)]
