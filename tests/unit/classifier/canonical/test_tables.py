"""The tables are pinned, and right: compared with another formula in another library's arithmetic."""

from __future__ import annotations

import decimal
import hashlib

import mpmath
import numpy as np
import pytest

from perturbnet.classifier.canonical import tables
from perturbnet.classifier.canonical.tables import ENTRIES, HALF, sigmoid_table, silu_table
from perturbnet.errors import ModelError

# SHA-256 of the tables as little-endian int64, the bytes that stand in every artefact.
SILU = "1b7c5168700a9285b4cd93cd1358b05d0314e8ad94c3388a5b284317c694902c"
SIGMOID = "be79d93480488d473257d94ee59d938a6dde9c03dd08532aa8b9c0c8eb6243f3"


def test_the_tables_are_pinned() -> None:
    found = [
        hashlib.sha256(table.astype("<i8").tobytes()).hexdigest() for table in (silu_table(), sigmoid_table())
    ]
    assert found == [SILU, SIGMOID]
    assert silu_table().shape == sigmoid_table().shape == (ENTRIES, 2)
    assert not silu_table().flags.writeable


def expected_row(i: int) -> list[int]:
    """SiLU and its slope, sigmoid and its slope at (i - 65536) / 4096, through tanh in 200 binary digits."""
    x = mpmath.mpf(i - HALF) / 4096
    half = mpmath.tanh(x / 2)
    s = (1 + half) / 2
    slope = (1 - half * half) / 4
    scaled = (x * s * 2**40, (s + x * slope) * 2**30, s * 2**40, slope * 2**30)
    return [int(mpmath.nint(value)) for value in scaled]


def compare(entries: range | list[int]) -> None:
    both = np.concatenate([silu_table(), sigmoid_table()], axis=1)
    with mpmath.workprec(200):
        wrong = [i for i in entries if expected_row(i) != both[i].tolist()]
    assert wrong == []


def test_a_sample_is_correctly_rounded() -> None:
    compare([1, 2, ENTRIES - 2, HALF - 1, HALF, HALF + 1, *range(7, ENTRIES, 61)])


@pytest.mark.slow
def test_every_entry_is_correctly_rounded() -> None:
    compare(range(1, ENTRIES - 1))


def test_the_ends_are_the_asymptotes() -> None:
    assert silu_table()[0].tolist() == [0, 0]
    assert silu_table()[-1].tolist() == [16 << 40, 1 << 30]
    with mpmath.workprec(200):
        low, high = expected_row(0), expected_row(ENTRIES - 1)
    assert sigmoid_table()[0].tolist() == [low[2], 0]
    assert sigmoid_table()[-1].tolist() == [high[2], 0]


def test_a_sigmoid_and_its_mirror_add_up_to_one() -> None:
    values = sigmoid_table()[:, 0]
    assert (np.abs(values + values[::-1] - 2**40) <= 1).all()


def test_what_the_digits_cannot_decide_is_refused() -> None:
    near = decimal.Decimal("0." + "5" + 29 * "0" + "1")
    with decimal.localcontext() as context:
        context.prec = 40
        with pytest.raises(ModelError, match="cannot decide"):
            tables._round(near, 0)
        assert tables._round(decimal.Decimal("0.5"), 0) == 0
        assert tables._round(decimal.Decimal("1.5"), 0) == 2
