"""Warm-up: the cheapest batch within the limit, the least of a few tries, and a device that is too small."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest

from perturbnet.classifier.oracle import Floats, MarginQuestion
from perturbnet.miner.calibration import MOST_IMAGES, PASS_LIMIT_S, SHAPE, MeasuredCosts, measure_costs
from tests.support.fakes import BlockEngine, VirtualClock
from tests.support.miner.worlds import JointOracle


class Priced(JointOracle):
    """A pass of n images takes what `price` says, on a virtual clock."""

    def __init__(self, clock: VirtualClock, price: Callable[[int], float]) -> None:
        super().__init__(BlockEngine())
        self.clock, self.price = clock, price
        self.asked: list[int] = []

    def answer_margins(self, questions: Sequence[MarginQuestion]) -> list[tuple[Floats, Floats]]:
        images = sum(len(question.batch) for question in questions)
        self.asked.append(images)
        self.clock.advance(self.price(images))
        return []


class OutOfMemoryError(RuntimeError):
    """Named like torch's."""


def measure(price: Callable[[int], float]) -> tuple[MeasuredCosts, Priced]:
    clock = VirtualClock()
    oracle = Priced(clock, price)
    return measure_costs(oracle, BlockEngine(), clock), oracle


def test_the_batch_in_which_an_image_is_cheapest() -> None:
    costs, _ = measure(lambda images: 0.010 + 0.002 * images + (0.1 if images > 16 else 0))
    assert costs.images_per_pass == 16
    assert costs.gradient_s == pytest.approx(0.012)
    assert costs.pass_s == pytest.approx(0.042)


def test_a_pass_that_would_take_too_long_is_not_tried() -> None:
    costs, oracle = measure(lambda images: 0.15 + 0.1 * images)
    assert max(oracle.asked) == 2
    assert costs.pass_s <= PASS_LIMIT_S
    slow, oracle = measure(lambda images: 5.0 * images)
    assert set(oracle.asked) == {1}
    assert (slow.images_per_pass, slow.pass_s) == (1, 5.0)


def test_a_fast_device_gets_no_more_than_the_most() -> None:
    costs, _ = measure(lambda images: 0.01)
    assert costs.images_per_pass == MOST_IMAGES


def test_a_device_that_is_full_gets_a_quarter_of_what_did_not_fit() -> None:
    def price(images: int) -> float:
        if images > 16:
            raise OutOfMemoryError("CUDA out of memory")
        return 0.01

    assert measure(price)[0].images_per_pass == 8


def test_another_error_is_not_taken_for_a_full_device() -> None:
    def price(images: int) -> float:
        if images > 2:
            raise RuntimeError("broken")
        return 0.01

    with pytest.raises(RuntimeError, match="broken"):
        measure(price)


def test_one_slow_try_does_not_count() -> None:
    calls = iter([0.01, 0.9, *[0.01] * 200])  # the first is not timed
    costs, _ = measure(lambda images: next(calls) * images)
    assert costs.gradient_s == pytest.approx(0.01)


def test_verifying_costs_in_proportion_to_the_image() -> None:
    costs = MeasuredCosts(0.1, 0.3, 1, 0.3, verdict_s=2.0, answer_s=0.2)
    assert costs.verify_s(math.prod(SHAPE)) == pytest.approx(2.2)
    assert costs.verify_s(0) == pytest.approx(2.0)
    assert costs.to_json()["images_per_pass"] == 1
