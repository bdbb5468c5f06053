"""From a row of the data set to a challenge: freshness, epsilon, the label that must fall.

Rules (design: architecture.md, "Rules of the network")
- Freshness: a seeded rescale (0.8 to 1), crop (up to a quarter of each side) and flip, in exact integers, so
  that a prepared answer is worth little (`perturb bench freshness`; how little: docs/mining.md). The seed
  belongs to the draw and was committed to before the epoch began; the parameters stand in the challenge
  leaf, so an auditor applies them again.
- Rescaling is bilinear with half-pixel centres: every output is `(Σ w·u + total // 2) // total` over four
  input pixels with integer weights w, total = Σ w.
- epsilon = 0.06 + (seed mod 1400) / 10000, seed = SHA-256(`perturb:<netuid>:<block>`) as a big-endian
  integer, plus the attempt.
- The label is the classifier's own, of the image as it is sent. An image that is too small for the SSIM
  window or too large to be sent, or an epsilon below the least change, is refused here, never sent.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from perturbnet.classifier import Classification, Engine
from perturbnet.datasets import SourceImage
from perturbnet.errors import ChallengeError
from perturbnet.images import MAX_PIXELS, MAX_SIDE, pixel_digest
from perturbnet.protocol import Rules
from perturbnet.traversal import Draw

Pixels = NDArray[np.uint8]
SMALLEST_SIDE = 32
_SEED_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FreshnessRanges:
    """From where freshness is drawn, least and most in thousandths: the rescale, and the cut of each side."""

    scale_milli: tuple[int, int] = (800, 1000)
    cut_milli: tuple[int, int] = (0, 250)


FRESHNESS_RANGES = FreshnessRanges()  # a rule of the network: another one is another rules version


@dataclass(frozen=True)
class Freshness:
    """How a source image was changed: rescaled, cropped, mirrored where `flip` is 1. Whole pixels."""

    seed: str
    scaled_height: int
    scaled_width: int
    top: int
    left: int
    height: int
    width: int
    flip: int

    def to_leaf(self) -> dict[str, int | str]:
        """As it stands in a challenge leaf."""
        return asdict(self)

    @classmethod
    def from_leaf(cls, leaf: Mapping[str, int | str]) -> Freshness:
        """Read it back from a challenge leaf, which may be a stranger's.

        Raises:
            ChallengeError: fields that are not these, or numbers that no image of allowed size could have.

        """
        wanted = {field.name: str if field.name == "seed" else int for field in fields(cls)}
        if {name: type(value) for name, value in leaf.items()} != wanted:
            raise ChallengeError(f"not a freshness: expected {', '.join(wanted)}; got {dict(leaf)!r}")
        found = cls(**leaf)  # type: ignore[arg-type]  # names and types were compared above
        if not found.possible:
            raise ChallengeError(f"a freshness that cannot be applied: {found}")
        return found

    @property
    def possible(self) -> bool:
        """Whether seed, sizes and cuts are ones that an image of allowed size could have."""
        return (
            _SEED_HEX.fullmatch(self.seed) is not None
            and 0 < self.scaled_height <= MAX_SIDE
            and 0 < self.scaled_width <= MAX_SIDE
            and self.scaled_height * self.scaled_width <= MAX_PIXELS
            and min(self.top, self.left, self.height - 1, self.width - 1) >= 0
            and self.top + self.height <= self.scaled_height
            and self.left + self.width <= self.scaled_width
            and self.flip in {0, 1}
        )


@dataclass(frozen=True)
class Challenge:
    """A challenge with its image, before it has a place in the ledger."""

    draw: Draw
    attempt: int
    block: int
    epsilon: str
    freshness: Freshness | None
    clean: Pixels
    clean_digest: str
    label: Classification
    source_label: str

    @property
    def task_id(self) -> str:
        """Names the task for people: epoch and draw."""
        return f"{self.draw.epoch}-{self.draw.index}"


def build_challenge(  # noqa: PLR0913 - everything a challenge depends on
    image: SourceImage,
    *,
    draw: Draw,
    engine: Engine,
    netuid: int,
    block: int,
    attempt: int,
    freshness_seed: bytes | None,
    rules: Rules,
) -> Challenge:
    """Make the challenge of one draw.

    Args:
        image: the source row.
        draw: its place in the epoch.
        engine: labels the image as it will be sent.
        netuid: the subnet, for epsilon.
        block: the block the round begins at, for epsilon.
        attempt: how many draws of this round gave nothing before this one.
        freshness_seed: 32 bytes of the draw, or None when freshness is off.
        rules: the gates that a response will have to pass.

    Raises:
        ChallengeError: the image is too small or too large, the engine is unsure of its own sums, or no
            change would be allowed.

    """
    epsilon = draw_epsilon(netuid, block, attempt)
    if not rules.levels(epsilon):
        raise ChallengeError(f"epsilon {epsilon}: no whole level from {rules.min_linf_delta} on is allowed")
    require_size(draw.row, image.pixels)
    freshness, clean = freshen(image.pixels, freshness_seed)
    require_size(draw.row, clean)
    label = engine.classify([clean])[0]
    if not label.healthy:
        raise ChallengeError(f"row {draw.row}: the engine saturated {label.saturated} times")
    return Challenge(
        draw=draw,
        attempt=attempt,
        block=block,
        epsilon=epsilon,
        freshness=freshness,
        clean=clean,
        clean_digest=pixel_digest(clean),
        label=label,
        source_label=image.label,
    )


def draw_epsilon(netuid: int, block: int, attempt: int) -> str:
    """The challenge's cap on L-inf, as decimal text with four digits: 0.0600 to 0.1999."""
    seed = int.from_bytes(hashlib.sha256(f"perturb:{netuid}:{block}".encode()).digest(), "big") + attempt
    return f"{Decimal(600 + seed % 1400) / 10000:.4f}"


