"""SiLU and sigmoid as tables: value and slope at every multiple of 2^-12 from -16 to 16, correctly rounded.

Entry i stands for x = (i - 65536) / 4096; values are in units of 2^-40, slopes in units of 2^-30. The two
ends of SiLU are its asymptotes (0 with slope 0, x with slope 1), those of the sigmoid are flat, so a value
beyond the table is extended without a jump worth a unit.

Every entry is the exact real number rounded half to even: computed with 40 decimal digits, and refused if it
lies so near to a tie that those digits could not decide.
"""

from __future__ import annotations

import decimal
from functools import cache

import numpy as np
from numpy.typing import NDArray

from perturbnet.errors import ModelError

STEPS_PER_UNIT = 4096
HALF = 16 * STEPS_PER_UNIT
ENTRIES = 2 * HALF + 1
VALUE_BITS = 40
SLOPE_BITS = 30
_DIGITS = 40
_DOUBT = decimal.Decimal("1e-12")

Table = NDArray[np.int64]


def silu_table() -> Table:
    """(131073, 2) int64: SiLU's values · 2^40 and slopes · 2^30."""
    return _tables()[0]


def sigmoid_table() -> Table:
    """(131073, 2) int64: the sigmoid's values · 2^40 and slopes · 2^30."""
    return _tables()[1]


@cache
def _tables() -> tuple[Table, Table]:
    """Both at once: they share the exponential, which is what takes time."""
    silu, sigmoid = (np.zeros((ENTRIES, 2), dtype=np.int64) for _ in range(2))
    with decimal.localcontext() as context:
        context.prec = _DIGITS
        for i in range(HALF + 1):
            x = decimal.Decimal(i) / STEPS_PER_UNIT
            high = 1 / (1 + (-x).exp())
            low = 1 - high
            for sign, s, rest in ((1, high, low), (-1, low, high)):
                at = HALF + sign * i
                silu[at] = _round(sign * x * s, VALUE_BITS), _round(s * (1 + sign * x * rest), SLOPE_BITS)
                sigmoid[at] = _round(s, VALUE_BITS), _round(s * rest, SLOPE_BITS)
    silu[0], silu[-1] = (0, 0), (16 << VALUE_BITS, 1 << SLOPE_BITS)
    sigmoid[0, 1] = sigmoid[-1, 1] = 0
    silu.setflags(write=False)
    sigmoid.setflags(write=False)
    return silu, sigmoid


def _round(value: decimal.Decimal, bits: int) -> int:
    scaled = value * (1 << bits)
    whole = scaled.to_integral_value(decimal.ROUND_HALF_EVEN)
    from_tie = abs(abs(scaled - whole) - decimal.Decimal("0.5"))
    if from_tie < _DOUBT and scaled * 2 % 1 != 0:
        raise ModelError(f"{_DIGITS} digits cannot decide how {value} rounds to {bits} bits")
    return int(whole)
