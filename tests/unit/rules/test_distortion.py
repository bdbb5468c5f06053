"""Distortion: against scikit-image, against plain Fractions, and the gates at their very edges."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from perturbnet.rules import distortion
from perturbnet.wire.images import Pixels
from perturbnet.wire.units import to_ppb

PAIRS = 200


def draw_pair(seed: int) -> tuple[Pixels, Pixels]:
    """Two images of one random size (noise, gradient, flat, checks), near or far apart."""
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(distortion.WINDOW, 90, size=2))
    y, x = np.mgrid[:height, :width, :3][:2]
    kinds = (
        rng.integers(0, 256, (height, width, 3)),
        (3 * x + 2 * y + rng.integers(-9, 10, x.shape)) % 256,
        np.full((height, width, 3), rng.integers(256)),
        255 * ((x // 5 + y // 7) % 2),
    )
    clean = kinds[rng.integers(len(kinds))]
    change = int(rng.choice([0, 1, 2, 7, 60, 255]))
    adversarial = np.clip(clean + rng.integers(-change, change + 1, clean.shape), 0, 255)
    return clean.astype(np.uint8), adversarial.astype(np.uint8)


def reference_ssim(clean: Pixels, adversarial: Pixels) -> float:
    return float(
        structural_similarity(  # type: ignore[no-untyped-call]
            clean,
            adversarial,
            win_size=distortion.WINDOW,
            channel_axis=2,
            data_range=255,
            use_sample_covariance=False,
        )
    )


def stranger_ssim(clean: Pixels, adversarial: Pixels) -> float:
    """The docstring's four steps, written without numpy's arithmetic."""
    height, width, _ = clean.shape
    indices = []
    for channel in range(3):
        for top in range(height - 10):
            for left in range(width - 10):
                window = np.s_[top : top + 11, left : left + 11, channel]
                xs, ys = ([int(v) for v in image[window].ravel()] for image in (clean, adversarial))
                sx, sy = sum(xs), sum(ys)
                p = sum(x * x + y * y for x, y in zip(xs, ys, strict=True))
                c = sum(x * y for x, y in zip(xs, ys, strict=True))
                a1, a2 = 800 * sx * sy + 38081241, 800 * (121 * c - sx * sy) + 342731169
                b1 = 400 * (sx * sx + sy * sy) + 38081241
                b2 = 400 * (121 * p - sx * sx - sy * sy) + 342731169
                indices.append((float(a1) * float(a2)) / (float(b1) * float(b2)))
    return float(sum(map(Fraction, indices)) / len(indices))


# --- Against scikit-image ---


@pytest.mark.parametrize("seed", range(PAIRS))
def test_a_random_pair_measures_as_in_scikit_image(seed: int) -> None:
    clean, adversarial = draw_pair(seed)
    found = distortion.measure(clean, adversarial)
    assert abs(found.ssim - reference_ssim(clean, adversarial)) < 1e-12
    mse = mean_squared_error(clean, adversarial)
    assert distortion.rmse(found.sum_sq, found.height, found.width) == math.sqrt(mse) / 255
    micro_db = distortion.psnr_micro_db(found.sum_sq, found.height, found.width)
    if found.sum_sq == 0:
        assert micro_db is None
    else:
        decibels = peak_signal_noise_ratio(clean, adversarial, data_range=255)  # type: ignore[no-untyped-call]
        assert micro_db == round(10**6 * decibels)


@pytest.mark.parametrize("seed", range(0, PAIRS, 10))
def test_the_integers_are_the_plain_ones(seed: int) -> None:
    clean, adversarial = draw_pair(seed)
    found = distortion.measure(clean, adversarial)
    gap = adversarial.astype(np.int64) - clean
    assert (found.height, found.width) == clean.shape[:2]
    assert found.linf_u8 == np.abs(gap).max()
    assert found.changed == (gap != 0).sum()
    assert found.sum_sq == (gap**2).sum()


# --- SSIM, bit for bit ---


@pytest.mark.parametrize("seed", range(6))
def test_ssim_is_what_a_stranger_computes_from_the_docstring(seed: int) -> None:
    clean, adversarial = (image[:16, :19] for image in draw_pair(1000 + seed))
    assert distortion.ssim(clean, adversarial) == stranger_ssim(clean, adversarial)


@pytest.mark.parametrize("seed", range(4))
def test_ssim_does_not_depend_on_how_the_image_is_cut(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clean, adversarial = draw_pair(2000 + seed)
    whole = distortion.ssim(clean, adversarial)
    for values in (1, 700, 1 << 12):
        monkeypatch.setattr(distortion, "_STRIP_VALUES", values)
        assert distortion.ssim(clean, adversarial) == whole


def test_ssim_of_views_is_that_of_their_copies() -> None:
    clean, adversarial = draw_pair(7)
    turned = [np.swapaxes(image, 0, 1)[::-1] for image in (clean, adversarial)]
    copies = [np.ascontiguousarray(view) for view in turned]
    assert distortion.measure(turned[0], turned[1]) == distortion.measure(copies[0], copies[1])


def test_ssim_at_its_extremes() -> None:
    shape = (40, 37, 3)
    black, white = np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8)
    board = (np.indices(shape[:2]).sum(axis=0) % 2 * 255).astype(np.uint8)
    board = np.ascontiguousarray(np.repeat(board[:, :, None], 3, axis=2))
    for image in (black, white, board):
        assert distortion.ssim(image, image) == 1.0
    for other in (white, 255 - board):  # the greatest sums that can occur
        first = black if other is white else board
        assert abs(distortion.ssim(first, other) - reference_ssim(first, other)) < 1e-12
    assert distortion.ssim(black, white) == distortion.ssim(white, black)
    assert distortion.ssim(board, 255 - board) < -0.99


@given(
    st.lists(
        st.floats(-1, 1).filter(lambda value: value == 0 or abs(value) > 2.0**-54), min_size=1, max_size=300
    )
)
def test_the_sum_of_indices_is_exact(values: list[float]) -> None:
    assert Fraction(distortion._exact_sum(np.array(values)), 1 << 108) == sum(map(Fraction, values))


def test_the_sum_is_exact_over_several_blocks() -> None:
    count = 2 * distortion._STRIP_VALUES + 1
    values = np.random.default_rng(3).uniform(-1, 1, count) * 2.0 ** -(np.arange(count) % 40)
    as_integers = [int(Fraction(value) * 2**108) for value in values.tolist()]  # multiples of 2^-93
    assert distortion._exact_sum(values) == sum(as_integers)


def test_no_intermediate_overflows() -> None:
    highest_sum = 121 * 255
    assert 2 * highest_sum**2 == 121 * 121 * 2 * 255**2 == 1904062050 < 2**31
    assert 800 * highest_sum**2 + 342731169 < 2**53
    lowest_index = Fraction(38081241, (800 * highest_sum**2 + 38081241) * (800 * highest_sum**2 + 342731169))
    assert lowest_index > Fraction(1, 2**54)


# --- What is refused ---


@pytest.mark.parametrize(
    ("clean", "adversarial", "message"),
    [
        (np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8), "clean: expected uint8"),
        (np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20, 3), np.int16), "adversarial: expected uint8"),
        (np.zeros((20, 20, 4), np.uint8), np.zeros((20, 20, 4), np.uint8), "clean: expected uint8"),
        (np.zeros((20, 10, 3), np.uint8), np.zeros((20, 10, 3), np.uint8), "both sides at least 11"),
        (np.zeros((20, 20, 3), np.uint8), np.zeros((20, 21, 3), np.uint8), "two images of one shape"),
    ],
    ids=["grey", "int16", "alpha", "small", "shapes"],
)
def test_what_is_not_two_images_of_one_shape_is_refused(
    clean: Pixels, adversarial: Pixels, message: str
) -> None:
    for measure in (distortion.measure, distortion.ssim):
        with pytest.raises(ValueError, match=message):
            measure(clean, adversarial)


def test_the_smallest_image_has_one_window() -> None:
    clean, adversarial = (image[:11, :11] for image in draw_pair(5))
    assert distortion.measure(clean, adversarial).ssim == stranger_ssim(clean, adversarial)


# --- Gates ---


def test_linf_is_compared_as_a_rational() -> None:
    assert distortion.linf_at_least(51, "0.2")  # 51/255 = 1/5 exactly; as doubles 51/255 and 0.2 agree too
    assert distortion.linf_at_most(51, "0.2")
    assert distortion.linf_at_least(1, "0.003")
    assert not distortion.linf_at_least(1, "0.00392156862745098039216")  # just above 1/255
    assert distortion.linf_at_least(1, "0.00392156862745098039215")  # just below; both are the same double
    assert float("0.00392156862745098039216") == float("0.00392156862745098039215") == 1 / 255
    assert distortion.linf_at_most(1, "0.00392156862745098039216")
    assert not distortion.linf_at_most(1, "0.00392156862745098039215")
    assert distortion.linf_at_most(7, "0.03")  # 7.65 levels
    assert not distortion.linf_at_most(8, "0.03")
    assert not distortion.linf_at_least(0, "0.003")
    assert distortion.linf_at_least(7, Decimal("0.003"))
    assert distortion.linf_at_most(7, Decimal("0.03"))


def test_ssim_is_compared_as_the_rational_it_is() -> None:
    below, double, above = math.nextafter(0.98, 0), 0.98, math.nextafter(0.98, 1)
    text = str(Decimal(double))  # all its digits
    assert distortion.ssim_at_least(double, text)
    assert not distortion.ssim_at_least(double, text + "1")
    assert not distortion.ssim_at_least(below, "0.98")
    assert distortion.ssim_at_least(above, "0.98")
    assert distortion.ssim_at_least(double, "0.98") == (Fraction(0.98) >= Fraction(98, 100))
    assert distortion.ssim_at_least(1.0, "1")


def exact_psnr_gate(sum_sq: int, height: int, width: int, threshold_db: str) -> bool:
    """The same gate in integers alone: with T/10 = p/q, sum_sq^q * 10^p <= (255² 3HW)^q."""
    tenth = Fraction(threshold_db) / 10
    full = 255**2 * 3 * height * width
    left = Fraction(sum_sq**tenth.denominator) * Fraction(10) ** tenth.numerator
    return bool(left <= full**tenth.denominator)


@pytest.mark.parametrize("threshold_db", ["38.0", "40", "0", "37.5", "38.25", "20", "60", "-3", "9.7"])
@pytest.mark.parametrize(("height", "width"), [(375, 500), (11, 11), (120, 150), (1000, 1000)])
def test_psnr_is_exact_at_its_edge(threshold_db: str, height: int, width: int) -> None:
    edge = math.floor(255**2 * 3 * height * width / distortion.psnr_factor(threshold_db))
    for sum_sq in range(max(0, edge - 2), edge + 3):
        passes = distortion.psnr_at_least(sum_sq, height, width, threshold_db)
        assert passes == exact_psnr_gate(sum_sq, height, width, threshold_db) == (sum_sq <= edge)


def test_psnr_takes_equality() -> None:
    # 255² * 3 * 100 * 100 / 10^2 is an integer: exactly 20 dB.
    edge = 255**2 * 3 * 100
    assert distortion.psnr_at_least(edge, 100, 100, "20")
    assert not distortion.psnr_at_least(edge + 1, 100, 100, "20")
    assert distortion.psnr_micro_db(edge, 100, 100) == 20_000_000


def test_the_psnr_factor_has_sixty_correct_digits() -> None:
    factor = distortion.psnr_factor("38.0")
    assert Decimal(factor.numerator) / Decimal(factor.denominator) > 6309
    ulp = Fraction(1, 10 ** (distortion.PSNR_DIGITS - 4))  # of a number with four digits before the point
    assert (factor - ulp / 2) ** 5 < 10**19 < (factor + ulp / 2) ** 5
    assert distortion.psnr_factor("40") == 10_000


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "-Infinity", "1/3", "0.98 dB"])
def test_a_threshold_that_is_no_decimal_number_is_refused(text: str) -> None:
    for gate in (distortion.exact_setting, distortion.psnr_factor):
        with pytest.raises(ValueError, match="is not a finite decimal number"):
            gate(text)


@pytest.mark.parametrize("value", [0.98, 1, None])
def test_a_threshold_whose_text_is_lost_is_refused(value: object) -> None:
    for gate in (distortion.exact_setting, distortion.psnr_factor):
        with pytest.raises(TypeError, match="pass the decimal text"):
            gate(value)


# --- Parts per billion ---


@given(st.floats(-1e6, 1e6))
@settings(max_examples=200)
def test_parts_per_billion_are_nearest(value: float) -> None:
    assert abs(to_ppb(value) - Fraction(value) * 10**9) <= Fraction(1, 2)


def test_parts_per_billion_round_ties_to_even() -> None:
    tie = 2.0**-10  # 976562.5 parts
    assert to_ppb(tie) == 976562
    assert to_ppb(3 * tie) == 2929688  # 2929687.5
    assert to_ppb(0.98) == 980_000_000
    assert to_ppb(1.0) == 10**9
    for lost in (math.nan, math.inf):
        with pytest.raises((ValueError, OverflowError)):
            to_ppb(lost)
