"""The canonical engine: float64 arithmetic that is exact, so the bits are the same everywhere.

Rules (design: canonical-inference.md; docs/verification-spec.md states them for a stranger)
- A tensor holds multiples of 2^-e, |a| <= 2^(24-e), in float32; e belongs to one image and one tensor.
- A sum is exact: every partial sum is an integer below 2^53 in its channel's unit, so order, threads, fused multiply-add, BLAS and
  device cannot change it. Convolutions are matrix products of our own; no Winograd, no FFT.
- Between sums each operation is one IEEE 754 binary64 operation or a table look-up, in the order written here.
- e is chosen from the exact sums: `expo(M, cap) = min(cap, 24 - ex(M))`, M = m·2^ex(M), ½ <= m < 1; for M = 0 it is min(cap, 24).
- Each image is computed by itself: a batch cannot matter.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

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
CHUNK = 1 << 16  # values widened to float64 at a time

Tensor = torch.Tensor


@dataclass(frozen=True)
class Grid:
    """A tensor on its grid: float32 multiples of 2^-exponent."""

    values: Tensor  # (height · width, channels) float32
    exponent: int


class CanonicalEngine:
    """An `Engine` whose every bit is determined by the artefact and the pixels."""

    name = "float64"

    def __init__(self, artefact: Artefact, digest: str, *, device: str = "cpu") -> None:
        """Hold the artefact's integers on `device`."""
        self.artefact = artefact
        self.model_digest = digest
        self.model_name = artefact.name
        self.labels = artefact.labels
        self.device = torch.device(device)
        self._weights = [
            torch.from_numpy(np.array(layer.weights, dtype=np.float32)).to(self.device)
            for layer in artefact.layers
        ]
        self._scales = [_powers(-layer.exponents, self.device) for layer in artefact.layers]
        self._biases = [_Bias(layer, self.device) for layer in artefact.layers]
        self._caps = [min(NO_CAP, cap_of(layer)) for layer in artefact.layers]
        self._silu, self._sigmoid = (
            _complex_table(table, self.device) for table in (artefact.silu, artefact.sigmoid)
        )

    def classify(self, images: Sequence[Pixels]) -> list[Classification]:
        """See `classifier.Engine`."""
        return [judge(self.logits(pixels), self.labels) for pixels in images]

    def logits(self, pixels: Pixels) -> NDArray[np.float64]:
        """The exact logits of one image, float64 (classes)."""
        with torch.inference_mode():
            values = self._run(self._prepare(pixels))
            return values.cpu().numpy().reshape(-1)

    def _prepare(self, pixels: Pixels) -> Grid:
        """Resize and crop in integers; one rounding to the input's grid."""
        height, width, _ = pixels.shape
        size, bits = self.artefact.size, self.artefact.coefficient_bits
        rows, columns = (
            torch.from_numpy(np.array(side)).to(self.device)
            for side in coefficients(height, width, size, bits)
        )
        levels = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device).double().permute(2, 0, 1)
        sums = (rows @ levels) @ columns.T
        exact = (sums - 255.0 * 2.0 ** (2 * bits - 1)) * 2.0 ** (1 - 2 * bits)
        exact = exact.permute(1, 2, 0).reshape(size * size, 3)
        return _to_grid(exact, expo(_largest(exact), self._caps[0]))

    def _run(self, grid: Grid) -> Tensor:
        kept: Grid | None = None
        steps = self.artefact.steps
        for number, step in enumerate(steps):
            if step.keeps:
                kept = grid
            if number == len(steps) - 1:
                return self._sums(grid, step)
            cap = self._next_cap(number)
            if step.op == Op.POOL:
                grid = _to_grid(mean := _mean(grid.values), expo(_largest(mean), cap))
            elif step.op == Op.GATE:
                grid = self._gate(grid, step, cap)
            else:
                grid = self._conv(grid, step, kept if step.adds else None, cap)
        raise AssertionError

    def _next_cap(self, number: int) -> int:
        """The cap that the consumer of this step's output puts on its exponent."""
        following = self.artefact.steps[number + 1]
        return self._caps[following.layer] if following.op == Op.CONV else NO_CAP

    def _conv(self, grid: Grid, step: Step, kept: Grid | None, cap: int) -> Grid:
        sums = self._sums(grid, step)
        if step.act == Act.SILU:
            exponent = expo(max(float(sums.max()), 0.5), cap)
            if kept is None:
                return Grid(self._activate(sums, exponent), exponent)
            sums = self._table(sums, self._silu)
        if kept is not None:
            sums.add_(kept.values)
        return _to_grid(sums, expo(_largest(sums), cap))

    def _gate(self, grid: Grid, step: Step, cap: int) -> Grid:
        mean = _mean(grid.values)
        squeezed = _to_grid(mean, expo(_largest(mean), self._caps[step.layer]))
        first = self._linear(squeezed, step.layer)
        exponent = expo(max(float(first.max()), 0.5), self._caps[step.layer + 1])
        second = self._linear(Grid(self._activate(first, exponent), exponent), step.layer + 1)
        gate = _round(self._table(second, self._sigmoid), GATE_BITS).reshape(-1)
        bound = float(grid.values.abs().max()) * float(gate.max())
        exponent = expo(bound, cap)
        values = torch.empty_like(grid.values)
        for part in _parts(grid.values):
            values[part] = _round(grid.values[part].double() * gate, exponent)
        return Grid(values, exponent)

    def _sums(self, grid: Grid, step: Step) -> Tensor:
        """The exact sums of a convolution plus its bias, float64 (height · width, channels)."""
        if step.depthwise:
            sums = self._depthwise(grid, step)
        elif step.kernel == 1 and step.stride == 1:
            return self._linear(grid, step.layer)
        else:
            sums = self._dense(grid, step)
        sums.mul_(self._scales[step.layer])
        return sums.add_(self._biases[step.layer].rounded(grid.exponent))

    def _linear(self, grid: Grid, layer: int) -> Tensor:
        weights = self._weights[layer].reshape(-1, self._weights[layer].shape[-1]).double()
        sums = grid.values.double() @ weights
        sums.mul_(self._scales[layer])
        return sums.add_(self._biases[layer].rounded(grid.exponent))

    def _dense(self, grid: Grid, step: Step) -> Tensor:
        """A k×k convolution as k matrix products, each over the k taps of one kernel row."""
        padded = _pad(grid.values, step)
        weights = self._weights[step.layer].double()
        columns = [
            slice(x, x + (step.out_width - 1) * step.stride + 1, step.stride) for x in range(step.kernel)
        ]
        sums: Tensor | None = None
        for y in range(step.kernel):
            rows = padded[y : y + (step.out_height - 1) * step.stride + 1 : step.stride]
            taps = (
                torch.cat([rows[:, column] for column in columns], dim=2)
                .reshape(-1, step.kernel * step.cin)
                .double()
            )
            product = taps @ weights[y].reshape(step.kernel * step.cin, step.cout)
            sums = product if sums is None else sums.add_(product)
        assert sums is not None
        return sums

    def _depthwise(self, grid: Grid, step: Step) -> Tensor:
        """A k×k depthwise convolution as k² shifted multiply-adds."""
        padded = _pad(grid.values, step).double()
        weights = self._weights[step.layer].double()
        sums = torch.zeros(
            step.out_height, step.out_width, step.cout, dtype=torch.float64, device=self.device
        )
        for y in range(step.kernel):
            rows = padded[y : y + (step.out_height - 1) * step.stride + 1 : step.stride]
            for x in range(step.kernel):
                sums.addcmul_(
                    rows[:, x : x + (step.out_width - 1) * step.stride + 1 : step.stride], weights[y, x]
                )
        return sums.reshape(-1, step.cout)

    def _activate(self, sums: Tensor, exponent: int) -> Tensor:
        """SiLU of exact sums, rounded to the grid, chunk by chunk."""
        values = torch.empty(sums.shape, dtype=torch.float32, device=self.device)
        for part in _parts(sums):
            values[part] = _round(self._table(sums[part], self._silu), exponent)
        return values

    def _table(self, y: Tensor, table: Tensor) -> Tensor:
        """Value plus slope times the distance from the nearest entry: one product, one sum, each rounded once."""
        index = (y * float(STEPS_PER_UNIT)).round_().clamp_(-HALF, HALF)
        entry = torch.view_as_real(table[(index + HALF).to(torch.int64)])
        distance = y - index.mul_(1.0 / STEPS_PER_UNIT)
        return distance.mul_(entry[..., 1]).add_(entry[..., 0])


