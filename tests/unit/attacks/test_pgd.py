"""The baseline attack on a linear classifier: the smallest level first, only what is accepted, in time."""

from __future__ import annotations

import numpy as np
import pytest

from perturbnet.attacks import AttackTask, Deadline
from perturbnet.attacks.pgd import AscendingPgd
from perturbnet.wire.images import Pixels
from tests.support.fakes import BlockEngine, BlockOracle, VirtualClock, flip, texture

ENGINE = BlockEngine()


def linf(clean: Pixels, adversarial: Pixels) -> int:
    return int(np.abs(adversarial.astype(int) - clean).max())


def smallest(clean: Pixels) -> int:
    return linf(clean, flip(ENGINE, clean))


def hard(levels: int) -> Pixels:
    """A texture whose label stands below this many levels."""
    return next(one for seed in range(1000) if smallest(one := texture(f"hard-{seed}")) == levels)


class Judge:
    """Accepts what flips the text, unless told otherwise; remembers what it saw."""

    def __init__(self, clean: Pixels, clock: VirtualClock | None = None, cost_s: float = 0.0) -> None:
        self.clean, self.clock, self.cost_s = clean, clock, cost_s
        self.seen: list[Pixels] = []

    def __call__(self, pixels: Pixels) -> bool:
        self.seen.append(pixels)
        if self.clock is not None:
            self.clock.advance(self.cost_s)
        before, after = ENGINE.classify([self.clean, pixels])
        return before.text != after.text


class Changes(Judge):
    """Accepts a flip only when at most `most` values changed: stands for the gates."""

    def __init__(self, clean: Pixels, most: int) -> None:
        super().__init__(clean)
        self.most = most

    def __call__(self, pixels: Pixels) -> bool:
        return super().__call__(pixels) and int(np.count_nonzero(pixels != self.clean)) <= self.most


class Never(Judge):
    def __call__(self, pixels: Pixels) -> bool:
        super().__call__(pixels)
        return False


def task(
    clean: Pixels, judge: Judge, *, levels: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7), seed: int = 0
) -> AttackTask:
    return AttackTask(clean, ENGINE.classify([clean])[0].index, levels, judge, seed)


def deadline(clock: VirtualClock | None = None, seconds: float = 1e9) -> Deadline:
    clock = clock or VirtualClock()
    return Deadline(clock, clock.monotonic_s() + seconds)


@pytest.mark.parametrize("seed", range(8))
def test_one_level_is_found_where_it_is_enough(seed: int) -> None:
    clean = texture(f"easy-{seed}")
    if smallest(clean) > 1:
        clean = hard(1)
    judge = Judge(clean)
    result = AscendingPgd().run(BlockOracle(ENGINE), task(clean, judge), deadline())
    assert result.adversarial is not None
    assert judge(result.adversarial)
    assert linf(clean, result.adversarial) == result.linf_u8 == 1
    assert result.adversarial.dtype == np.uint8


@pytest.mark.parametrize("levels", [2, 3])
def test_it_ascends(levels: int) -> None:
    clean = hard(levels)
    judge = Judge(clean)
    result = AscendingPgd().run(BlockOracle(ENGINE), task(clean, judge), deadline())
    assert result.adversarial is not None
    assert linf(clean, result.adversarial) == result.linf_u8
    assert 1 < result.linf_u8 <= levels  # a push against one rival alone is not always the best


def test_levels_that_are_not_allowed_are_not_used() -> None:
    clean = hard(2)
    oracle = BlockOracle(ENGINE)
    result = AscendingPgd().run(oracle, task(clean, Judge(clean), levels=(1,)), deadline())
    assert (result.adversarial, result.linf_u8) == (None, 0)
    assert result.reason == "no flip at any level"
    assert oracle.backward_passes == 16
    none_allowed = AscendingPgd().run(oracle, task(clean, Judge(clean), levels=()), deadline())
    assert none_allowed.adversarial is None


def test_what_the_gates_refuse_is_thinned_until_they_take_it() -> None:
    clean = hard(1)
    most = clean.size * 7 // 10
    judge = Changes(clean, most)
    result = AscendingPgd().run(BlockOracle(ENGINE), task(clean, judge), deadline())
    assert result.adversarial is not None
    assert np.count_nonzero(result.adversarial != clean) <= most
    assert any(np.count_nonzero(pixels != clean) > most for pixels in judge.seen)


def test_nothing_that_was_not_accepted_is_returned() -> None:
    clean = hard(1)
    judge = Never(clean)
    result = AscendingPgd().run(BlockOracle(ENGINE), task(clean, judge, levels=(1, 2)), deadline())
    assert result.adversarial is None
    assert judge.seen


@pytest.mark.parametrize("seconds", [0.0, 0.5, 3.0, 20.0])
def test_it_ends_by_the_deadline_but_for_the_step_under_way(seconds: float) -> None:
    clock = VirtualClock()
    clean = hard(1)
    limit = deadline(clock, seconds)
    judge = Never(clean, clock, cost_s=0.4)
    result = AscendingPgd().run(BlockOracle(ENGINE, clock, cost_s=0.3), task(clean, judge), limit)
    assert result.adversarial is None
    assert result.reason.startswith("out of time at ")
    assert -0.7 <= limit.remaining_s <= 0


def test_a_deadline_that_has_passed_costs_nothing() -> None:
    oracle, clean = BlockOracle(ENGINE), hard(1)
    result = AscendingPgd().run(oracle, task(clean, Judge(clean)), deadline(seconds=0))
    assert result.adversarial is None
    assert (oracle.forward_passes, oracle.backward_passes) == (0, 0)


def test_the_same_seed_gives_the_same_image_another_seed_another() -> None:
    clean = hard(1)
    found = [
        AscendingPgd().run(BlockOracle(ENGINE), task(clean, Judge(clean), seed=seed), deadline()).adversarial
        for seed in (1, 1, 2)
    ]
    assert all(one is not None for one in found)
    assert np.array_equal(found[0], found[1])  # type: ignore[arg-type]
    assert not np.array_equal(found[0], found[2])  # type: ignore[arg-type]


def test_the_ends_of_the_scale_are_kept() -> None:
    clean = np.where(texture("ends") < 128, 0, 255).astype(np.uint8)
    result = AscendingPgd().run(BlockOracle(ENGINE), task(clean, Judge(clean)), deadline())
    assert result.adversarial is None or linf(clean, result.adversarial) <= 7


def test_remaining_time() -> None:
    clock = VirtualClock(5.0)
    limit = Deadline(clock, 8.0)
    assert (limit.remaining_s, limit.passed) == (3.0, False)
    clock.advance(3.0)
    assert (limit.remaining_s, limit.passed) == (0.0, True)
