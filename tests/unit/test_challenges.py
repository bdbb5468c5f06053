"""Challenges: epsilon, freshness in exact integers, and everything that must not be sent."""

from __future__ import annotations

import hashlib
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perturbnet import challenges
from perturbnet.challenges import (
    Challenge,
    Freshness,
    apply_freshness,
    build_challenge,
    draw_epsilon,
    draw_freshness,
    freshen,
    rescale,
)
from perturbnet.datasets import SourceImage
from perturbnet.errors import ChallengeError
from perturbnet.images import MAX_PIXELS, MAX_SIDE, pixel_digest
from perturbnet.protocol import Rules
from perturbnet.traversal import Draw
from tests.fakes import MAGENTA, RULES, BlockEngine, Pixels, texture

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


# Freshness.


@given(seed=st.binary(min_size=32, max_size=32), height=st.integers(1, 600), width=st.integers(1, 600))
def test_freshness_stays_in_its_ranges(seed: bytes, height: int, width: int) -> None:
    drawn = draw_freshness(seed, height, width)
    assert drawn.possible
    assert drawn == draw_freshness(seed, height, width)
    assert seed.hex() == drawn.seed
    scales = [scale for scale in range(800, 1001) if max(1, height * scale // 1000) == drawn.scaled_height]
    assert any(max(1, width * scale // 1000) == drawn.scaled_width for scale in scales)
    assert drawn.scaled_height - drawn.height <= drawn.scaled_height // 4
    assert drawn.scaled_width - drawn.width <= drawn.scaled_width // 4
    assert Freshness.from_leaf(drawn.to_leaf()) == drawn


def test_every_parameter_takes_its_extremes() -> None:
    drawn = [draw_freshness(number.to_bytes(32, "big"), 320, 320) for number in range(4000)]
    heights = {one.scaled_height for one in drawn}
    assert (min(heights), max(heights)) == (256, 320)
    assert {one.flip for one in drawn} == {0, 1}
    cuts = {1 - one.height / one.scaled_height for one in drawn}
    assert min(cuts) == 0
    assert 0.245 < max(cuts) <= 0.25
    assert any(one.top == one.scaled_height - one.height > 0 for one in drawn)
    assert any(one.top == 0 < one.scaled_height - one.height for one in drawn)
    assert len({(one.top, one.left) for one in drawn if one.top != one.left}) > 100


def test_golden_freshness() -> None:
    drawn, pixels = freshen(texture("freshness", 60, 80), SEED)
    assert drawn is not None
    assert drawn.to_leaf() == {
        "seed": SEED.hex(),
        "scaled_height": 48,
        "scaled_width": 65,
        "top": 1,
        "left": 1,
        "height": 40,
        "width": 64,
        "flip": 0,
    }
    assert pixel_digest(pixels) == "0cd832c81a1e8b145e82938c1f45b337acd6909b586ab01fd1af6ad4e1519987"


def test_without_a_seed_the_image_stays_as_it_is() -> None:
    pixels = texture("plain")
    assert freshen(pixels, None) == (None, pixels)


def freshness(**changes: int | str) -> dict[str, int | str]:
    fields: dict[str, int | str] = {
        "seed": SEED.hex(),
        "scaled_height": 48,
        "scaled_width": 64,
        "top": 0,
        "left": 0,
        "height": 48,
        "width": 64,
        "flip": 0,
    }
    return {**fields, **changes}


def test_nothing_scaled_nothing_cut_is_the_image_itself() -> None:
    pixels = texture("identity")
    assert np.array_equal(apply_freshness(pixels, Freshness.from_leaf(freshness())), pixels)


def test_crop_and_flip() -> None:
    pixels = texture("crop")
    cut = Freshness.from_leaf(freshness(top=2, left=3, height=40, width=50, flip=1))
    found = apply_freshness(pixels, cut)
    assert np.array_equal(found, pixels[2:42, 3:53][:, ::-1])
    assert found.flags["C_CONTIGUOUS"]


def slow_rescale(pixels: Pixels, height: int, width: int) -> Pixels:
    """Bilinear with half-pixel centres, value by value, in rationals; halves are rounded up."""

    def taps(size: int, wanted: int, at: int) -> list[tuple[int, Fraction]]:
        centre = Fraction(2 * at + 1, 2) * size / wanted - Fraction(1, 2)
        centre = min(max(centre, Fraction(0)), Fraction(size - 1))
        first = int(centre)
        share = centre - first
        return [(first, 1 - share), (min(first + 1, size - 1), share)]

    found = np.zeros((height, width, 3), np.uint8)
    for y in range(height):
        for x in range(width):
            for channel in range(3):
                value = sum(
                    (a * b * int(pixels[row, column, channel]))
                    for row, a in taps(pixels.shape[0], height, y)
                    for column, b in taps(pixels.shape[1], width, x)
                )
                found[y, x, channel] = int(value + Fraction(1, 2))
    return found


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ((11, 13), (9, 11)),
        ((7, 5), (7, 5)),
        ((10, 8), (8, 7)),
        ((1, 6), (1, 5)),
        ((6, 6), (1, 1)),
        ((3, 3), (7, 8)),
    ],
)
def test_rescaling_is_exact(source: tuple[int, int], wanted: tuple[int, int]) -> None:
    pixels = texture(f"{source}{wanted}", *source)
    assert np.array_equal(rescale(pixels, *wanted), slow_rescale(pixels, *wanted))


def test_a_half_is_rounded_up() -> None:
    pixels = np.array([[[0, 1, 254]], [[1, 2, 255]]], np.uint8)
    assert rescale(pixels, 1, 1).tolist() == [[[1, 2, 255]]]


@given(value=st.integers(0, 255), height=st.integers(1, 40), width=st.integers(1, 40))
def test_a_flat_image_stays_flat(value: int, height: int, width: int) -> None:
    pixels = np.full((33, 37, 3), value, np.uint8)
    assert np.array_equal(rescale(pixels, height, width), np.full((height, width, 3), value))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {name: value for name, value in freshness().items() if name != "flip"},
        freshness(extra=1),
        freshness(top="0"),
        freshness(seed=1),
        freshness(seed="zz" * 32),
        freshness(seed="00"),
        freshness(seed=SEED.hex().upper()),
        freshness(flip=2),
        freshness(flip=-1),
        freshness(top=-1),
        freshness(left=-1),
        freshness(top=1),
        freshness(left=1),
        freshness(height=0),
        freshness(width=0),
        freshness(scaled_height=0),
        freshness(scaled_height=MAX_SIDE + 1),
        freshness(scaled_width=MAX_SIDE + 1),
        freshness(scaled_height=MAX_SIDE, scaled_width=MAX_SIDE),
        freshness(flip=True),
        freshness(scaled_height=None),  # type: ignore[arg-type]
    ],
)
def test_hostile_leaf_fields_are_refused(fields: dict[str, int | str]) -> None:
    with pytest.raises(ChallengeError, match="freshness"):
        Freshness.from_leaf(fields)


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
