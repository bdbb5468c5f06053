"""The exact arithmetic with torch's whole-tensor operations: any device, CUDA included; any number of images.

Any order of summation gives the same bits (see `obligations`), so a pass is cut into blocks that suit the
device: a CPU's cache holds small ones; on a GPU each block is more operations to begin, so they are large.
A block is a part of one image, or several whole ones. Convolutions are our own products: no Winograd, no FFT.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from perturbnet.classifier.canonical.artefact import ProgramStep
from perturbnet.classifier.canonical.layers import (
    ExactLayer,
    ExactSums,
    Grid,
    Table,
    Tensor,
    Workspace,
    anchor_of,
    largest_of,
)
from perturbnet.classifier.canonical.tables import HALF, STEPS_PER_UNIT

Block = tuple[slice, slice]  # of images and of positions


@dataclass(frozen=True)
class Blocks:
    """How much is computed at a time."""

    chunk: int  # values in a buffer
    product: int  # values of a matrix product's wider side
    channels: int  # of a depthwise convolution


CACHE = Blocks(chunk=1 << 15, product=1 << 19, channels=512)  # a few such buffers fit a core's cache
ACCELERATOR = Blocks(chunk=1 << 24, product=1 << 25, channels=1 << 16)  # a few such buffers take 0.5 GB


class PortableArithmetic:
    """Sums, look-ups and roundings for `engine`. One pass at a time: the workspace is shared."""

    name = "torch"
    one_at_a_time = False  # whether a pass is of one image

    def __init__(self, device: torch.device, blocks: Blocks | None = None) -> None:
        """Compute on `device`, in `blocks` (default: what suits it)."""
        self._workspace = Workspace(device)
        self._blocks = blocks or (CACHE if device.type == "cpu" else ACCELERATOR)

    def take_sums(self, layer: ExactLayer, grid: Grid, step: ProgramStep) -> ExactSums:
        """A convolution's exact sums with bias."""
        if step.depthwise:
            return self.depthwise(layer, grid, step)
        if step.kernel == 1 and step.stride == 1:
            return self.project(layer, grid)
        return self.convolve(layer, grid, step)

    def project(self, layer: ExactLayer, grid: Grid) -> ExactSums:
        """A 1×1 convolution: one matrix product, a block of positions at a time."""
        weights = self._widen(layer, -1, layer.weights.shape[-1])
        images, positions, _ = grid.values.shape
        collector = _Collector(self._workspace, layer.bias(grid.unit), positions)
        for part in blocks_of(images, positions, max(weights.shape), self._blocks.product):
            collector.multiply(part, grid.values[part].double(), weights)
            collector.note(part)
        return collector.sums()

    def convolve(self, layer: ExactLayer, grid: Grid, step: ProgramStep) -> ExactSums:
        """A k×k convolution as k matrix products, each over the taps of one kernel row, by blocks of rows."""
        weights = self._widen(layer, step.kernel, step.kernel * step.cin, step.cout)
        padded = _pad(grid.values, step)
        collector = _Collector(self._workspace, layer.bias(grid.unit), step.out_height * step.out_width)
        for images, rows in blocks_of(len(padded), step.out_height, widest_row(step), self._blocks.product):
            phases = [
                _stack_taps(padded[images], step, rows, phase)
                for phase in range(min(step.stride, step.kernel))
            ]
            part = images, slice(rows.start * step.out_width, rows.stop * step.out_width)
            for y in range(step.kernel):
                skip = y // step.stride
                taps = phases[y % step.stride][:, skip : skip + rows.stop - rows.start]
                collector.multiply(part, taps.flatten(1, 2), weights[y], more=y > 0)
            collector.note(part)
        return collector.sums()

    def depthwise(self, layer: ExactLayer, grid: Grid, step: ProgramStep) -> ExactSums:
        """A k×k depthwise convolution as k² shifted multiply-adds, by blocks of rows and channels."""
        weights = self._widen(layer, step.kernel, step.kernel, step.cout)
        bias = layer.bias(grid.unit)
        padded = _pad(grid.values, step)
        collector = _Collector(self._workspace, bias, step.out_height * step.out_width)
        sums = collector.values.view(-1, step.out_height, step.out_width, step.cout)
        widest = step.out_width * min(step.cout, self._blocks.channels)
        for images, rows in blocks_of(len(padded), step.out_height, widest, self._blocks.chunk):
            reach = slice(rows.start * step.stride, (rows.stop - 1) * step.stride + step.kernel)
            for begin in range(0, step.cout, self._blocks.channels):
                part = slice(begin, begin + self._blocks.channels)
                taps = padded[images, reach, :, part].double()
                sums[images, rows, :, part] = _shift_and_add(
                    taps, weights[:, :, part], bias[images, :, None, part], step, rows.stop - rows.start
                )
            collector.note((images, slice(rows.start * step.out_width, rows.stop * step.out_width)))
        return collector.sums()

    def activate(self, table: Table, sums: Tensor, unit: Tensor, *busy: Grid | None) -> Grid:
        """The table's function, rounded to multiples of the unit."""
        out = self._workspace.take_grid(sums, *busy)
        self._fill(table, sums, out, anchor_of(unit))
        return Grid(out, unit)

    def look_up(self, table: Table, sums: Tensor) -> None:
        """The table's function before any rounding, in place."""
        self._fill(table, sums, sums, None)

    def add_kept(self, values: Tensor, kept: Grid) -> Tensor:
        """Add what a shortcut kept, in place; the largest magnitudes of the result."""
        values.add_(kept.values)
        return largest_of(values)

    def round(self, values: Tensor, unit: Tensor, *busy: Grid | None) -> Grid:
        """Multiples of the unit."""
        out, anchor = self._workspace.take_grid(values, *busy), anchor_of(unit)
        for part in self._chunks(values):
            out[part] = _round_(values[part].clone(), anchor[part[0]])
        return Grid(out, unit)

    def survey(self, grid: Grid) -> tuple[Tensor, Tensor]:
        """Means over positions (images, 1, channels), an exact sum and one division; largest magnitudes."""
        values = grid.values
        total = values.sum(dim=1, dtype=torch.float64, keepdim=True)
        return total / float(values.shape[1]), largest_of(values)

    def scale(self, grid: Grid, gate: Tensor, unit: Tensor, *busy: Grid | None) -> Grid:
        """Each channel times its gate, float64 (images, 1, channels), rounded to multiples of the unit."""
        out, anchor = self._workspace.take_grid(grid.values, grid, *busy), anchor_of(unit)
        for part in self._chunks(grid.values):
            images = part[0]
            out[part] = _round_(grid.values[part].double().mul_(gate[images]), anchor[images])
        return Grid(out, unit)

    def _chunks(self, values: Tensor) -> Iterator[Block]:
        images, positions, channels = values.shape
        return blocks_of(images, positions, channels, self._blocks.chunk)

    def _widen(self, layer: ExactLayer, *shape: int) -> Tensor:
        """The layer's weights in float64."""
        return self._workspace.take("weights", *layer.weights.shape).copy_(layer.weights).view(shape)

    def _fill(self, table: Table, sums: Tensor, out: Tensor, anchor: Tensor | None) -> None:
        """Piece by piece, in buffers that stay in a core's cache."""
        for part in self._chunks(sums):
            source = sums[part]
            work, value, slope = (
                self._workspace.take(name, *source.shape) for name in ("work", "value", "slope")
            )
            index = self._workspace.take("index", *source.shape, dtype=torch.int32)
            y = _evaluate(table, source, work, value, slope, index)
            out[part] = y if anchor is None else _round_(y, anchor[part[0]])


