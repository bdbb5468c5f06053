"""Challenges: epsilon, which view of a row is sent, and everything that must not be."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from perturbnet.datasets import SourceImage
from perturbnet.errors import ChallengeError
from perturbnet.rounds import challenges
from perturbnet.rounds.challenges import Challenge, build_challenge, choose_view, draw_epsilon, draw_views
from perturbnet.rules.classification import Classification
from perturbnet.rules.freshness import (
    FRESHNESS_FORMS,
    FRESHNESS_RANGES,
    apply_freshness,
    draw_freshness,
)
from perturbnet.rules.traversal import Draw
from perturbnet.wire.images import MAX_PIXELS, MAX_SIDE, Pixels, pixel_digest
from perturbnet.wire.messages import Rules
from tests.support.fakes import LABELS, MAGENTA, RULES, BlockEngine, texture

SEED = bytes(range(32))


def build(
    pixels: Pixels | None = None, *, seed: bytes | None = None, rules: Rules = RULES, attempt: int = 0
) -> Challenge:
    clean = texture("challenge") if pixels is None else pixels
    return build_challenge(
        SourceImage(17, clean, 2, "of the data set"),
        draw=Draw(3, 5, 17),
        engine=BlockEngine(),
        netuid=7,
        block=100,
        attempt=attempt,
        freshness_seed=seed,
        rules=rules,
    )


# Epsilon.


@pytest.mark.parametrize(
    ("netuid", "block", "attempt", "expected"),
    [
        (1, 0, 0, "0.1581"),
        (1, 0, 1, "0.1582"),
        (7, 100, 0, "0.1054"),
        (7, 101, 0, "0.1828"),
        (64, 5000000, 11, "0.0997"),
    ],
)
def test_epsilon_is_the_formula(netuid: int, block: int, attempt: int, expected: str) -> None:
    seed = int(hashlib.sha256(f"perturb:{netuid}:{block}".encode()).hexdigest(), 16) + attempt
    slow = Fraction(6, 100) + Fraction(seed % 1400, 10000)
    found = draw_epsilon(netuid, block, attempt)
    assert Fraction(found) == slow
    assert len(found) == len("0.0600")
    assert found == expected


def test_epsilon_stays_in_its_range_and_wraps_at_1400_attempts() -> None:
    found = [draw_epsilon(1, 0, attempt) for attempt in range(1400)]
    assert (min(found), max(found), len(set(found))) == ("0.0600", "0.1999", 1400)
    assert draw_epsilon(1, 0, 1400) == found[0]


# Challenges.


def test_a_challenge_says_what_it_is_made_of() -> None:
    made = build(seed=SEED)
    assert made.task_id == "3-5"
    assert made.epsilon == draw_epsilon(7, 100, 0)
    assert made.freshness is not None
    assert np.array_equal(made.clean, apply_freshness(texture("challenge"), made.freshness))
    assert made.clean_digest == pixel_digest(made.clean)
    assert made.label == BlockEngine().classify([made.clean])[0]
    assert made.source_label == "of the data set"


@pytest.mark.parametrize("side", [challenges.SMALLEST_SIDE - 1, 1])
def test_too_small_an_image_is_refused(side: int) -> None:
    with pytest.raises(ChallengeError, match="too small"):
        build(texture("small", side, 64))


def test_the_smallest_image_passes_unless_freshness_makes_it_smaller() -> None:
    smallest = texture("small", 32, 32)
    assert build(smallest).clean.shape == (32, 32, 3)
    with pytest.raises(ChallengeError, match="too small"):
        build(smallest, seed=SEED)


@pytest.mark.parametrize("shape", [(MAX_SIDE + 1, 32), (32, MAX_SIDE + 1), (4097, MAX_PIXELS // 4096)])
def test_an_image_that_no_miner_could_send_back_is_refused(shape: tuple[int, int]) -> None:
    flat = np.broadcast_to(np.uint8(0), (*shape, 3))
    with pytest.raises(ChallengeError, match="too large"):
        build(flat)


def test_an_image_is_refused_for_its_size_before_it_is_rescaled() -> None:
    flat = np.broadcast_to(np.uint8(0), (MAX_SIDE + 1, 64, 3))
    assert draw_freshness(SEED, MAX_SIDE + 1, 64).height <= MAX_SIDE
    with pytest.raises(ChallengeError, match="too large"):
        build(flat, seed=SEED)


def test_an_unhealthy_engine_is_refused() -> None:
    pixels = texture("sick").copy()
    pixels[0, 0] = MAGENTA
    with pytest.raises(ChallengeError, match="saturated 1 times"):
        build(pixels)


def test_an_epsilon_below_the_minimum_delta_is_refused() -> None:
    """A bug of the public version: nothing could succeed, and everybody was punished for it."""
    with pytest.raises(ChallengeError, match="no whole level"):
        build(rules=RULES.model_copy(update={"min_linf_delta": "0.25", "max_linf_delta": "0.3"}))


def test_a_gap_between_two_levels_is_refused_too() -> None:
    between = {"min_linf_delta": "0.004", "max_linf_delta": "0.0078"}  # 1/255 is below, 2/255 above
    with pytest.raises(ChallengeError, match="no whole level"):
        build(rules=RULES.model_copy(update=between))


# Which view is sent.


@dataclass
class Scripted:
    """An engine that says what it was told, call by call."""

    answers: list[tuple[str, float]]
    name = model_name = "scripted"
    labels = LABELS
    model_digest = "0" * 64
    together = 1
    saturated: int = 0

    def classify(self, images: Sequence[Pixels]) -> list[Classification]:
        assert len(images) == 1
        text, margin = self.answers.pop(0)
        return [Classification(LABELS.index(text), text, "0" * 64, margin, self.saturated)]


A, B = LABELS[:2]
WEAK = [(A, 2.0)] * (FRESHNESS_RANGES.views - 4)
OTHERS = [(B, 7.0)] * (FRESHNESS_RANGES.views - 4)


@pytest.mark.parametrize(
    ("answers", "view"),
    [
        ([(A, 10.0), (A, 8.0)], 0),  # exactly four fifths is enough
        ([(A, 10.0), (A, 7.999), (A, 30.0)], 1),
        ([(A, 10.0), (B, 30.0), (A, 8.0)], 1),  # sure, but of another class
        ([(A, 10.0), (B, 30.0), (A, 1.0), (A, 3.0), (A, 3.0), *WEAK], 2),  # the surest of its class
        ([(A, 10.0), (B, 1.0), (B, 2.0), (B, 9.0), (B, 8.0), *OTHERS], 2),  # the surest at all
    ],
)
def test_the_first_view_is_sent_that_keeps_label_and_margin(
    answers: list[tuple[str, float]], view: int
) -> None:
    pixels, engine = texture("views", 60, 80), Scripted(list(answers))
    chosen = choose_view(17, pixels, SEED, engine)
    assert chosen.freshness == draw_freshness(SEED, 60, 80, view=view)
    assert np.array_equal(chosen.clean, apply_freshness(pixels, chosen.freshness))
    assert (chosen.label.text, chosen.label.margin) == answers[view + 1]
    assert engine.answers == []  # nothing was asked beyond that


def test_the_old_form_asks_for_one_view_only() -> None:
    old, engine = FRESHNESS_FORMS[1], Scripted([(B, 0.1)])
    chosen = choose_view(17, texture("views", 60, 80), SEED, engine, old)
    assert chosen.freshness == draw_freshness(SEED, 60, 80, old)
    assert chosen.freshness.view == 0
    assert chosen.label.text == B


def test_views_that_cannot_be_sent_are_passed_over() -> None:
    """A picture of which only some views are wide enough for the SSIM window."""
    seen = set()
    for number in range(50):
        seed, pixels = number.to_bytes(32, "big"), texture("narrow", 44, 60)
        wanted = [
            view
            for view in range(FRESHNESS_RANGES.views)
            if draw_freshness(seed, 44, 60, view=view).height >= challenges.SMALLEST_SIDE
        ]
        if wanted:
            assert [freshness.view for freshness, _ in draw_views(17, pixels, seed)] == wanted
        else:
            with pytest.raises(ChallengeError, match="too small"):
                list(draw_views(17, pixels, seed))
        seen.add(tuple(wanted))
    assert len(seen) > 5


def test_an_engine_unsure_of_a_view_makes_no_challenge() -> None:
    with pytest.raises(ChallengeError, match="saturated 3 times"):
        choose_view(17, texture("views", 60, 80), SEED, Scripted([(A, 1.0)], saturated=3))
