"""Intervals: against exact arithmetic, and how often they hold in simulations."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perturbnet.errors import OutputError
from perturbnet.statistics.intervals import GRID, Interval, anytime, clopper_pearson, share

RUNS = 10_000
TRUTHS = (0.01, 0.1, 0.3, 0.5)
NOMINAL = 0.95


def grid(text: str) -> int:
    return int(Fraction(text) * GRID)


counts = st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@settings(max_examples=60, deadline=None)
@given(counts)
def test_exact_bounds_are_the_last_grid_points_outside(count: tuple[int, int]) -> None:
    k, n = count
    found, limit = clopper_pearson(k, n), Fraction(1, 40)

    def tail(j: int) -> Fraction:
        total = sum(math.comb(n, i) * j**i * (GRID - j) ** (n - i) for i in range(k, n + 1))
        return Fraction(total, GRID**n)

    lower = grid(found.lower)
    if k:
        assert tail(lower) <= limit < tail(lower + 1)
    assert grid(clopper_pearson(n - k, n).upper) == GRID - lower


@settings(max_examples=60, deadline=None)
@given(counts)
def test_anytime_bounds_are_the_last_grid_points_outside(count: tuple[int, int]) -> None:
    k, n = count
    found = anytime(k, n)
    mixture = Fraction(1, math.factorial(n))
    for size in (k, n - k):
        for i in range(size):
            mixture *= i + Fraction(1, 2)

    def outside(j: int) -> bool:
        return Fraction(j**k * (GRID - j) ** (n - k), GRID**n) <= mixture / 20

    lower, upper = grid(found.lower), grid(found.upper)
    if k:
        assert outside(lower)
        assert not outside(lower + 1)
    if k < n:
        assert outside(upper)
        assert not outside(upper - 1)


def test_digits_that_no_machine_may_change() -> None:
    """Golden: the digits that certificates which are out in the world carry."""
    for count, exact, always in (
        ((0, 0), ("0.000000", "1.000000"), ("0.000000", "1.000000")),
        ((0, 10), ("0.000000", "0.308498"), ("0.000000", "0.376988")),
        ((1, 1), ("0.025000", "1.000000"), ("0.025000", "1.000000")),
        ((50, 100), ("0.398321", "0.601679"), ("0.338257", "0.661743")),
        ((63_000, 126_689), ("0.494523", "0.500038"), ("0.491289", "0.503273")),
    ):
        for found, bounds in ((clopper_pearson(*count), exact), (anytime(*count), always)):
            assert (found.lower, found.upper) == bounds, found


def test_the_anytime_interval_holds_the_exact_one() -> None:
    for k in range(41):
        exact, always = clopper_pearson(k, 40), anytime(k, 40)
        assert Fraction(always.lower) <= Fraction(exact.lower)
        assert Fraction(exact.upper) <= Fraction(always.upper)


@pytest.mark.parametrize("count", [(-1, 3), (4, 3), (0, 10**9)])
def test_counts_that_cannot_be_refused(count: tuple[int, int]) -> None:
    with pytest.raises(OutputError, match="is no share"):
        anytime(*count)


@pytest.mark.parametrize("level", ["1", "0", "0.0", "95", "x", "1/2", "0.99999999", "-0.5"])
def test_levels_that_cannot_be_refused(level: str) -> None:
    with pytest.raises(OutputError, match="the level"):
        clopper_pearson(1, 2, level)


def test_shares_are_rounded_to_the_nearest() -> None:
    assert [share(*count) for count in ((0, 0), (1, 3), (2, 3), (1, 2 * GRID), (1, 1))] == [
        "",
        "0.333333",
        "0.666667",
        "0.000001",
        "1.000000",
    ]


def holds(found: Interval, truth: float) -> bool:
    return float(found.lower) <= truth <= float(found.upper)


def draw(truth: float, runs: int, size: int, *, of: int | None) -> np.ndarray:
    """Successes after each image, in so many runs: independent draws, or without replacement `of` images."""
    draws = np.random.default_rng(7)
    if of is None:
        return np.cumsum(draws.random((runs, size)) < truth, axis=1)
    images = np.arange(of) < round(truth * of)
    return np.cumsum(np.stack([draws.permutation(images)[:size] for _ in range(runs)]), axis=1)


def coverage(truth: float, runs: int, size: int, *, of: int | None = None) -> tuple[float, float]:
    """How often the exact interval holds at the end, and the anytime one after every single image."""
    counted = draw(truth, runs, size, of=of)
    at_end = np.array([holds(clopper_pearson(k, size), truth) for k in range(size + 1)])
    always = np.ones(runs, bool)
    for n in range(1, size + 1):
        at = counted[:, n - 1]
        good = {k: holds(anytime(k, n), truth) for k in np.unique(at).tolist()}
        always &= np.array([good[k] for k in at.tolist()])
    return float(at_end[counted[:, -1]].mean()), float(always.mean())


def test_both_intervals_hold_in_a_small_simulation() -> None:
    exact, always = coverage(0.3, 500, 40)
    assert exact >= NOMINAL - 0.02  # 500 runs: two standard errors
    assert always >= NOMINAL - 0.02


@pytest.mark.slow
@pytest.mark.parametrize("of", [None, 250], ids=["independent", "without replacement, 200 of 250"])
@pytest.mark.parametrize("truth", TRUTHS)
def test_coverage_is_nominal_or_better(truth: float, of: int | None) -> None:
    if of is not None:
        truth = round(truth * of) / of
    exact, always = coverage(truth, RUNS, 200, of=of)
    print(f"truth {truth}, of {of}: exact {exact:.4f}, anytime at every image {always:.4f}")  # noqa: T201
    assert exact >= NOMINAL
    assert always >= NOMINAL


@pytest.mark.slow
@pytest.mark.parametrize("truth", TRUTHS)
def test_coverage_of_the_anytime_interval_over_10000_images(truth: float) -> None:
    """The same rule in floats, so that 10,000 runs of 10,000 images can be peeked at after each."""
    draws, ever = np.random.default_rng(11), 0
    steps = np.arange(1, 10_001)
    odd = np.concatenate(([0.0], np.cumsum(np.log(steps - 0.5))))  # log of (1/2)(3/2)...
    factorial = np.cumsum(np.log(steps))
    for _ in range(RUNS // 100):
        k = np.cumsum(draws.random((100, 10_000)) < truth, axis=1)
        likelihood = k * math.log(truth) + (steps - k) * math.log1p(-truth)
        mixture = odd[k] + odd[steps - k] - factorial
        ever += int(((mixture - likelihood) >= math.log(20)).any(axis=1).sum())
    print(f"truth {truth}: held at all of 10,000 images in {1 - ever / RUNS:.4f} of {RUNS} runs")  # noqa: T201
    assert 1 - ever / RUNS >= NOMINAL
