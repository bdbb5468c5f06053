"""The canonical engine: float64 arithmetic that is exact, so the bits are the same everywhere.

Rules (design: canonical-inference.md; docs/verification-spec.md states them for a stranger)
- A tensor holds multiples of 2^-e, |a| <= 2^(24-e), in float32; e belongs to one image and one tensor.
- A sum is exact: every partial sum is an integer below 2^53 in its channel's unit, so order, threads, fused
  multiply-add, BLAS and device cannot change it. Convolutions are our own products: no Winograd, no FFT.
- Between sums each operation is one IEEE 754 binary64 operation or a table look-up, in the order written
  here.
- e is chosen from the exact sums: `expo(M, cap) = min(cap, 24 - ex(M))`, M = m·2^ex(M), ½ <= m < 1; for
  M = 0 it is min(cap, 24).
- Each image is computed by itself: a batch cannot matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from perturbnet.classifier.canonical.artefact import Act, Artefact, Layer, Op, Step
from perturbnet.classifier.canonical.resampling import coefficients
from perturbnet.classifier.canonical.tables import HALF, SLOPE_BITS, STEPS_PER_UNIT, VALUE_BITS
from perturbnet.classifier.engine import Classification, Pixels, judge

ACTIVATION_BITS = 24
GATE_BITS = 24
BIAS_BITS = 50
NO_CAP = 60
CHUNK = 1 << 15  # values that pass through a table at a time; a few such buffers fit a core's cache
PRODUCT = 1 << 19  # values of a matrix product's wider side at a time

Tensor = torch.Tensor


@dataclass(frozen=True)
class Grid:
    """A tensor on its grid: float32 multiples of 2^-exponent."""

    values: Tensor  # (height · width, channels) float32
    exponent: int


@dataclass(frozen=True)
class Sums:
    """Exact sums with their bias, float64 (height · width, channels), and their extremes."""

    values: Tensor
    low: float
    high: float

    @property
    def largest(self) -> float:
        """The largest magnitude."""
        return max(-self.low, self.high)


class CanonicalEngine:
    """An `Engine` whose every bit is determined by the artefact and the pixels."""

    name = "float64"
    reproducible = True

    def __init__(self, artefact: Artefact, digest: str, *, device: str = "cpu") -> None:
        """Hold the artefact's numbers on `device`; weights in float32, which holds them exactly."""
        self.model_digest = digest
        self.model_name = artefact.name
        self.labels = artefact.labels
        self.device = torch.device(device)
        self._size, self._bits = artefact.size, artefact.coefficient_bits
        self._steps = artefact.steps
        self._layers = [_Layer(layer, self.device) for layer in artefact.layers]
        self._silu, self._sigmoid = (
            _Table(table, self.device) for table in (artefact.silu, artefact.sigmoid)
        )

    def classify(self, images: Sequence[Pixels]) -> list[Classification]:
        """See `classifier.Engine`."""
        return [judge(self.logits(pixels), self.labels) for pixels in images]

    def logits(self, pixels: Pixels) -> NDArray[np.float64]:
        """The exact logits of one image, float64 (classes)."""
        with torch.inference_mode():
            return self._run(self._prepare(pixels)).cpu().numpy().reshape(-1)

    def _prepare(self, pixels: Pixels) -> Grid:
        """Resize and crop in integers; one rounding to the input's grid."""
        height, width, _ = pixels.shape
        size, bits = self._size, self._bits
        rows, columns = (_tensor(side, self.device) for side in coefficients(height, width, size, bits))
        levels = _tensor(pixels, self.device).double().permute(2, 0, 1)
        sums = (rows @ levels) @ columns.T
        exact = (sums - 255.0 * 2.0 ** (2 * bits - 1)) * 2.0 ** (1 - 2 * bits)
        exact = exact.permute(1, 2, 0).reshape(size * size, 3)
        return _to_grid(exact, expo(_largest(exact), self._layers[0].cap))

    def _run(self, grid: Grid) -> Tensor:
        kept: Grid | None = None
        last = len(self._steps) - 1
        for number, step in enumerate(self._steps):
            if step.keeps:
                kept = grid
            if number == last:
                break
            cap = self._next_cap(number)
            if step.op == Op.POOL:
                mean = _mean(grid.values)
                grid = _to_grid(mean, expo(_largest(mean), cap))
            elif step.op == Op.GATE:
                grid = self._gate(grid, step, cap)
            else:
                grid = self._conv(grid, step, kept if step.adds else None, cap)
        return self._sums(grid, self._steps[last]).values

    def _next_cap(self, number: int) -> int:
        """The cap that the consumer of this step's output puts on its exponent."""
        following = self._steps[number + 1]
        return self._layers[following.layer].cap if following.op == Op.CONV else NO_CAP

    def _conv(self, grid: Grid, step: Step, kept: Grid | None, cap: int) -> Grid:
        sums = self._sums(grid, step)
        if step.act == Act.SILU and kept is None:
            exponent = expo(max(sums.high, 0.5), cap)
            return Grid(self._silu.apply(sums.values, exponent), exponent)
        values = self._silu.look_up(sums.values) if step.act == Act.SILU else sums.values
        if kept is not None:
            values.add_(kept.values)
        return _to_grid(
            values, expo(sums.largest if values is sums.values and kept is None else _largest(values), cap)
        )

    def _gate(self, grid: Grid, step: Step, cap: int) -> Grid:
        reduce, expand = self._layers[step.layer], self._layers[step.layer + 1]
        mean = _mean(grid.values)
        squeezed = reduce.project(_to_grid(mean, expo(_largest(mean), reduce.cap)))
        exponent = expo(max(squeezed.high, 0.5), expand.cap)
        opened = expand.project(Grid(self._silu.apply(squeezed.values, exponent), exponent))
        gate = self._sigmoid.apply(opened.values, GATE_BITS).double().reshape(-1)
        exponent = expo(_largest(grid.values) * float(gate.max()), cap)
        values = torch.empty_like(grid.values)
        for part in _parts(grid.values, CHUNK):
            values[part] = _round_(grid.values[part].double().mul_(gate), exponent)
        return Grid(values, exponent)

    def _sums(self, grid: Grid, step: Step) -> Sums:
        layer = self._layers[step.layer]
        if step.depthwise:
            return layer.depthwise(grid, step)
        if step.kernel == 1 and step.stride == 1:
            return layer.project(grid)
        return layer.convolve(grid, step)


