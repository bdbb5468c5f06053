"""The reference pictures are the same on every machine."""

from __future__ import annotations

import numpy as np
import pytest

from perturbnet.classifier.labels import REFERENCE_LABELS
from perturbnet.datasets.reference import load_photographs, pinned_splits
from perturbnet.datasets.rendering import CLASSES, HEIGHT, ROWS, WIDTH, Pose, coverage, render
from perturbnet.datasets.shapes import SHAPES, UNIT
from perturbnet.images import pixel_digest

FIRST_ROWS = (
    "a217aab92741c363588962dbac9ca1d21e101d375a02c0de9d7cb34f5b299496",
    "3087be14d4f18190dc9740718fc2125e994fb942b75e19919f4ebd9969cbf4f0",
    "e5ed43efcd7d5f9942f67f3f60a0cf479a3b2addafc456bce9183fbf4a4b1676",
    "f2dfd43a0b6b22d211cc6adbee2b865cde87e022d1dc09a982e4c687cb29a74c",
    "3f8134d4cb1a3ca5c3d6d93fb85406771072369e5f17ad11df3a39b59ca18285",
    "f7a221fcd6c27b1cc222e3822fdc0b2cde0dc46d0c48d6a26927071700619c52",
    "004d7bcea8de0349eeaffc0c9c6bf35f369655aae496040f13d819715c79fbe4",
    "03e71d83b6286ed2942941760d736421146ac155c814cf54d382e463e1733ffb",
    "0da0735c0779d7194bdcfb27778b7ed0049962c96f17cc59878c5ee236063bff",
    "9b124eae04af5dedc4c11b1302cb75501ab7bb2f5b7cc5cfc33b83317d5b9153",
    "7db90c85177aa4cff74b7682aca19159e11d57632f713f772534876b695648f5",
    "b7c1c5f383b2031a958642a41f4f828fafe4f62612d91fbec68117cbc28a2aea",
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
    counted, rows, columns = coverage(SHAPES["square"], Pose(0, 0, 30, 0, 1))
    assert (rows.start, columns.start) == (0, 0)
    assert counted.shape == (rows.stop, columns.stop)
