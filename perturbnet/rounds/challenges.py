"""From a row of the data set to a challenge: the view that is sent, epsilon, the label that must fall.

Rules (docs/architecture.md, "Rules of the network")
- Freshness names several views of a row (see `freshness`). The first is sent that has the plain image's label
  and four fifths of its margin, because a view of small margin falls to any change, prepared or not; failing
  that, the surest one with that label; failing that, the surest. Its number stands in the challenge leaf, and
  whoever has the model chooses again.
- epsilon = 0.06 + (seed mod 1400) / 10000, seed = SHA-256(`perturb:<netuid>:<block>`) as a big-endian
  integer, plus the attempt.
- The label is the classifier's own, of the image as it is sent. An image that is too small for the SSIM
  window or too large to be sent, or an epsilon below the least change, is refused here, never sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from perturbnet.datasets import SourceImage
from perturbnet.errors import ChallengeError
from perturbnet.rules.classification import Classification, Engine
from perturbnet.rules.freshness import (
    FRESHNESS_RANGES,
    Freshness,
    FreshnessRanges,
    apply_freshness,
    draw_freshness,
)
from perturbnet.rules.traversal import Draw
from perturbnet.wire.images import MAX_PIXELS, MAX_SIDE, Pixels, pixel_digest
from perturbnet.wire.messages import Rules

SMALLEST_SIDE = 32


class View(NamedTuple):
    """A view of an image, (height, width, 3) uint8, and what the engine says to it."""

    freshness: Freshness
    clean: Pixels
    label: Classification


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
    ranges: FreshnessRanges = FRESHNESS_RANGES,
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
        ranges: of the freshness that holds.

    Raises:
        ChallengeError: the image is too small or too large, the engine is unsure of its own sums, or no
            change would be allowed.

    """
    epsilon = draw_epsilon(netuid, block, attempt)
    if not rules.levels(epsilon):
        raise ChallengeError(f"epsilon {epsilon}: no whole level from {rules.min_linf_delta} on is allowed")
    require_size(draw.row, image.pixels)
    if freshness_seed is None:
        freshness, clean, label = None, image.pixels, classify_image(draw.row, image.pixels, engine)
    else:
        freshness, clean, label = choose_view(draw.row, image.pixels, freshness_seed, engine, ranges)
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


def choose_view(
    row: int, pixels: Pixels, seed: bytes, engine: Engine, ranges: FreshnessRanges = FRESHNESS_RANGES
) -> View:
    """The view of an image that is sent: see the rules above.

    Raises:
        ChallengeError: no view has a size that can be sent, or the engine is unsure of its own sums.

    """
    views = draw_views(row, pixels, seed, ranges)
    if ranges.views == 1:
        freshness, clean = next(views)
        return View(freshness, clean, classify_image(row, clean, engine))
    plain = classify_image(row, pixels, engine)
    tried = []
    for freshness, clean in views:
        view = View(freshness, clean, classify_image(row, clean, engine))
        kept = view.label.text == plain.text
        if kept and view.label.margin * 1000 >= plain.margin * ranges.keep_milli:
            return view
        tried.append((kept, view.label.margin, -freshness.view, view))
    return max(tried, key=lambda one: one[:3])[3]


def draw_views(
    row: int, pixels: Pixels, seed: bytes, ranges: FreshnessRanges = FRESHNESS_RANGES
) -> Iterator[tuple[Freshness, Pixels]]:
    """The views of a seed that have a size that can be sent, at least one, in order.

    Raises:
        ChallengeError: there is none.

    """
    sendable = 0
    for number in range(ranges.views):
        freshness = draw_freshness(seed, pixels.shape[0], pixels.shape[1], ranges, view=number)
        clean = apply_freshness(pixels, freshness)
        try:
            require_size(row, clean)
        except ChallengeError:
            if number == ranges.views - 1 and not sendable:
                raise
            continue
        sendable += 1
        yield freshness, clean


def classify_image(row: int, pixels: Pixels, engine: Engine) -> Classification:
    """The engine's answer; raises `ChallengeError` where it is unsure of its own sums."""
    label = engine.classify([pixels])[0]
    if not label.healthy:
        raise ChallengeError(f"row {row}: the engine saturated {label.saturated} times")
    return label


def clean_image(image: SourceImage, freshness: Mapping[str, int | str]) -> Pixels:
    """The image that a challenge sent, again: its source row, changed as its leaf says (empty: not at all).

    Raises:
        ChallengeError: the leaf's freshness is none.

    """
    return apply_freshness(image.pixels, Freshness.from_leaf(freshness)) if freshness else image.pixels


def require_size(row: int, pixels: Pixels) -> None:
    """Raise `ChallengeError` for an image that is too small for the SSIM window or too large to be sent."""
    height, width, _ = pixels.shape
    if min(height, width) < SMALLEST_SIDE:
        raise ChallengeError(f"row {row}: {width}×{height} is too small, the least side is {SMALLEST_SIDE}")
    if max(height, width) > MAX_SIDE or height * width > MAX_PIXELS:
        allowed = f"sides to {MAX_SIDE} and {MAX_PIXELS} pixels are allowed"
        raise ChallengeError(f"row {row}: {width}×{height} is too large, {allowed}")