def freshen(
    pixels: Pixels, seed: bytes | None, ranges: FreshnessRanges = FRESHNESS_RANGES
) -> tuple[Freshness | None, Pixels]:
    """Draw the freshness of an image and apply it; without a seed the image stays as it is."""
    if seed is None:
        return None, pixels
    freshness = draw_freshness(seed, pixels.shape[0], pixels.shape[1], ranges)
    return freshness, apply_freshness(pixels, freshness)


def draw_freshness(
    seed: bytes, height: int, width: int, ranges: FreshnessRanges = FRESHNESS_RANGES
) -> Freshness:
    """The parameters that 32 seed bytes name for an image of this size."""
    numbers = hashlib.sha256(b"freshness" + seed).digest()
    pick = [int.from_bytes(numbers[i : i + 6], "big") for i in range(0, 30, 6)]
    scale = _between(ranges.scale_milli, pick[0])
    scaled_height, scaled_width = (max(1, side * scale // 1000) for side in (height, width))
    cut_height = scaled_height * _between(ranges.cut_milli, pick[1]) // 1000
    cut_width = scaled_width * _between(ranges.cut_milli, pick[2]) // 1000
    return Freshness(
        seed=seed.hex(),
        scaled_height=scaled_height,
        scaled_width=scaled_width,
        top=pick[3] % (cut_height + 1),
        left=pick[4] % (cut_width + 1),
        height=scaled_height - cut_height,
        width=scaled_width - cut_width,
        flip=numbers[30] & 1,
    )


def apply_freshness(pixels: Pixels, freshness: Freshness) -> Pixels:
    """Rescale, crop, mirror; (H, W, 3) uint8 in, (height, width, 3) uint8 out."""
    scaled = rescale(pixels, freshness.scaled_height, freshness.scaled_width)
    rows = slice(freshness.top, freshness.top + freshness.height)
    columns = slice(freshness.left, freshness.left + freshness.width)
    cropped = scaled[rows, columns]
    return np.ascontiguousarray(cropped[:, ::-1] if freshness.flip else cropped)


def _between(range_milli: tuple[int, int], number: int) -> int:
    low, high = range_milli
    return low + number % (high - low + 1)


def clean_image(image: SourceImage, freshness: Mapping[str, int | str]) -> Pixels:
    """The image that a challenge sent, again: its source row, changed as its leaf says (empty: not at all).

    Raises:
        ChallengeError: the leaf's freshness is none.

    """
    return apply_freshness(image.pixels, Freshness.from_leaf(freshness)) if freshness else image.pixels


def rescale(pixels: Pixels, height: int, width: int) -> Pixels:
    """Bilinear, half-pixel centres, exact: sums of integers, one division that rounds halves up."""
    top, bottom, down = rescale_taps(pixels.shape[0], height)
    left, right, across = rescale_taps(pixels.shape[1], width)
    source = pixels.astype(np.int64)
    down, across = down[:, None, None], across[None, :, None]
    rows = source[top] * (2 * height - down) + source[bottom] * down
    total = 4 * height * width
    mixed = rows[:, left] * (2 * width - across) + rows[:, right] * across
    return ((mixed + total // 2) // total).astype(np.uint8)


def rescale_taps(size: int, wanted: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """For each output: its two input positions, and the second's weight in units of 1 / (2 · wanted)."""
    position = (2 * np.arange(wanted, dtype=np.int64) + 1) * size - wanted
    position = np.clip(position, 0, 2 * wanted * (size - 1))
    first = position // (2 * wanted)
    return first, np.minimum(first + 1, size - 1), position - first * 2 * wanted


def require_size(row: int, pixels: Pixels) -> None:
    """Raise `ChallengeError` for an image that is too small for the SSIM window or too large to be sent."""
    height, width, _ = pixels.shape
    if min(height, width) < SMALLEST_SIDE:
        raise ChallengeError(f"row {row}: {width}×{height} is too small, the least side is {SMALLEST_SIDE}")
    if max(height, width) > MAX_SIDE or height * width > MAX_PIXELS:
        allowed = f"sides to {MAX_SIDE} and {MAX_PIXELS} pixels are allowed"
        raise ChallengeError(f"row {row}: {width}×{height} is too large, {allowed}")
