"""What a training gained: robust accuracy before and after on the same images, with a paired interval.

Images are resampled in pairs, the same for every training, and trainings are resampled too, since another
seed would have given another network. A handful of trainings says little about how much seeds differ, so the
interval of each stands beside it.

Source: B. Efron and R. J. Tibshirani 1993, "An Introduction to the Bootstrap", chapters 8 and 13 (pairs,
percentile interval).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from perturbnet.attack_comparison.robust_accuracy import RobustAccuracy

LEVELS = (0, 1, 2, 3, 4, 5, 6, 7)  # of 255; 0 is clean accuracy, 7 the full cap
RESAMPLES = 10_000
Outcomes = NDArray[np.bool_]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Gain:
    """Robust accuracy at a level, in shares of 1: before and after, for each training and over all."""

    level: int
    before: float
    after: float
    after_each: dict[str, float]
    gain: float
    interval: Interval
    interval_each: dict[str, Interval]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, rounded to four digits."""
        rounded: dict[str, Any] = _rounded(asdict(self))
        return rounded


def compare(before: Sequence[RobustAccuracy], after: Mapping[str, Sequence[RobustAccuracy]]) -> list[Gain]:
    """The gain at every level; `after` has the standings of each training by name, of the same images.

    Raises:
        ValueError: other images, or another order.

    """
    for name, standings in after.items():
        if [standing.row for standing in standings] != [standing.row for standing in before]:
            raise ValueError(f"{name} was measured on other images than before, so nothing pairs")
    return [_compare_at(level, before, after) for level in LEVELS]


def _compare_at(
    level: int, before: Sequence[RobustAccuracy], after: Mapping[str, Sequence[RobustAccuracy]]
) -> Gain:
    old = outcomes(before, level)
    new = {name: outcomes(standings, level) for name, standings in after.items()}
    every = np.stack(list(new.values()))
    return Gain(
        level,
        float(old.mean()),
        float(every.mean()),
        {name: float(one.mean()) for name, one in new.items()},
        float(every.mean() - old.mean()),
        paired_interval(old, every),
        {name: paired_interval(old, one[None]) for name, one in new.items()},
    )


def outcomes(standings: Sequence[RobustAccuracy], level: int) -> Outcomes:
    """Which images stand at a level, (images,)."""
    return np.array([standing.stands(level) for standing in standings], dtype=bool)


def paired_interval(
    before: Outcomes,
    after: Outcomes,
    *,
    seed: int = 0,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """The percentile interval of the mean gain, in shares of 1, over images and trainings together.

    Args:
        before: (images,) of the network as it was.
        after: (trainings, images) of as many trained ones, the same images.
        seed: of the resampling.
        confidence: of the interval.
        resamples: how many.

    """
    gains = after.astype(np.float64) - before.astype(np.float64)
    trainings, images = gains.shape
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(trainings, np.full(trainings, 1 / trainings), resamples)
    pairs = generator.multinomial(images, np.full(images, 1 / images), resamples)
    means = ((pairs @ gains.T) * drawn).sum(axis=1) / (images * trainings)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def draw_table(gains: Sequence[Gain], headline: int, title: str) -> Table:
    """The figures for people; the headline's level is marked."""
    table = Table(title=title, box=None, pad_edge=False, header_style="bold", title_justify="left")
    for name in ("levels of 255", "before", "after", "gain", "95 % interval", "each training"):
        table.add_column(name, justify="right")
    for gain in gains:
        low, high = gain.interval
        table.add_row(
            f"{gain.level or 'clean'}{' *' if gain.level == headline else ''}",
            f"{gain.before:.1%}",
            f"{gain.after:.1%}",
            f"{gain.gain:+.1%}",
            f"{low:+.1%} to {high:+.1%}",
            " ".join(f"{share:.1%}" for share in gain.after_each.values()),
        )
    return table


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, (list, tuple)) else value
