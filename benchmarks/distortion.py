"""Exact distortion against scikit-image's SSIM, at the sizes of ImageNet and of a large photograph."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from skimage.metrics import structural_similarity

from benchmarks.harness import Case, Work
from perturbnet.rules.distortion import WINDOW, ssim
from perturbnet.wire.images import Pixels

SIZES = ((375, 500), (1500, 2000))


def cases() -> Sequence[Case]:
    """Each size once."""
    return tuple(_case(height, width) for height, width in SIZES)


def _case(height: int, width: int) -> Case:
    def ours() -> Work:
        return functools.partial(ssim, *_pair(height, width))

    def peer() -> Work:
        return functools.partial(
            structural_similarity,
            *_pair(height, width),
            win_size=WINDOW,
            channel_axis=2,
            data_range=255,
            use_sample_covariance=False,
        )

    return Case(f"SSIM {width}×{height}", ours, peer, "scikit-image")


def _pair(height: int, width: int) -> tuple[Pixels, Pixels]:
    """A picture with structure, and a change of one level in half of its values."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(20, 235, (height // 25, width // 25, 3)).repeat(25, axis=0).repeat(25, axis=1)
    clean = (coarse + generator.integers(-8, 9, coarse.shape)).astype(np.uint8)
    return clean, clean + generator.integers(0, 2, clean.shape).astype(np.uint8)
