"""The integer engine: int64 sums and shifts, the same bits as `engine` by another road. Slow on purpose.

Rules
- A tensor is integers a with one exponent: the numbers are a·2^-exponent, |a| <= 2^24. Sums are int64;
  channel c counts in units of 2^-(exponent + that channel's).
- Rounding is half to even, by shifts of integers wherever what is rounded is an integer. What the
  specification defines in binary64 (table look-up, adding a shortcut, the mean's division) is done in
  binary64, one operation at a time.
- Σ|w|·max|a| + |bias| <= 2^53 is checked in integers for every layer of every image, not assumed.
- Nothing here is imported from `engine`, and torch is not used.

Source: canonical-inference.md, "Engines".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perturbnet.classifier.canonical import obligations
from perturbnet.classifier.canonical.artefact import Act, Artefact, Op, ProgramStep
from perturbnet.classifier.canonical.resampling import integer_row
from perturbnet.classifier.canonical.tables import HALF, SLOPE_BITS, STEPS_PER_UNIT, VALUE_BITS
from perturbnet.classifier.engine import judge
from perturbnet.classifier.preprocessing import AxisMap, axis_maps
from perturbnet.errors import ModelError
from perturbnet.rules.classification import Classification
from perturbnet.wire.images import Pixels

GATE_BITS = 24
TABLE_SHIFT = 12  # log2 of STEPS_PER_UNIT
MOST_SHIFT = 60  # |n| <= 2^53 shifted right by more is 0
PATCHES = 4096  # rows of a matrix product at a time

Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Fixed:
    """Integers (height, width, channels) in units of 2^-exponent, at most 2^24 in magnitude."""

    values: Integers
    exponent: int

    def doubles(self) -> Doubles:
        """The numbers themselves, exactly."""
        return np.ldexp(self.values.astype(np.float64), -self.exponent)


@dataclass(frozen=True)
class IntegerSums:
    """Exact sums (height, width, channels); channel c in units of 2^-exponents[c]."""

    values: Integers
    exponents: Integers

    def doubles(self) -> Doubles:
        """The numbers themselves, exactly: they have at most 53 bits."""
        return np.ldexp(self.values.astype(np.float64), -self.exponents)


class IntegerEngine:
    """An `Engine` on int64 alone; gives the logits of `CanonicalEngine`."""

    name = "integer"
    reproducible = True
    together = 1

    def __init__(self, artefact: Artefact, digest: str) -> None:
        """Take an artefact's integers as they are."""
        self.artefact = artefact
        self.model_digest = digest
        self.model_name = artefact.name
        self.labels = artefact.labels
        self._caps = [_cap(obligations.cap_of_bias(layer)) for layer in artefact.layers]
        self._totals = [
            np.array(obligations.absolute_sums(layer), dtype=np.int64) for layer in artefact.layers
        ]

    def classify(self, images: Sequence[Pixels]) -> list[Classification]:
        """See `classifier.Engine`."""
        return [judge(self.logits(pixels), self.labels) for pixels in images]

    def logits(self, pixels: Pixels) -> Doubles:
        """Return the exact logits of one image, float64 (classes).

        Raises:
            ModelError: activations beyond 2^124, which no trained network has.

        """
        tensor = self._prepare(pixels)
        kept: Fixed | None = None
        for number, step in enumerate(self.artefact.steps[:-1]):
            if step.keeps:
                kept = tensor
            tensor = self._step(tensor, step, kept if step.adds else None, self._next_cap(number))
        return self._sums(tensor, self.artefact.steps[-1]).doubles().reshape(-1)

    def _prepare(self, pixels: Pixels) -> Fixed:
        """Resize both sides, X = 2V - 255 in units of 2^-(2·bits), one rounding."""
        height, width, _ = pixels.shape
        bits = self.artefact.coefficient_bits
        rows, columns = axis_maps(height, width, self.artefact.size)
        resized = _resample(_resample(pixels.astype(np.int64), rows, bits).swapaxes(0, 1), columns, bits)
        exact = resized.swapaxes(0, 1) - (255 << (2 * bits - 1))  # half of X, in units of 2^-(2·bits)
        if (peak := int(np.abs(exact).max())) > 2**obligations.EXACT_BITS:
            raise ModelError(f"the resized image reaches {peak}, beyond 2^53")
        unit = 2 * bits - 1
        exponent = choose_exponent(math.ldexp(float(peak), -unit), self._caps[0])
        return Fixed(shift_half_even(exact, np.int64(unit - exponent)), exponent)

    def _step(self, tensor: Fixed, step: ProgramStep, kept: Fixed | None, cap: int) -> Fixed:
        if step.op == Op.POOL:
            return _round(_mean(tensor), cap)
        if step.op == Op.GATE:
            return self._gate(tensor, step, cap)
        sums = self._sums(tensor, step)
        if step.act == Act.SILU:
            values = look_up(sums, self.artefact.silu)
            if kept is None:
                largest = max(float(sums.doubles().max()), 0.5)
                return _round_to(values, choose_exponent(largest, cap))
            return _round(values + kept.doubles(), cap)
        if kept is not None:
            return _round(sums.doubles() + kept.doubles(), cap)
        exponent = choose_exponent(float(np.abs(sums.doubles()).max()), cap)
        return Fixed(shift_half_even(sums.values, sums.exponents - exponent), exponent)

    def _next_cap(self, number: int) -> int:
        following = self.artefact.steps[number + 1]
        return self._caps[following.layer] if following.op == Op.CONV else obligations.MOST_ACTIVATION

    def _gate(self, tensor: Fixed, step: ProgramStep, cap: int) -> Fixed:
        squeezed = _round(_mean(tensor), self._caps[step.layer])
        first = self._matrix(squeezed, step.layer)
        exponent = choose_exponent(max(float(first.doubles().max()), 0.5), self._caps[step.layer + 1])
        inner = _round_to(look_up(first, self.artefact.silu), exponent)
        gate = _round_to(look_up(self._matrix(inner, step.layer + 1), self.artefact.sigmoid), GATE_BITS)
        product = tensor.values * gate.values  # at most 2^24 · 2^24
        unit = tensor.exponent + GATE_BITS
        bound = int(np.abs(tensor.values).max()) * int(gate.values.max())
        exponent = choose_exponent(math.ldexp(float(bound), -unit), cap)
        return Fixed(shift_half_even(product, np.int64(unit - exponent)), exponent)

    def _sums(self, tensor: Fixed, step: ProgramStep) -> IntegerSums:
        if step.kernel == 1 and step.stride == 1 and not step.depthwise:
            return self._matrix(tensor, step.layer)
        weights = self.artefact.layers[step.layer].weights.astype(np.int64)
        taps = [(y, x) for y in range(step.kernel) for x in range(step.kernel)]
        windows = [_window(tensor.values, step, y, x) for y, x in taps]
        if step.depthwise:
            total = sum(window * weights[tap] for window, tap in zip(windows, taps, strict=True))
            return self._finish(np.asarray(total), tensor, step.layer)
        patches = np.concatenate(windows, axis=2)
        return self._product(patches, weights.reshape(-1, step.cout), tensor, step.layer)

    def _matrix(self, tensor: Fixed, layer: int) -> IntegerSums:
        weights = self.artefact.layers[layer].weights
        flat = weights.astype(np.int64).reshape(-1, weights.shape[-1])
        return self._product(tensor.values, flat, tensor, layer)

    def _product(self, patches: Integers, weights: Integers, tensor: Fixed, layer: int) -> IntegerSums:
        """Matrix product (height, width, taps) by (taps, channels), some rows at a time."""
        height, width, taps = patches.shape
        rows = patches.reshape(-1, taps)
        parts = [rows[start : start + PATCHES] @ weights for start in range(0, len(rows), PATCHES)]
        return self._finish(np.concatenate(parts).reshape(height, width, -1), tensor, layer)

    def _finish(self, values: Integers, tensor: Fixed, number: int) -> IntegerSums:
        """Add the rounded bias; check that no partial sum can have passed 2^53."""
        layer = self.artefact.layers[number]
        exponents = layer.exponents.astype(np.int64) + tensor.exponent
        bias = np.rint(np.ldexp(layer.bias, exponents)).astype(np.int64)
        largest = int(np.abs(tensor.values).max())
        reach = max(
            int(total) * largest + abs(int(b)) for total, b in zip(self._totals[number], bias, strict=True)
        )
        if largest > 2**obligations.ACTIVATION_BITS or reach > 2**obligations.EXACT_BITS:
            raise ModelError(f"layer {number}: a partial sum may reach {reach}, beyond 2^53")
        return IntegerSums(values + bias, exponents)


