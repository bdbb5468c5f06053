"""From a folded layer of real numbers to integers times powers of two; never float32, never a threaded sum.

Rules (docs/verification-spec.md)
- Batch norm is folded in binary64 with + - * / sqrt, one element-wise operation at a time. These are
  correctly rounded whatever the instruction set, so two machines compile the same file.
- Exponent of a channel: the largest with |w| <= 2^23 and Σ|w| <= 2^29 - 2^26, so that Σ|w|·|a| <= 2^53 -
  2^50 for activations |a| <= 2^24; but no larger than 28 - ex(b) for a bias b = m·2^ex(b), ½ <= m < 1, so
  that the bias does not force coarse activations (its cap, 50 - ex(b) - exponent, stays at 22 or more); nor
  than 100. A channel without weights and bias has exponent 0.
- The sums are of integers, in int64, and `obligations.prove_layer` has the last word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perturbnet.classifier.canonical.artefact import Layer
from perturbnet.classifier.canonical.obligations import (
    LEAST_EXPONENT,
    MOST_EXPONENT,
    SUM_LIMIT,
    WEIGHT_BITS,
    prove_layer,
)
from perturbnet.errors import ModelError

BIAS_REACH = 28

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Linear:
    """A folded layer: float64 weights (k, k, cin, cout), depthwise (k, k, c), and bias (cout)."""

    weights: Doubles
    bias: Doubles


@dataclass(frozen=True)
class Norm:
    """Batch norm in evaluation mode, float64 (channels) each."""

    weight: Doubles
    bias: Doubles
    mean: Doubles
    variance: Doubles
    eps: float


def fold(weights: Doubles, bias: Doubles | None, norm: Norm, divisor: float) -> Linear:
    """Fold a batch norm into a convolution; weights are divided by `divisor`, what its input is larger by.

    Raises:
        ModelError: a variance that with eps is not positive.

    """
    spread = norm.variance + np.float64(norm.eps)
    if not (np.isfinite(spread).all() and (spread > 0).all()):
        raise ModelError("a batch norm's variance plus eps is not positive and finite")
    scale = norm.weight / np.sqrt(spread)
    shift = norm.bias - norm.mean * scale
    if bias is not None:
        shift = shift + bias * scale
    return Linear(weights * scale / np.float64(divisor), shift)


def quantise(linear: Linear, where: str) -> Layer:
    """Integers and exponents for one layer, proven exact.

    Raises:
        ModelError: weights or biases that are not finite, or so large that no exponent is left.

    """
    if not (np.isfinite(linear.weights).all() and np.isfinite(linear.bias).all()):
        raise ModelError(f"{where}: weights or biases are not finite")
    columns = np.ascontiguousarray(linear.weights.reshape(-1, len(linear.bias)).T)
    exponents = choose_exponents(columns, linear.bias, where)
    integers = np.rint(np.ldexp(columns, exponents[:, None])).astype(np.int32)
    weights = np.ascontiguousarray(integers.T).reshape(linear.weights.shape)
    layer = Layer(weights, exponents.astype(np.int32), linear.bias + 0.0)
    prove_layer(layer, where)
    return layer


def choose_exponents(columns: Doubles, bias: Doubles, where: str) -> Integers:
    """Return the largest allowed exponent of each channel; `columns` is (channels, weights).

    Raises:
        ModelError: a channel is too large for the least exponent.

    """
    largest = np.abs(columns).max(axis=1, initial=0.0)
    exponents = np.where(largest > 0, WEIGHT_BITS + 1 - _magnitude(largest), MOST_EXPONENT)
    reach = np.where(bias != 0, BIAS_REACH - _magnitude(bias), MOST_EXPONENT)
    exponents = np.minimum(np.minimum(exponents, reach), MOST_EXPONENT)
    exponents[(largest == 0) & (bias == 0)] = 0
    open_ = np.arange(len(exponents))
    while len(open_):
        integers = np.abs(np.rint(np.ldexp(columns[open_], exponents[open_, None]))).astype(np.int64)
        fits = (integers.max(axis=1, initial=0) <= 2**WEIGHT_BITS) & (integers.sum(axis=1) <= SUM_LIMIT)
        open_ = open_[~fits]
        exponents[open_] -= 1
        if (exponents < LEAST_EXPONENT).any():
            channel = int(np.argmin(exponents))
            raise ModelError(
                f"{where}: channel {channel} reaches {largest[channel]:.3g}, its bias {bias[channel]:.3g}; "
                f"the least exponent is {LEAST_EXPONENT}"
            )
    return exponents


def _magnitude(values: Doubles) -> Integers:
    """Return ex(v) of v = m·2^ex(v), ½ <= m < 1."""
    found: Any = np.frexp(values)[1]
    return found.astype(np.int64)  # type: ignore[no-any-return]
