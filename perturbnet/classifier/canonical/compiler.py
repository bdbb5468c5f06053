"""From float weights to integers: fold batch norm, choose a power of two for each channel, prove that every sum is exact.

Rules (design: canonical-inference.md)
- Batch norm is folded in binary64 with + - * / sqrt, one operation at a time, so two machines compile the same file.
- The stem takes X = 2v - 255 (v: levels 0 to 255), so its weights are divided by 255.
- Exponent of a channel: the largest with |w| <= 2^23 and Σ|w| <= 2^29 - 2^26, so that Σ|w|·|a| <= 2^53 - 2^50 for
  activations |a| <= 2^24; but no larger than 28 - ex(b) for a bias b = m·2^ex(b), ½ <= m < 1, so that the bias does not force
  coarse activations (its cap, 50 - ex(b) - exponent, stays at 22 or more).
- Proof for each channel, in Python integers: Σ|w|·2^24 + 2^50 <= 2^53, where 2^50 bounds the rescaled bias. A layer for which it does not
  hold is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models._efficientnet_blocks import ConvBnAct, EdgeResidual, InvertedResidual
from torch import nn

from perturbnet.classifier.canonical.artefact import Act, Artefact, Layer, Op, Step
from perturbnet.classifier.canonical.tables import sigmoid_table, silu_table
from perturbnet.errors import ModelError

ACTIVATION_BITS = 24
WEIGHT_BITS = 23
SUM_LIMIT = 2**29 - 2**26
BIAS_BITS = 50
BIAS_REACH = 28
LEAST_EXPONENT, MOST_EXPONENT = -60, 200
COEFFICIENT_BITS = 22
STEM_DIVISOR = 255.0

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class _Linear:
    """A folded layer: float64 weights (k, k, cin, cout) or (k, k, c), bias (cout)."""

    weights: Doubles
    bias: Doubles


def compile_network(network: nn.Module, *, name: str, labels: tuple[str, ...], size: int) -> Artefact:
    """Compile a timm EfficientNetV2 for square inputs of `size`.

    Raises:
        ModelError: a module this compiler does not know, or a layer whose sums cannot be proven exact.

    """
    builder = _Builder(size)
    with torch.no_grad():
        builder.stem(network)
        for block in _blocks(network):
            builder.block(block)
        builder.head(network)
    layers = tuple(quantise(linear, index) for index, linear in enumerate(builder.linears))
    return Artefact(
        name=name,
        size=size,
        coefficient_bits=COEFFICIENT_BITS,
        labels=labels,
        steps=tuple(builder.steps),
        layers=layers,
        silu=silu_table(),
        sigmoid=sigmoid_table(),
    )


def quantise(linear: _Linear, index: int) -> Layer:
    """Integers and exponents for one layer, proven exact.

    Raises:
        ModelError: weights or biases that are not finite, or so large that no exponent is left.

    """
    if not (np.isfinite(linear.weights).all() and np.isfinite(linear.bias).all()):
        raise ModelError(f"layer {index}: weights or biases are not finite")
    cout = len(linear.bias)
    columns = np.ascontiguousarray(linear.weights.reshape(-1, cout).T)
    exponents = np.array(
        [_exponent(column, bias) for column, bias in zip(columns, linear.bias, strict=True)], dtype=np.int32
    )
    integers = np.rint(np.ldexp(columns, exponents[:, None]))
    for channel, row in enumerate(integers):
        prove_exact([int(value) for value in row], f"layer {index}, channel {channel}")
    weights = np.ascontiguousarray(integers.T).astype(np.int32).reshape(linear.weights.shape)
    return Layer(weights, exponents, linear.bias + 0.0)


def prove_exact(weights: list[int], where: str) -> None:
    """The obligation of every sum: Σ|w|·2^24 plus the largest rescaled bias stays within 2^53.

    Raises:
        ModelError: it does not.

    """
    total = sum(map(abs, weights))
    if (
        total * 2**ACTIVATION_BITS + 2**BIAS_BITS > 2**53
        or max(map(abs, weights), default=0) > 2**WEIGHT_BITS
    ):
        raise ModelError(f"{where}: Σ|w| = {total} leaves no proof that its sums are exact")


def _exponent(column: Doubles, bias: float) -> int:
    """The largest allowed exponent of one channel."""
    largest = float(np.abs(column).max(initial=0.0))
    if largest == 0.0:
        return 0
    exponent = WEIGHT_BITS - math.frexp(largest)[1] + 1
    if bias != 0.0:
        exponent = min(exponent, BIAS_REACH - math.frexp(bias)[1])
    exponent = min(exponent, MOST_EXPONENT)
    while exponent >= LEAST_EXPONENT:
        integers = np.abs(np.rint(np.ldexp(column, exponent)))
        if integers.max() <= 2**WEIGHT_BITS and int(integers.astype(np.int64).sum()) <= SUM_LIMIT:
            return exponent
        exponent -= 1
    raise ModelError(f"a channel with weights up to {largest:.3g} is beyond 2^{-LEAST_EXPONENT}")


class _Builder:
    """Collects steps and folded layers, following the image's size through the network."""

    def __init__(self, size: int) -> None:
        self.side = size
        self.steps: list[Step] = []
        self.linears: list[_Linear] = []

    def stem(self, network: Any) -> None:  # noqa: ANN401 - timm has no types for its modules
        self._conv(network.conv_stem, network.bn1, act=True, divisor=STEM_DIVISOR)

    def block(self, block: nn.Module) -> None:
        """One block of the EfficientNetV2 family."""
        skip = 2 * int(bool(getattr(block, "has_skip", False)))
        keep = skip // 2
        if isinstance(block, ConvBnAct):
            self._conv(block.conv, block.bn1, act=True, shortcut=keep | skip)
        elif isinstance(block, EdgeResidual):
            self._conv(block.conv_exp, block.bn1, act=True, shortcut=keep)
            self._gate(block.se)
            self._conv(block.conv_pwl, block.bn2, act=False, shortcut=skip)
        elif isinstance(block, InvertedResidual):
            self._conv(block.conv_pw, block.bn1, act=True, shortcut=keep)
            self._conv(block.conv_dw, block.bn2, act=True)
            self._gate(block.se)
            self._conv(block.conv_pwl, block.bn3, act=False, shortcut=skip)
        else:
            raise ModelError(f"{type(block).__name__} is not a block this compiler knows")

    def head(self, network: Any) -> None:  # noqa: ANN401 - as above
        self._conv(network.conv_head, network.bn2, act=True)
        channels = len(self.linears[-1].bias)
        self._step(Op.POOL, cin=channels, cout=channels, out=1)
        weight, bias = _doubles(network.classifier.weight), _doubles(network.classifier.bias)
        self._linear(_Linear(weight.T[None, None], bias), act=False)

    def _conv(
        self, conv: nn.Conv2d, norm: nn.Module, *, act: bool, shortcut: int = 0, divisor: float = 1.0
    ) -> None:
        if act:
            _require_silu(norm)
        depthwise = conv.groups > 1
        if depthwise and not conv.groups == conv.in_channels == conv.out_channels:
            raise ModelError(f"{conv} is neither dense nor depthwise")
        linear = fold(conv, norm, divisor)
        kernel, stride = int(conv.kernel_size[0]), int(conv.stride[0])
        before, out = _padding(conv, self.side)
        self._step(
            Op.CONV, cin=conv.in_channels, cout=conv.out_channels, kernel=kernel, stride=stride, pad=before,
            depthwise=int(depthwise), act=Act.SILU if act else Act.NONE, shortcut=shortcut, out=out,
        )  # fmt: skip
        self.linears.append(linear)

    def _linear(self, linear: _Linear, *, act: bool) -> None:
        _, _, cin, cout = linear.weights.shape
        self._step(Op.CONV, cin=cin, cout=cout, act=Act.SILU if act else Act.NONE, out=self.side)
        self.linears.append(linear)

    def _gate(self, gate: Any) -> None:  # noqa: ANN401 - as above
        if isinstance(gate, nn.Identity):
            return
        if not isinstance(gate.act1, nn.SiLU) or not isinstance(gate.gate, nn.Sigmoid):
            raise ModelError(f"{gate} is not a squeeze-excite of SiLU and sigmoid")
        self._step(
            Op.GATE, cin=gate.conv_reduce.in_channels, cout=gate.conv_reduce.out_channels, out=self.side
        )
        for conv in (gate.conv_reduce, gate.conv_expand):
            self.linears.append(_Linear(_taps_first(conv), _doubles(conv.bias)))

    def _step(  # noqa: PLR0913 - a table row
        self, op: Op, *, cin: int, cout: int, out: int, kernel: int = 1, stride: int = 1, pad: int = 0,
        depthwise: int = 0, act: Act = Act.NONE, shortcut: int = 0,
    ) -> None:  # fmt: skip
        layer = len(self.linears) if op is not Op.POOL else -1
        side = self.side
        self.steps.append(
            Step(
                int(op),
                layer,
                cin,
                cout,
                kernel,
                stride,
                pad,
                pad,
                side,
                side,
                out,
                out,
                depthwise,
                int(act),
                shortcut,
            )
        )
        self.side = out