def choose_exponent(largest: float, cap: int) -> int:
    """Return min(cap, 24 - ex(largest)), largest = m·2^ex, ½ <= m < 1; min(cap, 24) for 0.

    Raises:
        ModelError: so coarse that float32 could not hold the tensor.

    """
    if not math.isfinite(largest):
        raise ModelError(f"activations reach {largest}")
    exponent = min(cap, obligations.ACTIVATION_BITS - (math.frexp(largest)[1] if largest else 0))
    if exponent < obligations.LEAST_ACTIVATION:
        raise ModelError(f"activations reach {largest:.3g}, beyond 2^124")
    return exponent


def shift_half_even(values: Integers, shift: Integers | np.int64) -> Integers:
    """Return values / 2^shift rounded half to even, by shifts; a negative shift multiplies."""
    right = np.clip(shift, 0, MOST_SHIFT)
    left = np.clip(-np.asarray(shift), 0, MOST_SHIFT)
    below = values >> right
    rest = values - (below << right)
    half = (np.int64(1) << right) >> 1
    up = (rest > half) | ((rest == half) & (half > 0) & (below & 1 == 1))
    rounded: Integers = (below + up) << left
    return rounded


def look_up(sums: IntegerSums, table: Integers) -> Doubles:
    """Value plus slope times distance: two binary64 operations on the nearest entry."""
    reach = 2 * HALF  # beyond either end of the table; keeps the shift to the left from overflowing
    near = np.where(sums.exponents < TABLE_SHIFT, np.clip(sums.values, -reach, reach), sums.values)
    index = np.clip(shift_half_even(near, np.maximum(sums.exponents - TABLE_SHIFT, -40)), -HALF, HALF)
    entry = table[index + HALF]
    value = np.ldexp(entry[..., 0].astype(np.float64), -VALUE_BITS)
    slope = np.ldexp(entry[..., 1].astype(np.float64), -SLOPE_BITS)
    distance = sums.doubles() - index / float(STEPS_PER_UNIT)
    product: Doubles = distance * slope
    return product + value


