"""Freshness in exact integers: what a seed names, how it is applied, what a leaf may say."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perturbnet.errors import ChallengeError
from perturbnet.rules.freshness import (
    FRESHNESS_FORMS,
    FRESHNESS_RANGES,
    Freshness,
    apply_freshness,
    draw_freshness,
    rescale,
)
from perturbnet.wire.images import MAX_SIDE, Pixels, pixel_digest
from tests.support.fakes import texture

SEED = bytes(range(32))


@given(seed=st.binary(min_size=32, max_size=32), height=st.integers(1, 600), width=st.integers(1, 600))
def test_freshness_stays_in_its_ranges(seed: bytes, height: int, width: int) -> None:
    drawn = draw_freshness(seed, height, width)
    assert drawn.possible
    assert drawn == draw_freshness(seed, height, width)
    assert seed.hex() == drawn.seed
    for side, scaled in ((height, drawn.scaled_height), (width, drawn.scaled_width)):
        assert any(max(1, side * scale // 1000) == scaled for scale in range(800, 1001))
    for cut, side in (
        (drawn.scaled_height - drawn.height, drawn.scaled_height),
        (drawn.scaled_width - drawn.width, drawn.scaled_width),
    ):
        assert side // 10 <= cut <= side // 4
    assert Freshness.from_leaf(drawn.to_leaf()) == drawn


def test_every_parameter_takes_its_extremes() -> None:
    drawn = [draw_freshness(number.to_bytes(32, "big"), 320, 320) for number in range(4000)]
    heights = {one.scaled_height for one in drawn}
    assert (min(heights), max(heights)) == (256, 320)
    assert {one.flip for one in drawn} == {0, 1}
    cuts = {1 - one.height / one.scaled_height for one in drawn}
    assert min(cuts) == pytest.approx(0.1, abs=0.005)
    assert 0.245 < max(cuts) <= 0.25
    assert any(one.top == one.scaled_height - one.height > 0 for one in drawn)
    assert any(one.top == 0 < one.scaled_height - one.height for one in drawn)
    assert len({(one.top, one.left) for one in drawn if one.top != one.left}) > 100


def test_golden_freshness_of_form_1() -> None:
    drawn = draw_freshness(SEED, 60, 80, FRESHNESS_FORMS[1])
    pixels = apply_freshness(texture("freshness", 60, 80), drawn)
    assert drawn.to_leaf() == {
        "seed": SEED.hex(),
        "scaled_height": 48,
        "scaled_width": 65,
        "top": 1,
        "left": 1,
        "height": 40,
        "width": 64,
        "flip": 0,
        "view": 0,
    }
    assert pixel_digest(pixels) == "0cd832c81a1e8b145e82938c1f45b337acd6909b586ab01fd1af6ad4e1519987"


@pytest.mark.parametrize(
    ("view", "size", "digest"),
    [
        (0, (39, 61), "1e47c2a26ced60ae7844c3941400272757a56a169721718a8f50ca9e0053bfcd"),
        (11, (41, 65), "18629c283c4e71e625c8d3184c8e89791548aca40c5dd183d1239ca2ec936076"),
    ],
)
def test_golden_freshness_of_form_2(view: int, size: tuple[int, int], digest: str) -> None:
    drawn = draw_freshness(SEED, 60, 80, FRESHNESS_FORMS[2], view=view)
    pixels = apply_freshness(texture("freshness", 60, 80), drawn)
    assert (drawn.view, pixels.shape) == (view, (*size, 3))
    assert pixel_digest(pixels) == digest


def test_the_views_of_a_seed_differ() -> None:
    drawn = {draw_freshness(SEED, 320, 320, view=view) for view in range(FRESHNESS_RANGES.views)}
    assert len({(one.scaled_height, one.top, one.left, one.height) for one in drawn}) == 12


def test_form_1_keeps_the_aspect_and_form_2_does_not() -> None:
    for form, kept in ((1, True), (2, False)):
        drawn = [
            draw_freshness(number.to_bytes(32, "big"), 1000, 1000, FRESHNESS_FORMS[form])
            for number in range(20)
        ]
        assert all(one.scaled_height == one.scaled_width for one in drawn) is kept


def test_a_leaf_of_form_1_says_no_view() -> None:
    fields = freshness()
    assert Freshness.from_leaf(fields).view == 0
    assert Freshness.from_leaf({**fields, "view": 3}).view == 3


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
        freshness(view=-1),
        freshness(view="1"),
        freshness(scaled_height=None),  # type: ignore[arg-type]
    ],
)
def test_hostile_leaf_fields_are_refused(fields: dict[str, int | str]) -> None:
    with pytest.raises(ChallengeError, match="freshness"):
        Freshness.from_leaf(fields)
