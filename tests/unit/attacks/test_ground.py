"""Moves: what a price buys, what a swap keeps, and that nothing leaves the image's range."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perturbnet.attacks.ground import Ground, price_for, squares
from perturbnet.attacks.protocol import FEWEST_VALUES

GREY = np.full((2, 3, 3), 100, np.uint8)


def direction(seed: int, values: int = GREY.size) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(values).astype(np.float32)


@given(
    seed=st.integers(0, 1000),
    price=st.floats(0.01, 3),
    level=st.integers(1, 4),
    even=st.sampled_from((0.0, 0.5, 1.0)),
)
def test_a_fill_goes_against_the_direction_and_no_further_than_the_level(
    seed: int, price: float, level: int, even: float
) -> None:
    d = direction(seed)
    change = Ground(GREY).fill(d, price, level, evenness=even)
    assert np.abs(change).max(initial=0) <= level
    assert (change * d <= 0).all()
    assert change.dtype == np.int16


@given(seed=st.integers(0, 1000), level=st.integers(1, 4))
def test_a_lower_price_buys_more(seed: int, level: int) -> None:
    ground, d = Ground(GREY), direction(seed)
    bought = [np.abs(ground.fill(d, price, level)) for price in (2.0, 1.0, 0.5, 0.1, 1e-6)]
    assert all((more >= less).all() for less, more in itertools.pairwise(bought))
    assert np.array_equal(ground.fill(d, 1e-6, level), ground.dense(d, level))


@pytest.mark.parametrize("seed", range(5))
def test_no_change_of_the_same_cost_gains_more_where_the_margin_is_linear(seed: int) -> None:
    """Every change of a tiny image, tried: the fill is the best of its cost."""
    tiny = np.full((1, 1, 3), 100, np.uint8)
    d = direction(seed, 3)
    ground = Ground(tiny)
    every = [np.array(one, np.int16) for one in itertools.product(range(-2, 3), repeat=3)]
    for price in (0.05, 0.2, 0.5, 1.0):
        filled = ground.fill(d, price, 2)
        rivals = [float(-(one * d).sum()) for one in every if squares(one) <= squares(filled)]
        assert float(-(filled * d).sum()) == pytest.approx(max(rivals), abs=1e-5)


def test_one_level_is_the_values_of_largest_gradient() -> None:
    d = direction(7)
    change = Ground(GREY).fill(d, float(np.sort(np.abs(d))[-5]), 1)
    assert set(np.flatnonzero(change)) == set(np.argsort(-np.abs(d))[:5])


def test_all_or_nothing() -> None:
    d = direction(3)
    change = Ground(GREY).fill(d, 0.5, 3, evenness=0)
    assert set(np.unique(np.abs(change))) == {0, 3}


def test_dear_values_are_left_alone() -> None:
    d = np.ones(GREY.size, np.float32)
    dearness = np.where(np.arange(GREY.size) < 9, 0.5, 5).astype(np.float32)
    change = Ground(GREY).fill(d, 1.0, 1, dearness=dearness)
    assert np.array_equal(np.flatnonzero(change), np.arange(9))


@given(seed=st.integers(0, 200), level=st.integers(1, 3), moves=st.integers(1, 30))
def test_a_swap_stays_inside_and_pays_its_debt(seed: int, level: int, moves: int) -> None:
    rng = np.random.default_rng(seed)
    clean = rng.integers(0, 256, (4, 5, 3)).astype(np.uint8)
    ground, d = Ground(clean), rng.standard_normal(60).astype(np.float32)
    change = ground.fill(d, 1.0, level)
    gradient = (d + 0.3 * rng.standard_normal(60)).astype(np.float32)
    swapped = ground.swap(change, gradient, moves, slack=0.05, level=level)
    assert np.abs(swapped).max(initial=0) <= level
    moved = ground.flat + swapped
    assert moved.min() >= 0
    assert moved.max() <= 255
    if squares(swapped) and moves < 5:
        assert float(((swapped - change) * gradient).sum()) <= 0.05 + 1e-4


def test_ends_of_the_scale() -> None:
    edge = np.array([[[0, 255, 0], [255, 0, 255]]], np.uint8)
    ground = Ground(edge)
    for sign in (1, -1):
        images = ground.images(ground.dense(np.full(6, sign, np.float32), 3)[None])
        assert np.abs(images[0].astype(int) - edge).max() == 3
    assert ground.images(ground.nothing())[0].tobytes() == edge.tobytes()


def test_the_linear_price() -> None:
    d = np.array([4, -3, 2, 1, 0], np.float32)
    assert price_for(d, 6.9) == 3  # 4 + 3 closes it
    assert price_for(d, 7.1) == 2
    assert price_for(d, 1e9) == 1  # all of it would not do: the weakest is left out
    assert price_for(np.zeros(4, np.float32), 1.0) == 1


@given(seed=st.integers(0, 1000), level=st.integers(1, 4), share=st.floats(0.05, 0.95))
def test_a_fill_to_a_gain_reaches_it_and_little_more(seed: int, level: int, share: float) -> None:
    ground, d = Ground(GREY), direction(seed)
    wanted = share * ground.gain(ground.dense(d, level), d)
    reached = ground.gain(ground.fill_to(d, wanted, level), d)
    assert wanted <= reached <= wanted + 2 * float(np.abs(d).max())
    assert np.array_equal(ground.fill_to(d, 1e9, level), ground.dense(d, level))


@pytest.mark.parametrize("seed", range(5))
def test_with_dear_values_no_change_of_as_few_gains_more(seed: int) -> None:
    tiny = np.full((1, 1, 3), 100, np.uint8)
    d = direction(seed, 3)
    ground = Ground(tiny, FEWEST_VALUES)
    every = [np.array(one, np.int16) for one in itertools.product(range(-2, 3), repeat=3)]
    for price in (0.05, 0.2, 0.5, 1.0):
        filled = ground.fill(d, price, 2)
        rivals = [ground.gain(one, d) for one in every if np.count_nonzero(one) <= np.count_nonzero(filled)]
        assert ground.gain(filled, d) == pytest.approx(max(rivals), abs=1e-5)


@given(seed=st.integers(0, 1000), moves=st.integers(1, 4), slack=st.floats(0, 2))
def test_with_dear_values_a_swap_moves_whole_values(seed: int, moves: int, slack: float) -> None:
    ground, d = Ground(GREY, FEWEST_VALUES), direction(seed)
    change = ground.fill(d, 0.6, 3)
    swapped = ground.swap(change, direction(seed + 1), moves, slack=slack, level=3)
    assert set(np.unique(np.abs(swapped))) <= {0, 3}
    assert ground.cost(change) == squares(change) + FEWEST_VALUES * np.count_nonzero(change)
