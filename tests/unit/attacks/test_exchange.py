"""The exchange attack on a linear classifier: least level, few values, in time, through the gates."""

from __future__ import annotations

import numpy as np
import pytest

from perturbnet.attacks import AttackTask, Bank, Deadline
from perturbnet.attacks.exchange import Exchange
from perturbnet.attacks.pgd import AscendingPgd
from perturbnet.attacks.protocol import FEWEST_VALUES
from perturbnet.rules.distortion import ssim
from tests.support.attacks.judging import ENGINE, LEVELS, Judge, as_clock, linf, run, standing
from tests.support.fakes import BlockOracle, VirtualClock


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_it_finds_the_least_level_with_fewer_values_than_the_baseline(levels: int) -> None:
    clean = standing(levels)
    result, bank, _, _ = run(clean)
    theirs, _, _, _ = run(clean, attack=AscendingPgd())
    assert result.adversarial is not None
    assert theirs.adversarial is not None
    assert result.linf_u8 == linf(clean, result.adversarial) <= levels
    assert result.margin is not None
    assert result.margin < 0
    assert bank.best is not None
    assert np.array_equal(bank.best.pixels, result.adversarial)
    difference = theirs.adversarial.astype(int) - clean
    assert bank.best.size < (linf(clean, theirs.adversarial), int((difference**2).sum()))


def test_its_first_answer_comes_after_a_few_passes_and_never_gets_worse() -> None:
    clean = standing(1)
    _, bank, _, _ = run(clean, pass_s=0.01)
    assert bank.accepted[0].at_s < 0.5
    sizes = [one.size for one in bank.accepted]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.3, 1.0, 3.0])
def test_it_is_never_late(seconds: float) -> None:
    for never in (False, True):
        _, _, clock, _ = run(standing(2), seconds=seconds, pass_s=0.01, judge_s=0.03, never=never)
        assert clock.now_s <= seconds + 0.1 * (seconds == 0.0)


def test_a_deadline_that_has_passed_costs_nothing() -> None:
    result, bank, _, oracle = run(standing(1), seconds=-1.0)
    assert result.adversarial is None
    assert (bank.asked, oracle.forward_passes) == (0, 0)


def test_cancelled_work_stops() -> None:
    clean, clock = standing(1), VirtualClock(0.0)
    oracle = BlockOracle(ENGINE, clock, 0.01)
    bank = Bank(clean, Judge(clean, clock), as_clock(clock))
    task = AttackTask(clean, ENGINE.classify([clean])[0].index, LEVELS, bank)
    Exchange().run(oracle, task, Deadline(clock, 1e9, cancelled=lambda: oracle.forward_passes >= 10))
    assert oracle.forward_passes < 40


def test_only_levels_that_are_allowed() -> None:
    clean = standing(3)
    result, _, _, _ = run(clean, levels=(1,))
    assert result.adversarial is None
    assert result.reason.startswith("no flip")
    assert run(clean, levels=())[0].adversarial is None
    higher, _, _, _ = run(standing(1), levels=(2, 3))
    assert higher.adversarial is not None
    assert higher.linf_u8 <= 3


def test_two_seeds_make_two_images_and_one_seed_one() -> None:
    clean = standing(1)
    one, again, other = (run(clean, seed=seed)[0].adversarial for seed in (1, 1, 2))
    assert one is not None
    assert other is not None
    assert np.array_equal(one, again)  # type: ignore[arg-type]
    assert not np.array_equal(one, other)


def test_it_keeps_clear_of_the_ssim_gate() -> None:
    clean = standing(3, "smooth")
    clean[:, :24] = 120
    free, _, _, _ = run(clean, seconds=6.0)
    assert free.adversarial is not None
    wanted = (1 + ssim(clean, free.adversarial)) / 2
    gated, bank, _, _ = run(clean, seconds=6.0, min_ssim=wanted)
    assert gated.adversarial is not None
    assert ssim(clean, gated.adversarial) >= wanted
    assert bank.asked < 200


@pytest.mark.parametrize("levels", [2, 3])
def test_fewest_values_are_fewer_and_cost_squares(levels: int) -> None:
    clean = standing(levels)
    _, smallest, _, _ = run(clean)
    result, fewest, _, _ = run(clean, per_value=FEWEST_VALUES)
    assert result.adversarial is not None
    assert smallest.best is not None
    assert fewest.best is not None
    assert fewest.best.linf_u8 == smallest.best.linf_u8
    assert fewest.best.changed < smallest.best.changed
    assert fewest.best.sum_sq > smallest.best.sum_sq


def test_nothing_that_was_not_accepted_is_returned() -> None:
    result, bank, _, _ = run(standing(1), never=True)
    assert result.adversarial is None
    assert bank.asked > 0
