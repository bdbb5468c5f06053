"""What both ways of doing the exact arithmetic work on: tensors on their grids, sums, layers, kept buffers.

Buffers are kept from layer to layer: memory given back and asked for again costs a page fault for every 4 kB.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from perturbnet.classifier.canonical.artefact import Layer, forget_pages
from perturbnet.classifier.canonical.obligations import MOST_ACTIVATION, cap_of_bias
from perturbnet.classifier.canonical.tables import SLOPE_BITS, VALUE_BITS

Tensor = torch.Tensor


@dataclass(frozen=True)
class Grid:
    """A tensor on its grid: float32 multiples of 2^-exponent, (height · width, channels)."""

    values: Tensor
    exponent: int


@dataclass(frozen=True)
class Sums:
    """Exact sums with their bias, float64 (height · width, channels), and their extremes.

    `values` lies in the workspace: it is gone when the next sums are taken.
    """

    values: Tensor
    low: float
    high: float

    @property
    def largest(self) -> float:
        """The largest magnitude."""
        return max(-self.low, self.high)


class Workspace:
    """Buffers by name, each as large as the largest tensor that was ever asked of it."""

    _GRIDS = ("grid 0", "grid 1", "grid 2")  # a layer's input, its output, and what a shortcut keeps

    def __init__(self, device: torch.device) -> None:
        """Begin empty."""
        self._device = device
        self._buffers: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
        """A tensor of this shape in the named buffer; what was there is lost."""
        count = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < count:
            buffer = self._buffers[name] = torch.empty(count, dtype=dtype, device=self._device)
        return buffer[:count].view(shape)

    def take_grid(self, like: Tensor, *busy: Grid | None) -> Tensor:
        """A float32 tensor of the shape of `like`, in a buffer that none of `busy` lies in."""
        taken = {grid.values.untyped_storage().data_ptr() for grid in busy if grid is not None}
        for name in self._GRIDS:
            found = self.take(name, *like.shape, dtype=torch.float32)
            if found.untyped_storage().data_ptr() not in taken:
                return found
        raise ValueError(f"{len(busy)} grids are in use; there are {len(self._GRIDS)} buffers")


class ExactLayer:
    """One linear map: its sums are exact, whatever order they are taken in."""

    def __init__(self, layer: Layer, device: torch.device) -> None:
        """Hold the weights in float32, which holds 24 bits and a power of two exactly."""
        real = layer.weights.astype(np.float32)
        np.ldexp(real, -layer.exponents, out=real)
        forget_pages(layer.weights)
        self.weights = torch.from_numpy(real).to(device)
        cap = cap_of_bias(layer)
        self.cap = MOST_ACTIVATION if cap is None else min(cap, MOST_ACTIVATION)
        self._bias = tensor_of(layer.bias, device)
        self._up, self._down = (tensor_of(np.ldexp(1.0, sign * layer.exponents), device) for sign in (1, -1))

    def bias(self, exponent: int) -> Tensor:
        """The bias, rounded half even to the sums' grid: multiples of 2^-(exponent + the channel's)."""
        return (self._bias * self._up * 2.0**exponent).round_() * self._down * 2.0**-exponent


class Table:
    """SiLU or sigmoid: values and slopes in float64; how they are used is the arithmetic's."""

    def __init__(self, table: NDArray[np.int64], device: torch.device) -> None:
        """Turn the integers of `tables` into the numbers they stand for."""
        self.values = tensor_of(np.ldexp(table[:, 0].astype(np.float64), -VALUE_BITS), device)
        self.slopes = tensor_of(np.ldexp(table[:, 1].astype(np.float64), -SLOPE_BITS), device)
        self.pairs = torch.stack((self.values, self.slopes), dim=1)


def anchor(exponent: int) -> float:
    """What rounds to multiples of 2^-exponent, half to even, when it is added and taken away again.

    Adding 1.5·2^(52-exponent) leaves no bits below 2^-exponent in binary64, and its rounding is the one
    that is wanted; both operations are exact otherwise, because |a| <= 2^(24-exponent).
    """
    return 1.5 * 2.0 ** (52 - exponent)


def tensor_of(array: NDArray[Any], device: torch.device) -> Tensor:
    """A copy of an array on the device."""
    return torch.from_numpy(np.array(array)).to(device)