def _cap(cap: int | None) -> int:
    return obligations.MOST_ACTIVATION if cap is None else min(cap, obligations.MOST_ACTIVATION)


def _resample(levels: Integers, axis: AxisMap, bits: int) -> Integers:
    """Apply one side's coefficients to the first axis of (side, other, 3)."""
    found = np.empty((len(axis.starts), *levels.shape[1:]), dtype=np.int64)
    for i, (start, row, whole) in enumerate(
        zip(axis.starts, axis.numerators, axis.denominators, strict=True)
    ):
        coefficients = np.array(integer_row(row, whole, bits), dtype=np.int64)
        found[i] = (levels[start : start + len(row)] * coefficients[:, None, None]).sum(axis=0)
    return found


def _window(values: Integers, step: ProgramStep, y: int, x: int) -> Integers:
    """What kernel tap (y, x) sees: (out_height, out_width, channels), 0 outside the image."""
    found = np.zeros((step.out_height, step.out_width, values.shape[2]), dtype=np.int64)
    for i in range(step.out_height):
        row = i * step.stride + y - step.pad_top
        if 0 <= row < step.height:
            columns = np.arange(step.out_width) * step.stride + x - step.pad_left
            inside = (columns >= 0) & (columns < step.width)
            found[i, inside] = values[row, columns[inside]]
    return found


def _mean(tensor: Fixed) -> Doubles:
    """The exact sum over positions, then one division."""
    height, width, _ = tensor.values.shape
    total = tensor.values.sum(axis=(0, 1), keepdims=True)
    if int(np.abs(total).max()) > 2**obligations.EXACT_BITS:
        raise ModelError("a sum over positions is beyond 2^53")
    mean: Doubles = np.ldexp(total.astype(np.float64), -tensor.exponent) / float(height * width)
    return mean


def _round(values: Doubles, cap: int) -> Fixed:
    return _round_to(values, choose_exponent(float(np.abs(values).max()), cap))


def _round_to(values: Doubles, exponent: int) -> Fixed:
    rounded = np.rint(np.ldexp(values, exponent)).astype(np.int64)
    return Fixed(rounded, exponent)