class _Collector:
    """Takes sums block by block while they are in the cache, and keeps each image's extremes."""

    def __init__(self, workspace: Workspace, bias: Tensor, positions: int) -> None:
        images, _, channels = bias.shape
        self.values = workspace.take("sums", images, positions, channels)
        self._bias = bias
        self._lows: list[Tensor] = []
        self._highs: list[Tensor] = []

    def multiply(self, part: Block, taps: Tensor, weights: Tensor, *, more: bool = False) -> None:
        """Bias, or with `more` what the block holds, plus taps (images, rows, k) times weights (k, c)."""
        out = self.values[part]
        torch.baddbmm(out if more else self._bias[part[0]], taps, weights.expand(len(taps), -1, -1), out=out)

    def note(self, part: Block) -> None:
        """A block is complete."""
        block = self.values[part].flatten(1)
        self._lows.append(block.amin(1))
        self._highs.append(block.amax(1))

    def sums(self) -> ExactSums:
        """All of it: each image was cut into equally many parts, or not at all."""
        if len(self._lows) == 1:
            return ExactSums(self.values, self._lows[0], self._highs[0])
        low, high = (torch.cat(found).view(len(self.values), -1) for found in (self._lows, self._highs))
        return ExactSums(self.values, low.amin(1), high.amax(1))