class _Bias:
    """A layer's bias, rounded to the accumulators' grid of an image."""

    def __init__(self, layer: Layer, device: torch.device) -> None:
        self._bias = torch.from_numpy(np.array(layer.bias)).to(device)
        self._up, self._down = _powers(layer.exponents, device), _powers(-layer.exponents, device)

    def rounded(self, exponent: int) -> Tensor:
        """Round half even to multiples of 2^-(exponent + the channel's)."""
        return (self._bias * self._up * 2.0**exponent).round_() * self._down * 2.0**-exponent


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


def digest_logits(logits: NDArray[np.float64]) -> str:
    """Hex SHA-256 of little-endian float64 after + 0.0."""
    return hashlib.sha256((logits.astype("<f8") + 0.0).tobytes()).hexdigest()


def _to_grid(exact: Tensor, exponent: int) -> Grid:
    values = torch.empty(exact.shape, dtype=torch.float32, device=exact.device)
    for part in _parts(exact):
        values[part] = _round(exact[part], exponent)
    return Grid(values, exponent)


def _round(values: Tensor, exponent: int) -> Tensor:
    """Round half even to multiples of 2^-exponent; powers of two scale exactly."""
    return (values * 2.0**exponent).round_().mul_(2.0**-exponent)


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
    padded = torch.zeros(max(down, step.pad_top + step.height), max(across, step.pad_left + step.width), step.cin,
                         dtype=values.dtype, device=values.device)  # fmt: skip
    inside = padded[step.pad_top : step.pad_top + step.height, step.pad_left : step.pad_left + step.width]
    inside.copy_(values.reshape(step.height, step.width, step.cin))
    return padded


def _parts(values: Tensor) -> list[slice]:
    """Slices of rows that hold about CHUNK values each."""
    rows = max(1, CHUNK // max(1, values.shape[1]))
    return [slice(start, start + rows) for start in range(0, values.shape[0], rows)]


def _powers(exponents: NDArray[np.int32], device: torch.device) -> Tensor:
    """2^exponent, exactly, float64."""
    return torch.from_numpy(np.ldexp(1.0, exponents)).to(device)


def _complex_table(table: NDArray[np.int64], device: torch.device) -> Tensor:
    """(entries) complex128: value and slope side by side, so that one look-up fetches both."""
    pairs = np.ldexp(table.astype(np.float64), np.array([-VALUE_BITS, -SLOPE_BITS]))
    return torch.view_as_complex(torch.from_numpy(np.ascontiguousarray(pairs))).to(device)
