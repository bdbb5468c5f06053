"""The soak's own judgement of memory: it sees a leak, and is not misled by a warm-up or one large round."""

from __future__ import annotations

import math
import os
from itertools import pairwise

import pytest

from tests.integration.soak_memory import LONG_ROUNDS, WARM_ROUNDS, Memory, Sample, slope


def life(rounds: int, leak_mb: float, *, first: int = 1) -> list[Sample]:
    """A warm-up of 50 MB, then a leak, with a large round now and then."""
    warm = [min(number, WARM_ROUNDS) / WARM_ROUNDS * 50 for number in range(rounds)]
    return [
        (first + number, 600 + warm[number] + leak_mb * number / 100 + (30 if number % 40 == 7 else 0))
        for number in range(rounds)
    ]


@pytest.mark.parametrize("leak_mb", [0.0, 0.5, 1.5, 4.0])
def test_a_long_life_shows_its_leak(leak_mb: float) -> None:
    memory = Memory([life(WARM_ROUNDS + LONG_ROUNDS + 20, leak_mb)])
    assert memory.within() == pytest.approx(leak_mb, abs=0.05)
    if leak_mb <= 1:
        memory.check()
    else:
        with pytest.raises(AssertionError, match="within a life"):
            memory.check()


@pytest.mark.parametrize("leak_mb", [0.0, 3.0])
def test_lives_show_what_grows_with_the_ledger(leak_mb: float) -> None:
    lives: list[list[Sample]] = [
        [(first + n, 650 + leak_mb * (first + n) / 100) for n in range(20)] for first in range(1, 400, 20)
    ]
    memory = Memory([*lives, []])
    assert memory.between() == pytest.approx(leak_mb, abs=0.05)
    assert all(before[-1][0] < after[0][0] for before, after in pairwise(lives))


def test_a_short_life_says_nothing() -> None:
    memory = Memory([life(40, 100.0)])
    assert math.isnan(memory.within())
    assert math.isnan(memory.between())
    assert math.isnan(slope([(1, 2.0)]))


def test_a_process_is_weighed() -> None:
    memory = Memory()
    memory.begin_life()
    memory.weigh(os.getpid(), 1)
    memory.weigh(2**22 + 1, 2)  # there is no such process
    [(closed, megabytes)] = memory.lives[0]
    assert closed == 1
    assert 5 < megabytes < 10_000