def fold(conv: nn.Conv2d, norm: Any, divisor: float) -> _Linear:  # noqa: ANN401 - timm's BatchNormAct2d
    """Fold a batch norm (eval mode) into its convolution, in binary64, one operation at a time."""
    scale = _doubles(norm.weight) / np.sqrt(_doubles(norm.running_var) + np.float64(norm.eps))
    shift = _doubles(norm.bias) - _doubles(norm.running_mean) * scale
    if conv.bias is not None:
        shift = shift + _doubles(conv.bias) * scale
    return _Linear(_taps_first(conv) * scale / divisor, shift)


def _taps_first(conv: nn.Conv2d) -> Doubles:
    """(cout, cin, k, k) to (k, k, cin, cout); depthwise (c, 1, k, k) to (k, k, c)."""
    weights = _doubles(conv.weight)
    if conv.groups > 1:
        return np.ascontiguousarray(weights[:, 0].transpose(1, 2, 0))
    return np.ascontiguousarray(weights.transpose(2, 3, 1, 0))


def _padding(conv: nn.Conv2d, side: int) -> tuple[int, int]:
    """Zeros before the first row, and the output's side: TensorFlow's `same` or torch's symmetric padding."""
    kernel, stride = int(conv.kernel_size[0]), int(conv.stride[0])
    if type(conv).__name__ == "Conv2dSame":
        out = -(-side // stride)
        return max((out - 1) * stride + kernel - side, 0) // 2, out
    before = conv.padding if isinstance(conv.padding, int) else int(conv.padding[0])  # type: ignore[arg-type]
    return before, (side + 2 * before - kernel) // stride + 1


def _blocks(network: Any) -> Iterator[nn.Module]:  # noqa: ANN401 - as above
    for stage in network.blocks:
        yield from stage


def _require_silu(norm: Any) -> None:  # noqa: ANN401 - as above
    if not isinstance(getattr(norm, "act", None), nn.SiLU):
        raise ModelError(f"{norm} is not followed by SiLU")


def _doubles(tensor: torch.Tensor) -> Doubles:
    return tensor.detach().cpu().numpy().astype(np.float64)
