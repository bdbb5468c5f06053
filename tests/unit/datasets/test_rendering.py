"""The reference pictures are the same on every machine."""

from __future__ import annotations

import numpy as np
import pytest

from perturbnet.classifier.labels import REFERENCE_LABELS
from perturbnet.datasets.reference import load_photographs, pinned_splits
from perturbnet.datasets.rendering import CLASSES, HEIGHT, ROWS, WIDTH, Pose, coverage, render
from perturbnet.datasets.shapes import OUTLINES, UNIT, disc, stripes
from perturbnet.images import pixel_digest

FIRST_ROWS = (
    "f8286c7073f4e5155a7e970fe52def858276f9260dd3f232438ddd2460bf35b7",
    "c9a62a0cd80840ee023900a00706393a0a5057b585b5498026ab951dfecc1167",
    "34d55245a3362b924641ab351bed69e3b6b63d9dde5e5cae1ca2313c3f4b2640",
    "6625361ddfa5e3726a6b22c7daee1d33953a14dc9dadab064f88b5001a5175b0",
    "f5755492527c6231f39be461238314b6472d0e70c22cf29338de66dc9c03e0d5",
    "48b96be7862df2b995495a171f5e7fefba6ab1f8237c1c9340e6077879a70f36",
    "a7bac45a2e2940db635bd407435dbce34d1516349f5efe48bfab8479692a6250",
    "243dd9de793e74cd9734a3ab334e6b4f776bb30d347cab85a13976a864a877d6",
    "f0128dec19a7ca93f3244bf5aa8c5dd08f4c71c0e4706313fa057a7cc3607fbc",
    "079d7d401b07919b2cdc516307d643a96652b1d727b0fb642a3255161bfc44b6",
    "ae955815fbeb45891425722316fa602083fcfed2e8160b1ded1d97266352d8b1",
    "eb63d42e695965d2e5e3d9da084ea7cc73ac7a47ffaf8b46805fefda7afee938",
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


@pytest.mark.parametrize("name", OUTLINES)
def test_a_shape_stays_within_its_radius(name: str) -> None:
    axis = np.arange(-2 * UNIT, 2 * UNIT, 20, dtype=np.int32)
    u, v = np.meshgrid(axis, axis)
    inside = OUTLINES[name](u, v)
    assert inside.any()
    assert (u[inside] ** 2 + v[inside] ** 2).max() <= (UNIT * 108 // 100) ** 2


@pytest.mark.parametrize("name", OUTLINES)
def test_a_quarter_turn_moves_the_points_exactly(name: str) -> None:
    upright, _, _ = coverage(OUTLINES[name], Pose(60, 75, 30, 0, 1))
    upside_down, _, _ = coverage(OUTLINES[name], Pose(60, 75, 30, 1, 0))
    np.testing.assert_allclose(upside_down, upright[::-1, ::-1], atol=1)


def test_coverage_of_a_disc_is_its_area() -> None:
    counted, _, _ = coverage(disc, Pose(60, 75, 40, 3, 8))
    assert counted.sum() / 4 == pytest.approx(np.pi * (0.9 * 40) ** 2, rel=0.01)


def test_a_shape_at_the_border_is_cut() -> None:
    counted, rows, columns = coverage(OUTLINES["cross"], Pose(0, 0, 30, 0, 1))
    assert (rows.start, columns.start) == (0, 0)
    assert counted.shape == (rows.stop, columns.stop)


def test_stripes_are_half_of_the_figure_and_within_it() -> None:
    pose = Pose(60, 75, 40, 3, 8)
    whole, _, _ = coverage(disc, pose)
    striped, _, _ = coverage(stripes(disc, 100), pose)
    assert (striped <= whole).all()
    assert striped.sum() / whole.sum() == pytest.approx(0.5, abs=0.06)


def test_every_outline_is_two_classes() -> None:
    assert CLASSES[:2] == ("crescent", "striped crescent")
    assert len(CLASSES) == len(set(CLASSES)) == 12
