"""The canonical engine: float64 arithmetic that is exact, so the bits are the same everywhere.

Rules (docs/verification-spec.md states them for a stranger)
- A tensor holds multiples of 2^-e, |a| <= 2^(24-e), in float32; e belongs to one image and one tensor.
- A sum is exact: every partial sum is an integer below 2^53 in its channel's unit, so order, threads, fused
  multiply-add, BLAS and device cannot change it. Convolutions are our own products: no Winograd, no FFT.
- Between sums each operation is one IEEE 754 binary64 operation or a table look-up, in the order written
  here.
- e is chosen from the exact sums: `expo(M, cap) = min(cap, 24 - ex(M))`, M = m·2^ex(M), ½ <= m < 1; for
  M = 0 it is min(cap, 24).
- Images that are computed together share operations, never a number: a batch cannot matter.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from perturbnet.classifier.canonical.artefact import Act, Artefact, Op, ProgramStep
from perturbnet.classifier.canonical.layers import (
    ExactLayer,
    ExactSums,
    Grid,
    Table,
    Tensor,
    largest_of,
    tensor_of,
    unit_of,
)
from perturbnet.classifier.canonical.obligations import (
    ACTIVATION_BITS,
    LEAST_ACTIVATION,
    MOST_ACTIVATION,
)
from perturbnet.classifier.canonical.portable import PortableArithmetic
from perturbnet.classifier.canonical.resampling import coefficients
from perturbnet.classifier.engine import judge
from perturbnet.errors import ModelError
from perturbnet.rules.classification import Classification
from perturbnet.wire.images import Pixels

GATE_UNIT = 2.0**-24
WORTH_COMPILING = 10**9  # products of one image; compiling the kernels takes as long as a few such images
TOGETHER = 16  # images in a pass of torch's operations


class CanonicalEngine:
    """An `Engine` whose every bit is determined by the artefact and the pixels."""

    name = "float64"
    reproducible = True

    def __init__(
        self,
        artefact: Artefact,
        digest: str,
        *,
        device: str = "cpu",
        compiled: bool | None = None,
        together: int = TOGETHER,
    ) -> None:
        """Hold the artefact's numbers on `device`.

        `compiled` says whether the CPU's inner loops are compiled when they are first needed (seconds); None
        leaves it to the size of the network. They take one image at a time, torch's operations up to
        `together`. The bits are the same.
        """
        self.model_digest = digest
        self.model_name = artefact.name
        self.labels = artefact.labels
        self.device = torch.device(device)
        self._size, self._bits = artefact.size, artefact.coefficient_bits
        self._steps = artefact.steps
        self._arithmetic = _choose_arithmetic(artefact, self.device, compiled=compiled)
        self.together = 1 if self._arithmetic.one_at_a_time else together
        self._layers = [ExactLayer(layer, self.device) for layer in artefact.layers]
        self._one_at_a_time = threading.Lock()  # the arithmetic's buffers are shared
        self._check_late = self.device.type != "cpu"  # to look at a number is to wait for the device
        self._unchecked: list[Tensor] = []  # largest magnitudes (images) of every tensor of this pass
        self._silu, self._sigmoid = (Table(table, self.device) for table in (artefact.silu, artefact.sigmoid))

    def classify(self, images: Sequence[Pixels]) -> list[Classification]:
        """See `classifier.Engine`."""
        found: list[Classification] = []
        for start in range(0, len(images), self.together):
            logits = self._compute(images[start : start + self.together])
            found.extend(judge(row, self.labels) for row in logits)
        return found

    def logits(self, pixels: Pixels) -> NDArray[np.float64]:
        """The exact logits of one image, float64 (classes)."""
        row: NDArray[np.float64] = self._compute([pixels])[0]
        return row

    def _compute(self, images: Sequence[Pixels]) -> NDArray[np.float64]:
        """The logits of a few images, float64 (images, classes)."""
        with self._one_at_a_time, torch.inference_mode():
            self._unchecked = []
            logits = self._run(self._prepare(images)).clone()
            if self._unchecked:
                require_in_range(torch.stack(self._unchecked))
            return logits.cpu().numpy().reshape(len(images), -1)

    def _prepare(self, images: Sequence[Pixels]) -> Grid:
        """Resize and crop in integers; one rounding to the input's grid."""
        exact = torch.stack([self._resize(pixels) for pixels in images])
        return self._round(exact, self._layers[0].cap)

    def _resize(self, pixels: Pixels) -> Tensor:
        """The network's input before any rounding, float64 (positions, 3)."""
        height, width, _ = pixels.shape
        size, bits = self._size, self._bits
        rows, columns = (tensor_of(side, self.device) for side in coefficients(height, width, size, bits))
        levels = tensor_of(pixels, self.device).double().permute(2, 0, 1)
        sums = (rows @ levels) @ columns.T
        exact = (sums - 255.0 * 2.0 ** (2 * bits - 1)) * 2.0 ** (1 - 2 * bits)
        return exact.permute(1, 2, 0).reshape(size * size, 3)

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
                grid = self._round(self._arithmetic.survey(grid)[0], cap)
            elif step.op == Op.GATE:
                grid = self._gate(grid, step, cap, kept)
            else:
                grid = self._conv(grid, step, kept, cap)
            if step.adds:
                kept = None
        return self._sums(grid, self._steps[last]).values

    def _next_cap(self, number: int) -> int:
        """The cap that the consumer of this step's output puts on its exponent."""
        following = self._steps[number + 1]
        return self._layers[following.layer].cap if following.op == Op.CONV else MOST_ACTIVATION

    def _conv(self, grid: Grid, step: ProgramStep, kept: Grid | None, cap: int) -> Grid:
        sums = self._sums(grid, step)
        if step.act == Act.SILU and not step.adds:
            unit = self._unit(sums.high.clamp(min=0.5), cap)
            return self._arithmetic.activate(self._silu, sums.values, unit, kept)
        largest = sums.largest
        if step.act == Act.SILU:
            self._arithmetic.look_up(self._silu, sums.values)
        if step.adds and kept is not None:
            largest = self._arithmetic.add_kept(sums.values, kept)
        return self._arithmetic.round(sums.values, self._unit(largest, cap), kept)

    def _gate(self, grid: Grid, step: ProgramStep, cap: int, kept: Grid | None) -> Grid:
        reduce, expand = self._layers[step.layer], self._layers[step.layer + 1]
        mean, largest = self._arithmetic.survey(grid)
        squeezed = self._arithmetic.project(reduce, self._round(mean, reduce.cap, grid, kept))
        unit = self._unit(squeezed.high.clamp(min=0.5), expand.cap)
        excited = self._arithmetic.activate(self._silu, squeezed.values, unit, grid, kept)
        opened = self._arithmetic.project(expand, excited)
        gate_unit = torch.full_like(unit, GATE_UNIT)
        gate = self._arithmetic.activate(self._sigmoid, opened.values, gate_unit, grid, kept)
        factors = gate.values.double()
        return self._arithmetic.scale(grid, factors, self._unit(largest * largest_of(factors), cap), kept)

    def _sums(self, grid: Grid, step: ProgramStep) -> ExactSums:
        return self._arithmetic.take_sums(self._layers[step.layer], grid, step)

    def _round(self, values: Tensor, cap: int, *busy: Grid | None) -> Grid:
        return self._arithmetic.round(values, self._unit(largest_of(values), cap), *busy)

    def _unit(self, largest: Tensor, cap: int) -> Tensor:
        """Each image's unit; what is out of range is refused now, or when the images are through."""
        if self._check_late:
            self._unchecked.append(largest)
        else:
            require_in_range(largest)
        return unit_of(expo(largest, cap))


