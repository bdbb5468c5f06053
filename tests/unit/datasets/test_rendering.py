"""The reference pictures are the same on every machine."""

from __future__ import annotations

import numpy as np
import pytest

from perturbnet.classifier.labels import REFERENCE_LABELS
from perturbnet.datasets.reference import load_photographs, pinned_splits
from perturbnet.datasets.rendering import CLASSES, HEIGHT, ROWS, WIDTH, Pose, coverage, render
from perturbnet.datasets.shapes import SHAPES, UNIT
from perturbnet.wire.images import pixel_digest

FIRST_ROWS = (
    "f03ff035e0e5a2c6b76dd8018a8ee6560c0cce7dd16c03ac124fa95d3fe14e07",
    "0f488e03ea6dd2f65dd762dff6b54b508db279d7e878654580cc35d023016ae2",
    "7fce99f5461c86f016bc2b197f8589aeb84e852b8a44e1967e4130d53696861e",
    "5d6422de00f2363f6bb40f9b7f1875a2493a0b294907026490122db933755286",
    "427e663329788c66fba39026456e020be898bdc4a031a79b2a4ed1a3c665fead",
    "0e836bcd82de547d43df39f332085079c2146ba3ae24d3b39946d4d9a07fe79a",
    "b8a063604c4be510427d46a846fd3bf5d09df9351c7957e5d52af9a50166546e",
    "b3b577d1d2390a348e40023de642535d792c01a4b0c787767d48e8549689a6ab",
    "d07a189e0e8e309e606100f0de6052402b19de5b5f32e71890ccd1ec848226ae",
    "3c9047b7fd6f3ecd792b29568660918c17d6ef30fb4440b842ec5fcb9fb7f63d",
    "ba121ae8d60937b7ff6c4e684fb67331f9cbaac4ebd0a9af7aa2702188d1c6fc",
    "d799dc7fd2c0bc254c5e0b5e07f33365be6cca95c6238a2e2dae8ebeba21e7aa",
)

PHOTOGRAPHS = (
    "eed217b42b8b90154f16bc418df47a258f74a1af9f864f2c8bf20ee7aec549f3",
    "e1b3636a76852011efc0d319b828178c9b766bae0062fa64eeda70c48a3fc938",
    "506166437255ccda2a182ea0d02a54aa43a3854d7b0834be995df555fa156634",
    "e1ce0ad7fc6a5f35aeb716cbd4d6d1e406792d207de4a296d541f02f83468298",
    "700dbb644be125d29ac70eda445643e39c674e4a54af22f58ffa68fa45c3f2dc",
    "f98a4a5323f8a4d729a499b822b05455b5140ac54832eca9737de32fc00a1ca9",
    "815ceb35b9368ea093ba20aebe58a28515b3550f1de98915aeefd3c88888cf38",
    "d565b038ccf93c9a0ffd08970e851c767f677baa492152b6dfab268b5db8035c",
    "d662b60a0216b3d537dc251e2b2b89402a3756ec6e20daac60cdd10e05d9f894",
    "6c0ac44481315bc431ed27c9e8fde7bf7feb07eaee3662370f73c90a1367ed02",
)


@pytest.mark.parametrize("row", range(len(FIRST_ROWS)))
def test_first_rows_are_pinned(row: int) -> None:
    pixels, label = render("train", row, load_photographs())
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert pixels.dtype == np.uint8
    assert label == row % len(CLASSES)
    assert pixel_digest(pixels) == FIRST_ROWS[row]


def test_the_photographs_are_the_pinned_ones() -> None:
    assert [pixel_digest(photograph) for photograph in load_photographs()] == list(PHOTOGRAPHS)


def test_splits_do_not_share_pictures() -> None:
    photographs = load_photographs()
    train, test = (pixel_digest(render(split, 0, photographs)[0]) for split in ("train", "test"))
    assert train != test


def test_the_size_the_issue_asks_for() -> None:
    pins = pinned_splits()
    assert {name: pin.rows for name, pin in pins.items()} == dict(ROWS)
    assert pins["train"].rows >= 2000
    assert pins["test"].rows >= 400


def test_classes_are_the_networks_labels() -> None:
    assert CLASSES == REFERENCE_LABELS


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_stays_within_its_radius(name: str) -> None:
    axis = np.arange(-2 * UNIT, 2 * UNIT, 20, dtype=np.int32)
    u, v = np.meshgrid(axis, axis)
    inside = SHAPES[name](u, v)
    assert inside.any()
    assert (u[inside] ** 2 + v[inside] ** 2).max() <= (UNIT * 108 // 100) ** 2


@pytest.mark.parametrize("name", SHAPES)
def test_a_quarter_turn_moves_the_points_exactly(name: str) -> None:
    upright, _, _ = coverage(SHAPES[name], Pose(60, 75, 30, 0, 1))
    upside_down, _, _ = coverage(SHAPES[name], Pose(60, 75, 30, 1, 0))
    np.testing.assert_allclose(upside_down, upright[::-1, ::-1], atol=1)


def test_coverage_of_a_disc_is_its_area() -> None:
    counted, _, _ = coverage(SHAPES["disc"], Pose(60, 75, 40, 3, 8))
    assert counted.sum() / 4 == pytest.approx(np.pi * (0.9 * 40) ** 2, rel=0.01)


def test_a_shape_at_the_border_is_cut() -> None:
    counted, rows, columns = coverage(SHAPES["cross"], Pose(0, 0, 30, 0, 1))
    assert (rows.start, columns.start) == (0, 0)
    assert counted.shape == (rows.stop, columns.stop)
