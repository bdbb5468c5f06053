"""The resize is two exact matrices, equal to what Pillow and torch compute."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from perturbnet.classifier.preprocessing import PRODUCTION, REFERENCE, Preprocessing, axis_maps, matrices
from perturbnet.errors import ModelError

SIZES = [(120, 150), (96, 120), (150, 96), (50, 77), (101, 97), (96, 96), (375, 500), (1, 300)]


def cropped(side: int, outputs: int, size: int) -> slice:
    first = (outputs - size) // 2
    return slice(first, first + size)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_equal_to_pillow_and_torch(height: int, width: int) -> None:
    size = 96
    shorter = min(height, width)
    tall, wide = size * height // shorter, size * width // shorter
    levels = np.random.default_rng(0).integers(0, 256, (height, width)).astype(np.float32)
    rows, columns = matrices(height, width, size)
    ours = rows @ levels @ columns.T
    window = cropped(height, tall, size), cropped(width, wide, size)
    pillow = np.asarray(Image.fromarray(levels).resize((wide, tall), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(ours, pillow[window], atol=2e-3)
    torchs = torch.nn.functional.interpolate(
        torch.from_numpy(levels.astype(np.float64))[None, None], (tall, wide), mode="bicubic", antialias=True
    )
    np.testing.assert_allclose(ours, torchs[0, 0].numpy()[window], atol=1e-9)


@pytest.mark.parametrize("size", [96, 480])
def test_rows_sum_to_one_exactly(size: int) -> None:
    for axis in axis_maps(375, 500, size):
        for row, whole in zip(axis.numerators, axis.denominators, strict=True):
            assert sum(Fraction(weight, whole) for weight in row) == 1


def test_no_tap_is_left_out() -> None:
    """Each row holds every input within two stretched pixels of its centre."""
    axis = axis_maps(375, 500, 96)[1]
    outputs = 96 * 500 // 375
    for i, start in enumerate(axis.starts, (outputs - 96) // 2):
        centre = Fraction(2 * i + 1, 2) * Fraction(500, outputs)
        near = [j for j in range(500) if abs(Fraction(2 * j + 1, 2) - centre) < 2 * Fraction(500, outputs)]
        row = axis.numerators[i - (outputs - 96) // 2]
        assert near == list(range(start, start + len(row)))


def test_the_same_size_changes_nothing() -> None:
    rows, columns = matrices(96, 96, 96)
    np.testing.assert_array_equal(rows, np.eye(96))
    np.testing.assert_array_equal(columns, np.eye(96))


def test_mirrored_images_give_mirrored_inputs() -> None:
    rows, _ = matrices(120, 150, 96)
    np.testing.assert_array_equal(rows, rows[::-1, ::-1])


def test_matrices_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        matrices(120, 150, 96)[0][0, 0] = 1


def test_an_empty_image_has_no_preprocessing() -> None:
    with pytest.raises(ModelError, match="0x10"):
        axis_maps(0, 10, 96)


def test_pinned_numbers() -> None:
    for pinned, size in ((PRODUCTION, 480), (REFERENCE, 96)):
        assert pinned == Preprocessing(size, Fraction(1, 2), Fraction(1, 2))
    assert PRODUCTION.digest() == "28c294740107699e0e10688b9a98d1859f1b937c29580a58c6ff57e6cd667f6f"
    assert REFERENCE.digest() == "0e4fee5ba4ecfe11815d51e8b70a9155fc90a4d81bb8285b9a35215a5c26082a"
