"""Gains: what stands at a level, pairs that are pairs, an interval that covers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rich.console import Console

from perturbnet.attack_comparison.gains import LEVELS, compare, draw_table, outcomes, paired_interval
from perturbnet.attack_comparison.robust_accuracy import RobustAccuracy

BROKEN_AT = (0, 1, 1, 2, 3, None)


def standings(broken_at: tuple[int | None, ...]) -> list[RobustAccuracy]:
    return [RobustAccuracy(row, level, {}, 0) for row, level in enumerate(broken_at)]


@pytest.mark.parametrize(("level", "standing"), [(0, 5), (1, 3), (2, 2), (3, 1), (7, 1)])
def test_an_image_stands_below_the_level_that_broke_it(level: int, standing: int) -> None:
    assert outcomes(standings(BROKEN_AT), level).sum() == standing


def test_the_gain_of_two_trainings() -> None:
    better = {"one": standings((1, 2, 2, 2, 3, None)), "two": standings((0, 1, 2, 2, 3, None))}
    gains = compare(standings(BROKEN_AT), better)
    assert [gain.level for gain in gains] == list(LEVELS)
    clean, first = gains[0], gains[1]
    assert (clean.before, clean.after_each) == (5 / 6, {"one": 1.0, "two": 5 / 6})
    assert (first.before, first.after_each) == (0.5, {"one": 5 / 6, "two": 4 / 6})
    assert first.gain == pytest.approx(0.25)
    assert first.interval[0] <= first.gain <= first.interval[1]
    assert json.loads(json.dumps(first.to_json()))["after_each"] == {"one": 0.8333, "two": 0.6667}


def test_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="two was measured on other images"):
        compare(standings(BROKEN_AT), {"two": standings(BROKEN_AT)[1:]})


def test_nothing_gained_is_no_interval_above_zero() -> None:
    same = np.array([True, False, True])
    assert paired_interval(same, np.stack([same, same])) == (0.0, 0.0)


def test_pairing_narrows_the_interval() -> None:
    generator = np.random.default_rng(3)
    before = generator.random(400) < 0.5
    gained = before | (generator.random(400) < 0.1)
    low, high = paired_interval(before, gained[None])
    assert 0 < low < (gained.mean() - before.mean()) < high
    other_low, other_high = paired_interval(before, generator.permutation(gained)[None])
    assert high - low < (other_high - other_low) / 2


def test_an_interval_covers_as_often_as_it_says() -> None:
    generator = np.random.default_rng(5)
    covered = 0
    for run in range(60):
        before = generator.random(150) < 0.5
        after = np.where(generator.random(150) < 0.2, True, before)  # gains 10 points on average
        low, high = paired_interval(before, after[None], seed=run, resamples=800)
        covered += low <= 0.1 <= high
    assert covered >= 52  # of 60 at 95 %: fewer happens once in 500


def test_the_table_marks_the_headline() -> None:
    console = Console(width=120, record=True)
    console.print(draw_table(compare(standings(BROKEN_AT), {"one": standings(BROKEN_AT)}), 1, "title"))
    text = console.export_text()
    assert "clean  " in text
    assert "1 *" in text
    assert "2 *" not in text
