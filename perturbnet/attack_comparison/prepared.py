"""The miner that lives from prepared answers: the opponent that freshness is there for.

It knows the data set, so it has attacked every picture in advance, as it is and mirrored. It recognises a
challenge's row and freshness (here it is told them, which is more than it could ever find out), warps what it
has prepared as the challenge was warped, and sends it without a search. Three of them, each at more expense:

    cached      the best answer to the picture, warped, rounded to whole levels
    amplified   the same, multiplied until the verifier accepts it: a verification for each try
    robust      changes prepared against many warps of the picture at once (expectation over transformation,
                Athalye et al. 2018, arXiv:1707.07397), at 1 to `ROBUST_LEVELS` levels, tried in that order

Nothing here is used by a miner that searches; `perturb bench freshness` measures what it would earn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from perturbnet.attacks import Oracle
from perturbnet.rules.freshness import (
    Freshness,
    FreshnessRanges,
    apply_freshness,
    draw_freshness,
    rescale_taps,
)
from perturbnet.wire.images import Pixels

Change = NDArray[np.float32]  # (H, W, 3) in levels, of the picture as the data set has it
Whole = NDArray[np.int16]

ROBUST_LEVELS = 3
ROBUST_STEPS = 30
DRAWS_PER_STEP = 2
MOMENTUM = 0.9
LEAST_SHARE = 0.1  # of a level that a warped change must keep to count as one
MOST_FACTOR = 7


@dataclass
class PreparedAnswer:
    """What was prepared for one picture; keys: 1 for the mirrored picture, and for `robust` the levels."""

    answers: dict[int, Change] = field(default_factory=dict)
    robust: dict[tuple[int, int], Change] = field(default_factory=dict)


def cached(prepared: PreparedAnswer, freshness: Freshness) -> Iterator[Whole]:
    """The prepared answer, warped and rounded: one try."""
    change = prepared.answers.get(freshness.flip)
    if change is not None:
        yield np.rint(warp(change, freshness)).astype(np.int16)


def amplified(prepared: PreparedAnswer, freshness: Freshness) -> Iterator[Whole]:
    """The same multiplied, the smallest first."""
    change = prepared.answers.get(freshness.flip)
    if change is None:
        return
    warped = warp(change, freshness)
    tries = []
    for factor in range(1, MOST_FACTOR + 1):
        rounded = np.clip(np.rint(warped * factor), -factor, factor)
        tries.append(rounded)
        tries.append(np.sign(warped) * (np.abs(warped) > LEAST_SHARE) * factor)
    yield from sorted((one.astype(np.int16) for one in tries), key=_size)


def robust(prepared: PreparedAnswer, freshness: Freshness) -> Iterator[Whole]:
    """The changes that were prepared against many warps, the fewest levels first."""
    for (flip, level), change in sorted(prepared.robust.items()):
        if flip == freshness.flip:
            yield (np.sign(warp(change, freshness)) * level).astype(np.int16)


def prepare_robust(
    oracle: Oracle, pixels: Pixels, flip: int, level: int, ranges: FreshnessRanges, *, seed: int
) -> Change:
    """A change of `level` levels everywhere that flips as many warps of a picture as it can."""
    generator = np.random.default_rng([seed, flip, level])
    change = np.zeros(pixels.shape, np.float32)
    direction = np.zeros_like(change)
    for _ in range(ROBUST_STEPS):
        direction *= MOMENTUM
        for _ in range(DRAWS_PER_STEP):
            height, width, _ = pixels.shape
            drawn = _with_flip(draw_freshness(generator.bytes(32), height, width, ranges), flip)
            view = apply_freshness(pixels, drawn)
            label = oracle.logits(view[None]).argmax(axis=1)
            moved = add(view, (np.sign(warp(change, drawn)) * level).astype(np.int16))
            _, gradients = oracle.margin_grad(moved[None], label)
            direction += unwarp(gradients[0], drawn, pixels) / (np.abs(gradients[0]).mean() + 1e-12)
        change = np.clip(change - np.sign(direction) * (0.3 if change.any() else 1.0), -1, 1)
    return change


def warp(change: Change, freshness: Freshness) -> Change:
    """A change of a picture as it looks on the challenge that freshness makes of it."""
    rows, columns = _matrices(change.shape, freshness)
    found: Change = np.einsum("yi,ijc,xj->yxc", rows, change, columns, optimize=True)
    return found


def unwarp(gradient: Change, freshness: Freshness, pixels: Pixels) -> Change:
    """The gradient for the picture of a gradient for the challenge: `warp`'s transpose."""
    rows, columns = _matrices(pixels.shape, freshness)
    found: Change = np.einsum("yi,yxc,xj->ijc", rows, gradient, columns, optimize=True)
    return found


def add(pixels: Pixels, change: Whole) -> Pixels:
    """A picture with a change, within 0 to 255."""
    moved: Pixels = np.clip(pixels.astype(np.int16) + change, 0, 255).astype(np.uint8)
    return moved


def _matrices(shape: tuple[int, ...], freshness: Freshness) -> tuple[Change, Change]:
    """Rows (height, H) and columns (width, W) of rescale, crop and flip."""
    rows = _matrix(shape[0], freshness.scaled_height)[freshness.top :][: freshness.height]
    columns = _matrix(shape[1], freshness.scaled_width)[freshness.left :][: freshness.width]
    return rows, columns[::-1] if freshness.flip else columns


def _matrix(size: int, wanted: int) -> Change:
    first, second, weight = rescale_taps(size, wanted)
    matrix = np.zeros((wanted, size), np.float32)
    outputs = np.arange(wanted)
    share = (weight / (2 * wanted)).astype(np.float32)
    np.add.at(matrix, (outputs, first), 1 - share)
    np.add.at(matrix, (outputs, second), share)
    return matrix


def _with_flip(freshness: Freshness, flip: int) -> Freshness:
    return Freshness(**{**freshness.to_leaf(), "flip": flip})  # type: ignore[arg-type]  # its own fields


def _size(change: Whole) -> tuple[int, int]:
    wide = change.astype(np.int64)
    return int(np.abs(wide).max()), int((wide * wide).sum())
