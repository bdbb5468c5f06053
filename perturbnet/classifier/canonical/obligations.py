"""What must hold so that every sum is exact: proven when compiled, and again when read.

Rules (in Python integers, or in int64 sums that cannot overflow: |w| <= 2^23, fewer than 2^40 of them)
1. Sums: for each channel Σ|w|·2^24 + 2^50 <= 2^53. Activations are at most 2^24 in their unit, so no partial
   sum, in any order, passes 2^53 in its channel's unit.
2. Bias: an image's exponent e never passes the layer's cap, `50 - ex(b) - exponent` over all biases
   b = m·2^ex(b), ½ <= m < 1, so that |round(b·2^(e + exponent))| <= 2^50. A cap is at least 22, so that no
   bias makes activations much coarser than float32's.
3. Pooling: at most 2^29 positions, so that a sum of 24-bit integers stays within 2^53.
4. Exponents of channels lie in [-60, 100], those of activations in [-100, 60]: every weight and activation is
   a normal float32, every sum a binary64 number. The second is checked for each image by the engines.
5. The program: shapes fit their steps, each step's input is the output before it, what is added was kept,
   the labels are as many as the logits.

Source: canonical-inference.md, "Obligations".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from perturbnet.classifier.canonical.artefact import Act, Artefact, Layer, Op, ProgramStep
from perturbnet.errors import ModelError

ACTIVATION_BITS = 24
WEIGHT_BITS = 23
BIAS_BITS = 50
EXACT_BITS = 53
POSITION_BITS = 29
SUM_LIMIT = 2 ** (EXACT_BITS - ACTIVATION_BITS) - 2 ** (BIAS_BITS - ACTIVATION_BITS)
LEAST_EXPONENT, MOST_EXPONENT = -60, 100
LEAST_ACTIVATION, MOST_ACTIVATION = -100, 60
LEAST_CAP = 22
_COUNT_LIMIT = 2**40


@dataclass(frozen=True, slots=True)
class BitBudget:
    """One layer's worst case: log2 of the largest sum any input could reach, and its exponents.

    `sum_bits` is log2(max over channels of Σ|w|·2^24 + 2^50), at most 53; `cap` is None when every bias is 0.
    """

    layer: int
    kind: str
    shape: tuple[int, ...]
    sum_bits: float
    least_exponent: int
    most_exponent: int
    cap: int | None


def absolute_sums(layer: Layer) -> list[int]:
    """Σ|w| of each channel, exactly."""
    weights = layer.weights.reshape(-1, layer.weights.shape[-1])
    if len(weights) >= _COUNT_LIMIT:
        raise ModelError(f"{len(weights)} weights for one output; fewer than 2^40 are allowed")
    # Row by row: an int64 copy of the largest matrix would be as large as the model's float64 weights.
    total = np.zeros(weights.shape[1], dtype=np.int64)
    for start in range(0, len(weights), 256):
        total += np.abs(weights[start : start + 256].astype(np.int64)).sum(axis=0)
    return [int(value) for value in total]


def cap_of_bias(layer: Layer) -> int | None:
    """The largest exponent of the layer's input for which every rescaled bias stays within 2^50."""
    caps = [
        BIAS_BITS - math.frexp(bias)[1] - int(exponent)
        for bias, exponent in zip(layer.bias.tolist(), layer.exponents.tolist(), strict=True)
        if bias != 0.0
    ]
    return min(caps, default=None)


def prove_layer(layer: Layer, where: str) -> None:
    """Obligations 1, 2 and 4 for one layer.

    Raises:
        ModelError: one of them does not hold.

    """
    if not np.isfinite(layer.bias).all():
        raise ModelError(f"{where}: a bias is not finite")
    low, high = int(layer.exponents.min(initial=0)), int(layer.exponents.max(initial=0))
    if low < LEAST_EXPONENT or high > MOST_EXPONENT:
        raise ModelError(
            f"{where}: exponents {low} to {high}; allowed are {LEAST_EXPONENT} to {MOST_EXPONENT}"
        )
    largest = max(abs(int(layer.weights.max(initial=0))), abs(int(layer.weights.min(initial=0))))
    if largest > 2**WEIGHT_BITS:
        raise ModelError(f"{where}: a weight of {largest}; at most 2^{WEIGHT_BITS} is allowed")
    total = max(absolute_sums(layer), default=0)
    if total * 2**ACTIVATION_BITS + 2**BIAS_BITS > 2**EXACT_BITS:
        raise ModelError(f"{where}: Σ|w| = {total} leaves no proof that its sums are exact")
    cap = cap_of_bias(layer)
    if cap is not None and cap < LEAST_CAP:
        raise ModelError(f"{where}: a bias allows only exponents up to {cap}; expected at least {LEAST_CAP}")


