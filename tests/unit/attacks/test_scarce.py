"""A network whose pass takes seconds: few passes, an answer early, never late, never worse."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from perturbnet.attacks import AttackTask, Bank, Deadline
from perturbnet.attacks.exchange import Exchange
from perturbnet.attacks.finds import Finds
from perturbnet.attacks.ground import Ground
from perturbnet.rules.distortion import ssim
from perturbnet.wire.images import Pixels
from tests.support.attacks.judging import LEVELS, Judge, as_clock, linf, run, standing
from tests.support.fakes import BlockEngine, BlockOracle, VirtualClock

FORWARD_S, GRADIENT_S, VERDICT_S = 1.25, 3.8, 3.4  # EfficientNetV2-L at 480 on two cores


class SlowOracle(BlockOracle):
    """A gradient costs three times a forward pass."""

    def margin_grad(
        self, batch: Pixels, label_indices: NDArray[np.int64], rivals: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See `Oracle`."""
        assert self._clock is not None
        self._clock.advance((GRADIENT_S - FORWARD_S) * len(batch))
        return super().margin_grad(batch, label_indices, rivals)


def search(
    levels: int, seconds: float, *, known: bool = True, never: bool = False
) -> tuple[Bank, VirtualClock, BlockOracle]:
    clean, clock, engine = standing(levels), VirtualClock(0.0), BlockEngine()
    bank = Bank(clean, Judge(clean, clock, cost_s=VERDICT_S, never=never), as_clock(clock))
    oracle = SlowOracle(engine, clock, FORWARD_S)
    task = AttackTask(
        clean,
        engine.classify([clean])[0].index,
        LEVELS,
        bank,
        accept_cost_s=VERDICT_S if known else 0.0,
        forward_cost_s=FORWARD_S if known else 0.0,
        gradient_cost_s=GRADIENT_S if known else 0.0,
    )
    Exchange().run(oracle, task, Deadline(clock, seconds))
    return bank, clock, oracle


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_an_answer_stands_in_the_time_of_four_gradients(levels: int) -> None:
    bank, clock, oracle = search(levels, 15.6)
    assert clock.now_s <= 15.6
    assert bank.best is not None
    assert bank.best.linf_u8 == levels
    assert bank.accepted[0].at_s < 13
    assert oracle.forward_passes <= 8


def test_more_time_never_makes_a_smaller_answer_larger() -> None:
    found = [search(2, seconds)[0].best for seconds in (10.0, 15.0, 25.0, 60.0, 88.0)]
    sizes = [one.size for one in found if one is not None]
    assert len(sizes) == len(found)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0]


@pytest.mark.parametrize("seconds", [0.5, 3.0, 4.0, 8.0, 9.0, 12.0, 30.0])
@pytest.mark.parametrize("never", [False, True])
def test_it_is_never_late(seconds: float, never: bool) -> None:
    _, clock, _ = search(2, seconds, never=never)
    assert clock.now_s <= seconds


def test_costs_that_nobody_told_are_learnt_from_the_first_pass() -> None:
    bank, clock, _ = search(1, 20.0, known=False)
    assert bank.best is not None
    assert clock.now_s <= 20.0


def test_plenty_of_passes_are_not_scarce() -> None:
    clean, clock = standing(1), VirtualClock(0.0)
    for seconds, scarce in ((15.6, True), (100.0, False)):
        task = AttackTask(clean, 0, LEVELS, lambda _: True, gradient_cost_s=GRADIENT_S)
        finds = Finds(
            BlockOracle(BlockEngine()), task, Deadline(as_clock(clock), seconds), Ground(task.clean)
        )
        assert finds.scarce is scarce


def test_no_pass_is_spent_on_what_ssim_would_refuse() -> None:
    clean = standing(3, "smooth")
    clean[:, :24] = 120
    free, _, _, _ = run(clean, seconds=20.0, pass_s=1.5, judge_s=2.0)
    assert free.adversarial is not None
    wanted = (1 + ssim(clean, free.adversarial)) / 2
    gated, bank, clock, _ = run(clean, seconds=20.0, pass_s=1.5, judge_s=2.0, min_ssim=wanted)
    assert clock.now_s <= 20.0
    assert gated.adversarial is not None
    assert isinstance(bank.judge, Judge)
    assert bank.judge.refused_by_ssim == 0
    assert ssim(clean, gated.adversarial) >= wanted
    assert linf(clean, gated.adversarial) <= LEVELS[-1]


def test_two_seeds_make_two_images() -> None:
    clean = standing(2)
    one, other = (
        run(clean, seconds=20.0, pass_s=1.5, judge_s=2.0, seed=seed)[0].adversarial for seed in (1, 2)
    )
    assert one is not None
    assert other is not None
    assert not np.array_equal(one, other)
