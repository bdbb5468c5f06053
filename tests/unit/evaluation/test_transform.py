"""Preprocessing: our exact numbers against torch's antialiased resize, and against the pinned rules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perturbnet.classifier.preprocessing import matrices
from perturbnet.errors import ConfigError
from perturbnet.evaluation.transform import Transform
from tests.support.evaluation.pictures import smooth


@given(height=st.integers(20, 90), width=st.integers(20, 90))
def test_without_a_crop_it_is_the_resize_of_the_profiles(height: int, width: int) -> None:
    for ours, pinned in zip(Transform(32).matrices(height, width), matrices(height, width, 32), strict=True):
        assert np.array_equal(ours, pinned)


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [24, 140])
def test_the_resize_is_close_to_torchs(kernel: str, size: int) -> None:
    pixels = smooth()
    form = Transform(size, kernel, "1", "squash", ("0", "0", "0"), ("1", "1", "1"))
    ours = form.apply(torch.tensor(pixels[None]).double())[0]
    levels = torch.tensor(pixels[None]).double().permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(levels, (size, size), mode=kernel, antialias=True)
    assert float((ours * 255 - resized[0]).abs().max()) < (2.0 if size > 90 else 1e-3)


def test_the_middle_is_kept_and_the_colours_are_scaled() -> None:
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, 35:45] = (255, 0, 51)
    form = Transform(8, "bilinear", "0.8", "shorter", ("0.5", "0.25", "0"), ("0.5", "1", "2"))
    found = form.apply(torch.tensor(pixels[None]).double())[0]
    assert found.shape == (3, 8, 8)
    middle = found[:, 4, 4]
    assert torch.allclose(middle, torch.tensor([1.0, -0.25, 0.1], dtype=torch.float64), atol=0.2)
    assert torch.allclose(found[:, 4, 0], torch.tensor([-1.0, -0.25, 0.0], dtype=torch.float64))
    rows, columns = form.matrices(40, 80)
    assert (rows.shape, columns.shape) == ((8, 40), (8, 80))
    assert np.allclose(rows.sum(axis=1), 1)
    assert np.allclose(columns, columns[::-1, ::-1])


def test_gradients_pass_and_cropped_pixels_have_none() -> None:
    levels = torch.full((1, 40, 80, 3), 100.0, requires_grad=True)
    Transform(8).apply(levels).sum().backward()  # type: ignore[no-untyped-call]
    assert levels.grad is not None
    assert float(levels.grad[0, :, :10].abs().sum()) == 0
    assert float(levels.grad[0, :, 40].abs().sum()) > 0


@pytest.mark.parametrize(
    ("form", "compiles"),
    [
        (Transform(96), True),
        (Transform(96, crop_pct="1"), True),
        (Transform(96, "bilinear"), False),
        (Transform(96, crop_pct="0.9"), False),
        (Transform(96, resize="squash"), False),
        (Transform(96, mean=("0.5", "0.5", "0.4")), False),
        (Transform(96, std=("0.2", "0.2", "0.2")), False),
    ],
)
def test_what_an_artefact_can_compute(form: Transform, compiles: bool) -> None:
    assert form.compiles == compiles


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"size": 0}, "--size"),
        ({"kernel": "lanczos"}, "--interpolation"),
        ({"crop_pct": "1.5"}, "--crop-pct"),
        ({"crop_pct": "x"}, "--crop-pct"),
        ({"resize": "border"}, "--resize"),
        ({"mean": ("0", "0", "2")}, "--mean"),
        ({"std": ("0", "1", "1")}, "--std"),
    ],
)
def test_numbers_that_cannot_be_are_refused_by_name(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Transform(**{"size": 32, **wrong})  # type: ignore[arg-type]


def test_each_number_is_part_of_the_name() -> None:
    forms = [Transform(32), Transform(33), Transform(32, "bilinear"), Transform(32, crop_pct="0.9")]
    forms += [
        Transform(32, resize="squash"),
        Transform(32, mean=("0", "0", "0")),
        Transform(32, std=("1", "1", "1")),
    ]
    assert len({form.digest() for form in forms}) == len(forms)
