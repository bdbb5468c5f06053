"""From pixels to any network's input: timm's numbers, our own exact resize.

timm's evaluation pipeline resizes with Pillow, which rounds to 8 bits in between: a change of one level may
vanish there, and its gradient does. Here the resize is linear and unrounded, its weights are exact rationals
(`classifier.preprocessing`), so logits differ from timm's in the third digit or so, and labels hardly ever.

- `shorter`: the shorter side becomes floor(size / crop_pct), the middle size × size is kept (timm: center).
- `squash`: both sides become floor(size / crop_pct), the middle is kept.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from perturbnet.classifier.preprocessing import KERNELS, Preprocessing, axis_map
from perturbnet.errors import ConfigError, ModelError
from perturbnet.wire import canonical_json

if TYPE_CHECKING:
    import torch

RESIZES = ("shorter", "squash")
MAX_SIZE = 2048


@dataclass(frozen=True, slots=True)
class Transform:
    """Pinned numbers, as decimal text where they are no integers.

    `size` S in pixels; `kernel` bicubic or bilinear; `mean` and `std` of levels / 255 for R, G, B.
    """

    size: int
    kernel: str = "bicubic"
    crop_pct: str = "1.0"
    resize: str = "shorter"
    mean: tuple[str, str, str] = ("0.5", "0.5", "0.5")
    std: tuple[str, str, str] = ("0.5", "0.5", "0.5")

    def __post_init__(self) -> None:
        """Refuse what cannot be computed.

        Raises:
            ConfigError: names the number and what is allowed.

        """
        facts = (
            ("--size", self.size, 1 <= self.size <= MAX_SIZE, f"1 to {MAX_SIZE}"),
            ("--interpolation", self.kernel, self.kernel in KERNELS, f"one of {', '.join(KERNELS)}"),
            ("--resize", self.resize, self.resize in RESIZES, f"one of {', '.join(RESIZES)}"),
            ("--crop-pct", self.crop_pct, _within(self.crop_pct, "0.1", "1"), "0.1 to 1"),
            ("--mean", self.mean, all(_within(text, "0", "1") for text in self.mean), "three of 0 to 1"),
            (
                "--std",
                self.std,
                all(_within(text, "0.001", "10") for text in self.std),
                "three of 0.001 to 10",
            ),
        )
        for name, value, holds, allowed in facts:
            if not holds:
                raise ConfigError(name, value, allowed)

    def digest(self) -> str:
        """Hex SHA-256 that names these numbers and the rules of this module."""
        facts = {**asdict(self), "mean": list(self.mean), "std": list(self.std)}
        return canonical_json.digest(
            {"rules": "perturb/transform/1: antialias, exact rational weights", **facts}
        )

    @property
    def compiles(self) -> bool:
        """Whether it is what a canonical artefact computes by itself: see `classifier.preprocessing`."""
        plain = Preprocessing(self.size)
        scaled = {Fraction(text) for text in self.mean} == {plain.mean}
        scaled = scaled and {Fraction(text) for text in self.std} == {plain.std}
        return (
            scaled and self.kernel == "bicubic" and self.resize == "shorter" and Fraction(self.crop_pct) == 1
        )

    def apply(self, levels: torch.Tensor) -> torch.Tensor:
        """Network inputs (N, 3, S, S) of float levels 0 to 255 (N, H, W, 3) of one size; differentiable."""
        import torch

        _, height, width, _ = levels.shape

        def tensor(values: object) -> torch.Tensor:
            return torch.tensor(np.asarray(values), dtype=levels.dtype, device=levels.device)

        rows, columns = (tensor(side) for side in self.matrices(height, width))
        mean, std = (
            tensor([float(Fraction(text)) for text in texts])[:, None, None]
            for texts in (self.mean, self.std)
        )
        resized = rows @ levels.permute(0, 3, 1, 2) @ columns.T
        return ((resized / 255 - mean) / std).contiguous()

    def matrices(self, height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The resize and crop of an image: rows (S, height) and columns (S, width).

        Raises:
            ModelError: a side that is not positive.

        """
        if min(height, width) < 1:
            raise ModelError(f"an image of {height}x{width} pixels: both sides must be at least 1")
        whole = math.floor(self.size / Fraction(self.crop_pct))
        shorter = min(height, width)
        sides = [whole * side // shorter if self.resize == "shorter" else whole for side in (height, width)]
        rows, columns = (
            _matrix(side, outputs, self.size, self.kernel)
            for side, outputs in zip((height, width), sides, strict=True)
        )
        return rows, columns


@lru_cache(maxsize=256)
def _matrix(inputs: int, outputs: int, kept: int, kernel: str) -> NDArray[np.float64]:
    dense = axis_map(inputs, outputs, kept, kernel).matrix()
    dense.setflags(write=False)
    return dense


def _within(text: str, low: str, high: str) -> bool:
    try:
        return Fraction(low) <= Fraction(text) <= Fraction(high)
    except (ValueError, ZeroDivisionError):
        return False
