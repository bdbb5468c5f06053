"""The compiler: takes a timm EfficientNetV2 apart, module by module, into a program of integers.

It computes what timm's modules compute in evaluation mode, and refuses whatever it does not know: another
network, block, activation, norm or head, a kernel or stride that is not square, groups other than one for
each channel, dilation. Batch norm's eps and the padding (TensorFlow's `same`, or symmetric) are read from
the modules. The stem takes X = 2v - 255 (v: levels 0 to 255), so its weights are divided by 255. How numbers
become integers: `quantising`; what is proven of them: `obligations`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from timm.models._efficientnet_blocks import ConvBnAct, EdgeResidual, InvertedResidual, SqueezeExcite
from timm.models.efficientnet import EfficientNet
from torch import nn

from perturbnet.classifier.canonical.artefact import Act, Artefact, Layer, Op, ProgramStep
from perturbnet.classifier.canonical.obligations import prove_artefact
from perturbnet.classifier.canonical.quantising import Doubles, Linear, Norm, fold, quantise
from perturbnet.classifier.canonical.tables import sigmoid_table, silu_table
from perturbnet.errors import ModelError

COEFFICIENT_BITS = 22
STEM_DIVISOR = 255.0
CHANNELS = 3


def compile_network(network: nn.Module, *, name: str, labels: tuple[str, ...], size: int) -> Artefact:
    """Compile a timm EfficientNetV2 for square inputs of `size` pixels.

    Raises:
        ModelError: a module this compiler does not know, or a layer whose sums cannot be proven exact.

    """
    _require(type(network) is EfficientNet, f"{type(network).__name__} is not timm's EfficientNet")
    _require(size >= 1, f"an input of {size} pixels; at least 1 is needed")
    _require(not any("\n" in label for label in labels), "a label has a line break")
    builder = _Builder(size)
    with torch.no_grad():
        builder.stem(network)
        for block in _blocks(network):
            builder.block(block)
        builder.head(network)
    artefact = Artefact(
        name=name,
        size=size,
        coefficient_bits=COEFFICIENT_BITS,
        labels=labels,
        steps=tuple(builder.steps),
        layers=tuple(builder.layers),
        silu=silu_table(),
        sigmoid=sigmoid_table(),
    )
    prove_artefact(artefact)
    return artefact


class _Builder:
    """Collects steps and layers, following the image's side through the network."""

    def __init__(self, size: int) -> None:
        self.side = size
        self.steps: list[ProgramStep] = []
        self.layers: list[Layer] = []

    def stem(self, network: Any) -> None:
        _require(network.conv_stem.in_channels == CHANNELS, f"{network.conv_stem} does not take RGB")
        self._conv(network.conv_stem, network.bn1, act=True, divisor=STEM_DIVISOR)

    def block(self, block: Any) -> None:
        """One block of the EfficientNetV2 family; what its `forward` does, in that order."""
        keep = int(bool(getattr(block, "has_skip", False)))
        add = 2 * keep
        _require(
            isinstance(getattr(block, "aa", nn.Identity()), nn.Identity), f"{block} has an anti-alias filter"
        )
        if type(block) is ConvBnAct:
            self._conv(block.conv, block.bn1, act=True, shortcut=keep | add)
        elif type(block) is EdgeResidual:
            self._conv(block.conv_exp, block.bn1, act=True, shortcut=keep)
            self._gate(block.se)
            self._conv(block.conv_pwl, block.bn2, act=False, shortcut=add)
        elif type(block) is InvertedResidual:
            _require(block.conv_s2d is None, f"{block} folds space into depth")
            self._conv(block.conv_pw, block.bn1, act=True, shortcut=keep)
            self._conv(block.conv_dw, block.bn2, act=True)
            self._gate(block.se)
            self._conv(block.conv_pwl, block.bn3, act=False, shortcut=add)
        else:
            raise ModelError(f"{type(block).__name__} is not a block this compiler knows")

    def head(self, network: Any) -> None:
        self._conv(network.conv_head, network.bn2, act=True)
        pool, classifier = network.global_pool, network.classifier
        _require(
            type(pool) is SelectAdaptivePool2d and pool.pool_type in {"avg", "fast", "fastavg"},
            f"{pool} is not the mean over positions",
        )
        _require(type(classifier) is nn.Linear, f"{classifier} is not one matrix")
        channels = self.steps[-1].cout
        self._step(Op.POOL, cin=channels, cout=channels, out=1)
        weight = _doubles(classifier.weight)
        bias = np.zeros(len(weight)) if classifier.bias is None else _doubles(classifier.bias)
        self._step(Op.CONV, cin=weight.shape[1], cout=weight.shape[0], out=1)
        self._add(Linear(np.ascontiguousarray(weight.T)[None, None], bias))

    def _conv(self, conv: Any, norm: Any, *, act: bool, shortcut: int = 0, divisor: float = 1.0) -> None:
        _require_conv(conv)
        _require_norm(norm, act=act)
        kernel, stride = int(conv.kernel_size[0]), int(conv.stride[0])
        before, out = _padding(conv, self.side)
        _require(out >= 1, f"{conv} leaves nothing of {self.side} pixels")
        self._step(
            Op.CONV,
            cin=conv.in_channels,
            cout=conv.out_channels,
            kernel=kernel,
            stride=stride,
            pad=before,
            depthwise=int(conv.groups > 1),
            act=Act.SILU if act else Act.NONE,
            shortcut=shortcut,
            out=out,
        )
        bias = None if conv.bias is None else _doubles(conv.bias)
        self._add(fold(_taps_first(conv), bias, _norm(norm), divisor))

    def _gate(self, gate: Any) -> None:
        if type(gate) is nn.Identity:
            return
        _require(type(gate) is SqueezeExcite, f"{type(gate).__name__} is not a squeeze-excite")
        _require(
            type(gate.act1) is nn.SiLU and type(gate.gate) is nn.Sigmoid,
            f"{gate} is not a squeeze-excite of SiLU and sigmoid",
        )
        reduce, expand = gate.conv_reduce, gate.conv_expand
        for conv in (reduce, expand):
            _require_conv(conv)
            plain = tuple(conv.kernel_size) == tuple(conv.stride) == (1, 1) and conv.groups == 1
            _require(plain and conv.bias is not None, f"{conv} is not a matrix with a bias")
        self._step(Op.GATE, cin=reduce.in_channels, cout=reduce.out_channels, out=self.side)
        for conv in (reduce, expand):
            self._add(Linear(_taps_first(conv), _doubles(conv.bias)))

    def _add(self, linear: Linear) -> None:
        self.layers.append(quantise(linear, f"layer {len(self.layers)}"))

    def _step(  # noqa: PLR0913 - a table row
        self,
        op: Op,
        *,
        cin: int,
        cout: int,
        out: int,
        kernel: int = 1,
        stride: int = 1,
        pad: int = 0,
        depthwise: int = 0,
        act: Act = Act.NONE,
        shortcut: int = 0,
    ) -> None:
        layer = len(self.layers) if op is not Op.POOL else -1
        side = self.side
        self.steps.append(
            ProgramStep(
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


def _taps_first(conv: Any) -> Doubles:
    """(cout, cin, k, k) to (k, k, cin, cout); depthwise (c, 1, k, k) to (k, k, c)."""
    weights = _doubles(conv.weight)
    if conv.groups > 1:
        return np.ascontiguousarray(weights[:, 0].transpose(1, 2, 0))
    return np.ascontiguousarray(weights.transpose(2, 3, 1, 0))


def _padding(conv: Any, side: int) -> tuple[int, int]:
    """Zeros before the first row, and the output's side: TensorFlow's `same` or torch's symmetric padding."""
    kernel, stride = int(conv.kernel_size[0]), int(conv.stride[0])
    if type(conv) is Conv2dSame:
        out = -(-side // stride)
        return max((out - 1) * stride + kernel - side, 0) // 2, out
    before = int(conv.padding[0])
    return before, (side + 2 * before - kernel) // stride + 1


def _blocks(network: Any) -> Iterator[nn.Module]:
    for stage in network.blocks:
        _require(type(stage) is nn.Sequential, f"{type(stage).__name__} is not a stage of blocks")
        yield from stage


def _require_conv(conv: Any) -> None:
    _require(type(conv) in {nn.Conv2d, Conv2dSame}, f"{type(conv).__name__} is not a plain convolution")
    square = all(pair[0] == pair[1] for pair in (conv.kernel_size, conv.stride, conv.dilation))
    _require(square and conv.dilation[0] == 1, f"{conv}: kernel and stride must be square, dilation 1")
    _require(conv.padding_mode == "zeros", f"{conv} is not padded with zeros")
    if type(conv) is nn.Conv2d:
        padding: Any = conv.padding
        known = not isinstance(padding, str) and 0 <= padding[0] == padding[1] <= conv.kernel_size[0] // 2
        _require(known, f"{conv}: padding must be symmetric and within its kernel")
    _require(
        conv.groups == 1 or conv.groups == conv.in_channels == conv.out_channels,
        f"{conv} is neither dense nor depthwise",
    )


def _require_norm(norm: Any, *, act: bool) -> None:
    _require(type(norm) is BatchNormAct2d, f"{type(norm).__name__} is not timm's BatchNormAct2d")
    _require(norm.affine and norm.running_var is not None, f"{norm} has no weights or no statistics")
    _require(isinstance(norm.drop, nn.Identity), f"{norm} drops")
    expected = nn.SiLU if act else nn.Identity
    _require(type(norm.act) is expected, f"{type(norm.act).__name__} where {expected.__name__} was expected")


def _norm(norm: Any) -> Norm:
    return Norm(
        weight=_doubles(norm.weight),
        bias=_doubles(norm.bias),
        mean=_doubles(norm.running_mean),
        variance=_doubles(norm.running_var),
        eps=float(norm.eps),
    )


def _doubles(tensor: torch.Tensor) -> Doubles:
    found: Doubles = tensor.detach().cpu().double().numpy()
    return found


def _require(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - the condition
    if not holds:
        raise ModelError(f"cannot be compiled: {otherwise}")