def _choose_arithmetic(
    artefact: Artefact, device: torch.device, *, compiled: bool | None
) -> PortableArithmetic:
    if compiled is None:
        compiled = device.type == "cpu" and artefact.products >= WORTH_COMPILING
    if not compiled:
        return PortableArithmetic(device)
    if device.type != "cpu":
        raise ModelError(f"the compiled arithmetic is for the CPU, not for {device}")
    from perturbnet.classifier.canonical.compiled import CompiledArithmetic

    return CompiledArithmetic()


def expo(largest: Tensor, cap: int) -> Tensor:
    """The exponents, int64 (images), of tensors whose largest magnitudes are at most `largest`.

    Beyond what `require_in_range` lets pass they mean nothing.
    """
    magnitude = torch.frexp(largest).exponent.long()
    return (ACTIVATION_BITS - magnitude).clamp(min=LEAST_ACTIVATION, max=cap)


def require_in_range(reached: Tensor) -> None:
    """Pass if every tensor's largest magnitude is finite and within the range of the proofs.

    Raises:
        ModelError: it is not.

    """
    limit = 2.0 ** (ACTIVATION_BITS - LEAST_ACTIVATION)
    worst = float(reached.max())  # NaN if any is
    if not worst < limit:
        raise ModelError(f"activations reach {worst:.3g}, beyond 2^{ACTIVATION_BITS - LEAST_ACTIVATION}")