class _Layer:
    """One linear map: its sums are exact, whatever order they are taken in."""

    def __init__(self, layer: Layer, device: torch.device) -> None:
        real = np.ldexp(layer.weights.astype(np.float32), -layer.exponents)
        self.weights = _tensor(real, device)
        self.cap = min(NO_CAP, cap_of(layer))
        self._bias = _tensor(layer.bias, device)
        self._up, self._down = (_tensor(np.ldexp(1.0, sign * layer.exponents), device) for sign in (1, -1))

    def bias(self, exponent: int) -> Tensor:
        """The bias, rounded half even to the sums' grid: multiples of 2^-(exponent + the channel's)."""
        return (self._bias * self._up * 2.0**exponent).round_() * self._down * 2.0**-exponent

    def project(self, grid: Grid) -> Sums:
        """A 1×1 convolution: one matrix product, a block of positions at a time."""
        weights = self.weights.reshape(-1, self.weights.shape[-1]).double()
        bias = self.bias(grid.exponent)
        collector = _Collector(grid.values.shape[0], weights.shape[1], grid.values.device)
        for part in _parts(grid.values, PRODUCT, columns=max(weights.shape)):
            torch.addmm(bias, grid.values[part].double(), weights, out=collector.values[part])
            collector.note(part)
        return collector.sums()

    def convolve(self, grid: Grid, step: Step) -> Sums:
        """A k×k convolution as k matrix products, each over the taps of one kernel row, by blocks of rows."""
        weights = self.weights.double().reshape(step.kernel, step.kernel * step.cin, step.cout)
        bias = self.bias(grid.exponent)
        padded = _pad(grid.values, step)
        collector = _Collector(step.out_height * step.out_width, step.cout, padded.device)
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
        """A k×k depthwise convolution as k² shifted multiply-adds, a block of rows at a time."""
        weights = self.weights.double()
        bias = self.bias(grid.exponent)
        padded = _pad(grid.values, step)
        collector = _Collector(step.out_height * step.out_width, step.cout, padded.device)
        for first, count in _row_blocks(step, CHUNK, step.out_width * step.cout):
            rows = padded[first * step.stride : (first + count - 1) * step.stride + step.kernel].double()
            part = slice(first * step.out_width, (first + count) * step.out_width)
            out = collector.values[part].view(count, step.out_width, step.cout)
            out.copy_(bias.expand_as(out))
            for y in range(step.kernel):
                for x in range(step.kernel):
                    out.addcmul_(
                        rows[y :: step.stride, x :: step.stride][:count, : step.out_width], weights[y, x]
                    )
            collector.note(part)
        return collector.sums()


