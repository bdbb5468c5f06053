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
import threading
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from perturbnet.classifier.canonical.artefact import Act, Artefact, Op, Step
from perturbnet.classifier.canonical.obligations import (
    ACTIVATION_BITS,
    LEAST_ACTIVATION,
    MOST_ACTIVATION,
)
from perturbnet.classifier.canonical.resampling import coefficients
from perturbnet.classifier.canonical.sums import (
    CHUNK,
    ExactLayer,
    Grid,
    Sums,
    Tensor,
    Workspace,
    parts_of,
    tensor_of,
)
from perturbnet.classifier.canonical.tables import HALF, SLOPE_BITS, STEPS_PER_UNIT, VALUE_BITS
from perturbnet.classifier.engine import Classification, Pixels, judge
from perturbnet.errors import ModelError

GATE_BITS = 24


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
        workspace = Workspace(self.device)
        self._layers = [ExactLayer(layer, self.device, workspace) for layer in artefact.layers]
        self._one_at_a_time = threading.Lock()  # the workspace is shared
        self._silu, self._sigmoid = (
            _Table(table, self.device) for table in (artefact.silu, artefact.sigmoid)
        )

    def classify(self, images: Sequence[Pixels]) -> list[Classification]:
        """See `classifier.Engine`."""
        return [judge(self.logits(pixels), self.labels) for pixels in images]

    def logits(self, pixels: Pixels) -> NDArray[np.float64]:
        """The exact logits of one image, float64 (classes)."""
        with self._one_at_a_time, torch.inference_mode():
            return self._run(self._prepare(pixels)).clone().cpu().numpy().reshape(-1)

    def _prepare(self, pixels: Pixels) -> Grid:
        """Resize and crop in integers; one rounding to the input's grid."""
        height, width, _ = pixels.shape
        size, bits = self._size, self._bits
        rows, columns = (tensor_of(side, self.device) for side in coefficients(height, width, size, bits))
        levels = tensor_of(pixels, self.device).double().permute(2, 0, 1)
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
        return self._layers[following.layer].cap if following.op == Op.CONV else MOST_ACTIVATION

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
        for part in parts_of(grid.values, CHUNK):
            values[part] = _round_(grid.values[part].double().mul_(gate), exponent)
        return Grid(values, exponent)

    def _sums(self, grid: Grid, step: Step) -> Sums:
        layer = self._layers[step.layer]
        if step.depthwise:
            return layer.depthwise(grid, step)
        if step.kernel == 1 and step.stride == 1:
            return layer.project(grid)
        return layer.convolve(grid, step)


class _Table:
    """SiLU or sigmoid: value plus slope times the distance from the nearest entry.

    Written for speed: everything happens in buffers that stay in a core's cache.
    """

    def __init__(self, table: NDArray[np.int64], device: torch.device) -> None:
        self._values = tensor_of(np.ldexp(table[:, 0].astype(np.float64), -VALUE_BITS), device)
        self._slopes = tensor_of(np.ldexp(table[:, 1].astype(np.float64), -SLOPE_BITS), device)

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
        distance = torch.sub(y, nearest, alpha=1.0 / STEPS_PER_UNIT, out=work)  # the product is exact
        return distance.mul_(slope).add_(value)


def expo(largest: float, cap: int) -> int:
    """The exponent of a tensor whose largest magnitude is at most `largest`.

    Raises:
        ModelError: it is not finite, or so large that the arithmetic would leave the range of the proofs.

    """
    if largest == 0.0:
        return min(cap, ACTIVATION_BITS)
    exponent = (
        min(cap, ACTIVATION_BITS - math.frexp(largest)[1]) if math.isfinite(largest) else LEAST_ACTIVATION - 1
    )
    if exponent < LEAST_ACTIVATION:
        raise ModelError(f"activations reach {largest:.3g}, beyond 2^{ACTIVATION_BITS - LEAST_ACTIVATION}")
    return exponent


def _to_grid(exact: Tensor, exponent: int) -> Grid:
    values = torch.empty(exact.shape, dtype=torch.float32, device=exact.device)
    for part in parts_of(exact, CHUNK):
        values[part] = _round_(exact[part].clone(), exponent)
    return Grid(values, exponent)


def _round_(values: Tensor, exponent: int) -> Tensor:
    """Round half even to multiples of 2^-exponent, in place.

    Adding 1.5·2^(52-exponent) leaves no bits below 2^-exponent in binary64, and its rounding is the one
    that is wanted; both operations are exact otherwise, because |a| <= 2^(24-exponent).
    """
    anchor = 1.5 * 2.0 ** (52 - exponent)
    return values.add_(anchor).sub_(anchor)


def _mean(values: Tensor) -> Tensor:
    """The exact sum over positions, and one division."""
    return values.sum(dim=0, dtype=torch.float64, keepdim=True) / float(len(values))


def _largest(values: Tensor) -> float:
    low, high = torch.aminmax(values)
    return max(-float(low), float(high))