def prove_artefact(artefact: Artefact) -> None:
    """All obligations for a whole model.

    Raises:
        ModelError: one of them does not hold; which, and where.

    """
    if not artefact.steps or artefact.size < 1:
        raise ModelError(f"a model of {len(artefact.steps)} steps for {artefact.size} pixels")
    for number, layer in enumerate(artefact.layers):
        prove_layer(layer, f"layer {number}")
    height, width, channels = artefact.size, artefact.size, 3
    kept: tuple[int, int, int] | None = None
    for number, step in enumerate(artefact.steps):
        where = f"step {number}"
        if (step.height, step.width) != (height, width):
            raise ModelError(
                f"{where} takes {step.height}×{step.width} of the {height}×{width} that are there"
            )
        if step.keeps:
            kept = (height, width, channels)
        channels = _prove_step(artefact, step, channels, where)
        height, width = step.out_height, step.out_width
        if step.adds and kept != (height, width, channels):
            raise ModelError(f"{where} adds {kept} to {(height, width, channels)}")
    last = artefact.steps[-1]
    if (last.op, last.act, height, width) != (Op.CONV, Act.NONE, 1, 1) or last.adds:
        raise ModelError("the last step is no plain matrix")
    if channels != len(artefact.labels):
        raise ModelError(f"{channels} logits and {len(artefact.labels)} labels")


def budgets(artefact: Artefact) -> Iterator[BitBudget]:
    """Worst cases of all layers, in order."""
    kinds = dict(_kinds(artefact))
    for number, layer in enumerate(artefact.layers):
        worst = max(absolute_sums(layer), default=0) * 2**ACTIVATION_BITS + 2**BIAS_BITS
        yield BitBudget(
            number,
            kinds.get(number, "unused"),
            layer.weights.shape,
            math.log2(worst),
            int(layer.exponents.min()),
            int(layer.exponents.max()),
            cap_of_bias(layer),
        )


def _prove_step(artefact: Artefact, step: ProgramStep, channels: int, where: str) -> int:
    """Shapes and positions of one step; returns how many channels leave it."""
    _require(step.cin == channels, where, f"takes {step.cin} channels; {channels} arrive")
    if step.op == Op.POOL:
        _require(step.height * step.width <= 2**POSITION_BITS, where, "pools more than 2^29 positions")
        _require((step.out_height, step.out_width) == (1, 1), where, "pools to more than one position")
        return channels
    if step.op == Op.GATE:
        _require(step.height * step.width <= 2**POSITION_BITS, where, "pools more than 2^29 positions")
        _require((step.out_height, step.out_width) == (step.height, step.width), where, "resizes by a gate")
        inner = _outputs(artefact, step.layer, (1, 1, channels), where)
        width = _outputs(artefact, step.layer + 1, (1, 1, inner), where)
        _require(width == channels, where, f"gates {channels} channels by {width}")
        return channels
    _require(step.op == Op.CONV, where, f"is of unknown kind {step.op}")
    _require(step.act in {Act.NONE, Act.SILU}, where, f"has the unknown activation {step.act}")
    _require(min(step.kernel, step.stride, step.out_height, step.out_width) >= 1, where, "has an empty side")
    _require(min(step.pad_top, step.pad_left) >= 0, where, "has a negative padding")
    _require(max(step.pad_top, step.pad_left) < step.kernel, where, "is padded by more than its kernel")
    reach = (step.out_height - 1) * step.stride < step.height + step.kernel
    reach &= (step.out_width - 1) * step.stride < step.width + step.kernel
    _require(reach, where, "reaches beyond its input")
    point = (step.out_height, step.out_width) == (step.height, step.width)
    _require(point or step.kernel * step.stride > 1, where, "resizes by a 1×1 convolution")
    leading = (step.kernel, step.kernel) + (() if step.depthwise else (channels,))
    outputs = _outputs(artefact, step.layer, leading, where)
    _require(not step.depthwise or outputs == channels, where, "changes the channels of a depthwise map")
    return outputs


def _outputs(artefact: Artefact, number: int, leading: tuple[int, ...], where: str) -> int:
    """Check that a layer's weights are `leading` + (channels,), and return those channels."""
    _require(0 <= number < len(artefact.layers), where, f"names layer {number} of {len(artefact.layers)}")
    layer = artefact.layers[number]
    shape: tuple[int, ...] = layer.weights.shape
    _require(shape[:-1] == leading, where, f"has weights {shape}; expected {leading} and channels")
    same = layer.exponents.shape == layer.bias.shape == shape[-1:]
    _require(same, where, "has exponents or biases of another number")
    return shape[-1]


def _require(holds: bool, where: str, what: str) -> None:  # noqa: FBT001 - the condition
    if not holds:
        raise ModelError(f"{where} {what}")


def _kinds(artefact: Artefact) -> Iterator[tuple[int, str]]:
    for step in artefact.steps:
        if step.op == Op.GATE:
            yield step.layer, "squeeze"
            yield step.layer + 1, "excite"
        elif step.op == Op.CONV:
            yield step.layer, "depthwise" if step.depthwise else f"{step.kernel}×{step.kernel}"
