"""The strongest answers of a log: the highest scores, one for each image, in bounded room."""

from __future__ import annotations

from dataclasses import dataclass, field

from perturbnet.outputs.attempts import Attempt, ImageAttempts
from perturbnet.outputs.report.distances import measure


@dataclass(frozen=True)
class Example:
    """An accepted answer and its round."""

    round: ImageAttempts
    attempt: Attempt

    @property
    def score_ppb(self) -> int:
        """What it earned: 10^9 is the smallest change there can be."""
        return self.attempt.leaf.score_ppb


@dataclass
class Strongest:
    """Keeps the `most` best examples of different images."""

    most: int
    _kept: dict[tuple[str, int], Example] = field(default_factory=dict)

    def add(self, example: Example) -> None:
        """Take one round's best answer, where it is better than what is kept."""
        if measure(example.attempt.leaf) is None:
            return
        image = example.round.image
        known = self._kept.get(image)
        if known is not None and _order(known) >= _order(example):
            return
        self._kept[image] = example
        if len(self._kept) > self.most:
            worst = min(self._kept.values(), key=_order)
            del self._kept[worst.round.image]

    def best(self) -> list[Example]:
        """The best first."""
        return sorted(self._kept.values(), key=_order, reverse=True)


def best_of(found: ImageAttempts) -> Example | None:
    """The best accepted answer of a round, the earliest among equals; None where nobody succeeded."""
    won = [Example(found, attempt) for attempt in found.attempts if attempt.accepted]
    return max(won, key=_order) if won else None


def _order(example: Example) -> tuple[int, int]:
    return example.score_ppb, -example.attempt.position
