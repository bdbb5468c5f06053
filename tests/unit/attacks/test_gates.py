"""The gates from a searcher's side: visibility by brute force, and what SSIM says of it."""

from __future__ import annotations

import numpy as np
import pytest

from perturbnet.attacks import AttackTask
from perturbnet.attacks.gates import C2, WINDOW, Gates, visibility
from perturbnet.rules.distortion import ssim
from perturbnet.wire.images import Pixels
from tests.support.fakes import texture


def task(clean: Pixels, min_ssim: float = 0.0, min_psnr_db: float = 0.0) -> AttackTask:
    return AttackTask(clean, 0, [1], lambda _: True, min_ssim=min_ssim, min_psnr_db=min_psnr_db)


def test_visibility_is_the_sum_over_windows() -> None:
    clean = texture("visible", 13, 15)
    expected = np.zeros(clean.shape)
    for top in range(13 - WINDOW + 1):
        for left in range(15 - WINDOW + 1):
            place = (slice(top, top + WINDOW), slice(left, left + WINDOW))
            variance = clean[place].astype(float).var(axis=(0, 1))
            expected[place] += 1 / (2 * variance + C2)
    assert np.allclose(visibility(clean), expected, rtol=1e-9)


def half_flat() -> Pixels:
    clean = texture("half", 40, 60)
    clean[:, :30] = 100
    return clean


def test_flat_places_are_dear_and_ssim_agrees() -> None:
    clean = half_flat()
    weights = Gates(task(clean)).weights.reshape(clean.shape)
    assert weights.mean() == pytest.approx(1, rel=1e-4)
    assert weights[20, 10].min() > 10 * weights[20, 50].max()
    noise = np.random.default_rng(0).choice([-1, 1], clean.shape)
    flat, busy = clean.astype(int), clean.astype(int)
    flat[:, :30] += noise[:, :30]
    busy[:, 30:] += noise[:, 30:]
    assert ssim(clean, flat.astype(np.uint8)) < ssim(clean, busy.astype(np.uint8))


def test_psnr_is_a_bound_on_the_cost() -> None:
    clean = texture("psnr")
    gates = Gates(task(clean, min_psnr_db=38.0))
    most = int(clean.size * 255**2 / 10**3.8)
    assert gates.pass_cost(most)
    assert not gates.pass_cost(most + 1)
    assert Gates(task(clean)).pass_cost(10**12)


def test_ssim_is_the_verifiers() -> None:
    clean = half_flat()
    noisy = (clean.astype(int) + 4 * np.random.default_rng(0).choice([-1, 1], clean.shape)).clip(0, 255)
    noisy = noisy.astype(np.uint8)
    value = ssim(clean, noisy)
    assert Gates(task(clean, min_ssim=value)).pass_picture(noisy)
    assert not Gates(task(clean, min_ssim=value + 1e-6)).pass_picture(noisy)
    assert Gates(task(clean)).pass_picture(noisy)