class _Collector:
    """Takes sums block by block while they are in the cache, and keeps their extremes."""

    def __init__(self, rows: int, columns: int, device: torch.device) -> None:
        self.values = torch.empty(rows, columns, dtype=torch.float64, device=device)
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


class _Table:
    """SiLU or sigmoid: value plus slope times the distance from the nearest entry.

    Written for speed: everything happens in buffers that stay in a core's cache.
    """

    def __init__(self, table: NDArray[np.int64], device: torch.device) -> None:
        self._values = _tensor(np.ldexp(table[:, 0].astype(np.float64), -VALUE_BITS), device)
        self._slopes = _tensor(np.ldexp(table[:, 1].astype(np.float64), -SLOPE_BITS), device)

    def apply(self, sums: Tensor, exponent: int) -> Tensor:
        """The function, rounded to multiples of 2^-exponent, float32."""
        return self._fill(sums, torch.empty(sums.shape, dtype=torch.float32, device=sums.device), exponent)

    def look_up(self, sums: Tensor) -> Tensor:
        """The function before any rounding, float64."""
        return self._fill(sums, torch.empty_like(sums), None)

    def _fill(self, sums: Tensor, out: Tensor, exponent: int | None) -> Tensor:
        size = min(CHUNK, sums.numel())
        work, value, slope = (torch.empty(size, dtype=torch.float64, device=sums.device) for _ in range(3))
        index = torch.empty(size, dtype=torch.int32, device=sums.device)
        flat, filled = sums.view(-1), out.view(-1)
        for start in range(0, sums.numel(), size):
            source, target = flat[start : start + size], filled[start : start + size]
            count = len(source)
            y = self._evaluate(source, work[:count], value[:count], slope[:count], index[:count])
            target.copy_(y if exponent is None else _round_(y, exponent))
        return out

    def _evaluate(self, y: Tensor, work: Tensor, value: Tensor, slope: Tensor, index: Tensor) -> Tensor:
        """One product and one sum, each rounded once; the result lies in `work`."""
        nearest = torch.mul(y, float(STEPS_PER_UNIT), out=work).round_().clamp_(-HALF, HALF)
        index.copy_(nearest).add_(HALF)
        torch.index_select(self._values, 0, index, out=value)
        torch.index_select(self._slopes, 0, index, out=slope)
        distance = torch.sub(y, nearest.mul_(1.0 / STEPS_PER_UNIT), out=work)
        return distance.mul_(slope).add_(value)


def expo(largest: float, cap: int) -> int:
    """The exponent of a tensor whose largest magnitude is at most `largest`."""
    if largest == 0.0:
        return min(cap, ACTIVATION_BITS)
    return min(cap, ACTIVATION_BITS - math.frexp(largest)[1])


def cap_of(layer: Layer) -> int:
    """The largest exponent of a layer's input for which every rescaled bias stays within 2^50."""
    caps = [
        BIAS_BITS - math.frexp(bias)[1] - int(exponent)
        for bias, exponent in zip(layer.bias.tolist(), layer.exponents.tolist(), strict=True)
        if bias != 0.0
    ]
    return min(caps, default=NO_CAP)


def _to_grid(exact: Tensor, exponent: int) -> Grid:
    values = torch.empty(exact.shape, dtype=torch.float32, device=exact.device)
    for part in _parts(exact, CHUNK):
        values[part] = _round_(exact[part].clone(), exponent)
    return Grid(values, exponent)


def _round_(values: Tensor, exponent: int) -> Tensor:
    """Round half even to multiples of 2^-exponent, in place; powers of two scale exactly."""
    return values.mul_(2.0**exponent).round_().mul_(2.0**-exponent)


def _mean(values: Tensor) -> Tensor:
    """The exact sum over positions, and one division."""
    return values.sum(dim=0, dtype=torch.float64, keepdim=True) / float(len(values))


def _largest(values: Tensor) -> float:
    low, high = torch.aminmax(values)
    return max(-float(low), float(high))


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


def _parts(values: Tensor, size: int, *, columns: int = 0) -> list[slice]:
    """Slices of rows that hold about `size` values each."""
    rows = max(1, size // max(1, columns or values.shape[1]))
    return [slice(start, start + rows) for start in range(0, values.shape[0], rows)]


def _tensor(array: NDArray[Any], device: torch.device) -> Tensor:
    """A copy of an array on the device."""
    return torch.from_numpy(np.array(array)).to(device)
