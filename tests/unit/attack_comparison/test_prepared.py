"""The miner that lives from prepared answers: its warps are the challenge's own, and it is the weaker one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from perturbnet.attack_comparison import prepared
from perturbnet.attack_comparison.freshness import KINDS, FreshnessBench, Trial, summarise
from perturbnet.attack_comparison.prepared import PreparedAnswer
from perturbnet.attacks import open_attack
from perturbnet.classifier import open_engine
from perturbnet.classifier.canonical.profiles import open_gradient
from perturbnet.datasets import open_source
from perturbnet.rules.freshness import Freshness, FreshnessRanges, apply_freshness, draw_freshness
from tests.support.fakes import RULES, texture

PICTURE = texture("picture", 60, 80)
PLAIN = Freshness("00" * 32, 60, 80, 0, 0, 60, 80, 0)


def drawn(number: int) -> Freshness:
    return draw_freshness(number.to_bytes(32, "big"), *PICTURE.shape[:2])


@pytest.mark.parametrize("number", range(6))
def test_a_warp_is_what_freshness_does_before_it_rounds(number: int) -> None:
    warped = prepared.warp(PICTURE.astype(np.float32), drawn(number))
    assert np.abs(warped - apply_freshness(PICTURE, drawn(number))).max() <= 0.501


@pytest.mark.parametrize("number", range(6))
def test_unwarp_is_the_transpose(number: int) -> None:
    generator = np.random.default_rng(number)
    freshness = drawn(number)
    change = generator.normal(size=PICTURE.shape).astype(np.float32)
    gradient = generator.normal(size=(freshness.height, freshness.width, 3)).astype(np.float32)
    there = float((prepared.warp(change, freshness) * gradient).sum())
    back = float((change * prepared.unwarp(gradient, freshness, PICTURE)).sum())
    assert there == pytest.approx(back, rel=1e-3, abs=1e-2)


def test_without_a_change_of_the_picture_the_answer_is_sent_as_it_was() -> None:
    change = np.random.default_rng(0).integers(-1, 2, PICTURE.shape).astype(np.float32)
    [only] = prepared.cached(PreparedAnswer({0: change}), PLAIN)
    assert np.array_equal(only, change)
    [mirrored] = prepared.cached(PreparedAnswer({1: change}), dataclasses.replace(PLAIN, flip=1))
    assert np.array_equal(mirrored, change[:, ::-1])


def test_tries_come_smallest_first_and_only_of_the_right_orientation() -> None:
    change = np.random.default_rng(0).integers(-1, 2, PICTURE.shape).astype(np.float32)
    table = PreparedAnswer({0: change}, {(0, 2): change, (0, 1): change, (1, 1): change})
    tries = list(prepared.amplified(table, drawn(1) if drawn(1).flip == 0 else PLAIN))
    levels = [int(np.abs(one).max()) for one in tries]
    assert levels == sorted(levels)
    assert max(levels) == prepared.MOST_FACTOR
    assert [int(np.abs(one).max()) for one in prepared.robust(table, PLAIN)] == [1, 2]
    assert not list(prepared.cached(PreparedAnswer(), PLAIN))


@pytest.mark.slow
def test_one_picture_with_and_without_freshness(tmp_path: Path) -> None:
    still = FreshnessRanges((1000, 1000), (0, 0))
    bench = FreshnessBench(
        open_engine("reference", cache_dir=tmp_path, device="cpu"),
        open_gradient("reference", cache_dir=tmp_path, device="cpu"),
        open_attack("pgd"),
        RULES,
        2.0,
        virtual=True,
        ranges=still,
    )
    source = open_source("reference", cache_dir=tmp_path, split="test")
    plain, *fresh = bench.run(7, source.read(7).pixels, 2)
    assert plain.scores["fresh"] == plain.scores["cached"] > 0
    for trial in fresh:  # nothing but a mirror: what was prepared fits exactly
        assert trial.scores["cached"] == pytest.approx(trial.scores["fresh"], abs=0.05)


def test_the_summary_names_the_share_of_a_search() -> None:
    trials = [Trial(row, -1, dict.fromkeys(KINDS[:3], 0.9)) for row in range(4)]
    for row in range(4):
        scores = {"fresh": 0.8, "cached": 0.0, "amplified": 0.4, "robust": 0.2}
        trials.append(Trial(row, 0, scores))
    rows = {row["miner"]: row for row in summarise(trials)}
    assert rows["cached"]["share"] == 0
    assert rows["amplified"]["share"] == pytest.approx(0.5)
    assert rows["fresh"]["off"] == pytest.approx(0.9)
    assert rows["robust"]["off"] is None
    assert rows["amplified"]["share_low"] == pytest.approx(0.5)
    assert rows["robust"]["success"] == 1
