"""What both ways of doing the exact arithmetic work on: tensors on their grids, sums, layers, kept buffers.

Tensors are (images, positions, channels); positions are height · width. An exponent e belongs to one image;
what is kept of it is the unit 2^-e, float64 (images, 1, 1), on the device: to look at it is to wait.
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

_BIAS_OF_BINARY64, _FRACTION_BITS = 1023, 52  # IEEE 754


@dataclass(frozen=True)
class Grid:
    """Tensors on their grids: float32 (images, positions, channels), multiples of their image's unit."""

    values: Tensor
    unit: Tensor


@dataclass(frozen=True)
class ExactSums:
    """Exact sums with their bias, float64 (images, positions, channels), and each image's extremes (images).

    `values` lies in the workspace: it is gone when the next sums are taken.
    """

    values: Tensor
    low: Tensor
    high: Tensor

    @property
    def largest(self) -> Tensor:
        """Each image's largest magnitude."""
        return torch.maximum(-self.low, self.high)


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
        self._scaled_bias = tensor_of(np.ldexp(layer.bias, layer.exponents), device)
        self._down = tensor_of(np.ldexp(1.0, -layer.exponents), device)

    def bias(self, unit: Tensor) -> Tensor:
        """Each image's bias, (images, 1, channels), rounded half even to the sums' grid.

        That is multiples of the unit times the channel's; to divide by a power of two is exact.
        """
        return (self._scaled_bias / unit).round_().mul_(self._down).mul_(unit)


class Table:
    """SiLU or sigmoid: values and slopes in float64; how they are used is the arithmetic's."""

    def __init__(self, table: NDArray[np.int64], device: torch.device) -> None:
        """Turn the integers of `tables` into the numbers they stand for."""
        self.values = tensor_of(np.ldexp(table[:, 0].astype(np.float64), -VALUE_BITS), device)
        self.slopes = tensor_of(np.ldexp(table[:, 1].astype(np.float64), -SLOPE_BITS), device)
        self.pairs = torch.stack((self.values, self.slopes), dim=1)


def anchor_of(unit: Tensor) -> Tensor:
    """What rounds to multiples of the unit, half to even, when it is added and taken away again.

    Adding 1.5·2^52 units leaves no bits below the unit in binary64, and its rounding is the one that is
    wanted; both operations are exact otherwise, because there are at most 2^24 units.
    """
    return unit * (1.5 * 2.0**52)


def unit_of(exponents: Tensor) -> Tensor:
    """2^-exponent, exactly: written as bits, since a device's `pow` may be off by one in the last place."""
    return ((_BIAS_OF_BINARY64 - exponents) << _FRACTION_BITS).view(torch.float64).view(-1, 1, 1)


def largest_of(values: Tensor) -> Tensor:
    """Each image's largest magnitude, float64 (images)."""
    flat = values.flatten(1)
    return torch.maximum(-flat.amin(1), flat.amax(1)).double()


def tensor_of(array: NDArray[Any], device: torch.device) -> Tensor:
    """A copy of an array on the device."""
    return torch.from_numpy(np.array(array)).to(device)