def _evaluate(table: Table, y: Tensor, work: Tensor, value: Tensor, slope: Tensor, index: Tensor) -> Tensor:
    """One product and one sum, each rounded once; the result lies in `work`."""
    nearest = torch.mul(y, float(STEPS_PER_UNIT), out=work).round_().clamp_(-HALF, HALF)
    index.copy_(nearest).clamp_(-HALF, HALF).add_(HALF)  # NaN, of a pass that will be refused, is some index
    torch.index_select(table.values, 0, index.view(-1), out=value.view(-1))
    torch.index_select(table.slopes, 0, index.view(-1), out=slope.view(-1))
    distance = torch.sub(y, nearest, alpha=1.0 / STEPS_PER_UNIT, out=work)  # the product is exact
    return distance.mul_(slope).add_(value)


def _round_(values: Tensor, anchor: Tensor) -> Tensor:
    """Round half even to each image's grid, in place."""
    return values.add_(anchor).sub_(anchor)


def _shift_and_add(taps: Tensor, weights: Tensor, bias: Tensor, step: ProgramStep, count: int) -> Tensor:
    """`count` output rows of a depthwise convolution, float64 (images, count, out_width, channels)."""
    sums = bias.expand(-1, count, step.out_width, -1).contiguous()
    for y in range(step.kernel):
        for x in range(step.kernel):
            shifted = taps[:, y :: step.stride, x :: step.stride]
            sums.addcmul_(shifted[:, :count, : step.out_width], weights[y, x])
    return sums


def padded_shape(step: ProgramStep) -> tuple[int, int, int]:
    """Height, width and channels of the input with zeros around, as far as the kernel reaches."""
    down = (step.out_height - 1) * step.stride + step.kernel
    across = (step.out_width - 1) * step.stride + step.kernel
    return max(down, step.pad_top + step.height), max(across, step.pad_left + step.width), step.cin


def _pad(values: Tensor, step: ProgramStep) -> Tensor:
    """(images, positions, c) to (images, *`padded_shape`)."""
    padded = values.new_zeros(len(values), *padded_shape(step))
    down = slice(step.pad_top, step.pad_top + step.height)
    across = slice(step.pad_left, step.pad_left + step.width)
    padded[:, down, across] = values.view(-1, step.height, step.width, step.cin)
    return padded


def _stack_taps(padded: Tensor, step: ProgramStep, rows: slice, phase: int) -> Tensor:
    """Input rows of one phase of the stride, float64 (images, rows, out_width, k · cin)."""
    count = tap_rows(step, rows.stop - rows.start, phase)
    taken = padded[:, rows.start * step.stride + phase :: step.stride][:, :count]
    columns = [taken[:, :, x :: step.stride][:, :, : step.out_width] for x in range(step.kernel)]
    return torch.cat(columns, dim=3).double()


def tap_rows(step: ProgramStep, count: int, phase: int) -> int:
    """How many input rows of one phase of the stride `count` output rows need."""
    return count + (step.kernel - 1 - phase) // step.stride


def widest_row(step: ProgramStep) -> int:
    """Values of one output row on the wider side of its matrix product."""
    return step.out_width * max(step.kernel * step.cin, step.cout)


def blocks_of(images: int, positions: int, per_position: int, values: int) -> Iterator[Block]:
    """Blocks of about `values` values: a part of one image's positions, or several whole images."""
    together = max(1, values // max(1, positions * per_position))
    size = positions if together > 1 else max(1, values // max(1, per_position))
    for first in range(0, images, together):
        for start in range(0, positions, size):
            yield slice(first, min(first + together, images)), slice(start, min(start + size, positions))
