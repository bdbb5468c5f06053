"""The strongest answers of a log, the best of each class first, in bounded room.

Rules
- One for each image. Images whose class the model named as the data set does come before those it was wrong
  about, where a change may even put it right.
- Of a class FEW are kept, of all classes MOST_CLASSES; of a kept round, the one answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import chain, zip_longest

from perturbnet.report.distances import measure
from perturbnet.rounds.attempts import Attempt, ImageAttempts

FEW = 4
MOST_CLASSES = 1024
MOST_LETTERS = 120


@dataclass(frozen=True)
class StrongestExample:
    """An accepted answer and its round."""

    round: ImageAttempts
    attempt: Attempt

    @property
    def score_ppb(self) -> int:
        """What it earned: 10^9 is the smallest change there can be."""
        return self.attempt.leaf.score_ppb

    @property
    def rank(self) -> tuple[bool, int, int]:
        """The greater, the better to show."""
        leaf = self.round.challenge
        right = leaf.source_label in ("", leaf.true_label)
        return right, self.score_ppb, -self.attempt.position


@dataclass
class Strongest:
    """Keeps the best examples of each class."""

    _classes: dict[str, list[StrongestExample]] = field(default_factory=dict)

    def add(self, example: StrongestExample) -> None:
        """Take one round's best answer, where it is better than what is kept."""
        if measure(example.attempt.leaf) is None:
            return
        label = example.round.challenge.true_label[:MOST_LETTERS]
        kept = self._classes.get(label, [])
        if len(kept) == FEW and kept[-1].rank >= example.rank:
            return
        alone = replace(example.round, attempts=(example.attempt,))
        others = [one for one in kept if one.round.image != example.round.image]
        same = [one for one in kept if one.round.image == example.round.image]
        best = max([*same, StrongestExample(alone, example.attempt)], key=lambda one: one.rank)
        self._classes[label] = sorted([*others, best], key=lambda one: one.rank, reverse=True)[:FEW]
        if len(self._classes) > MOST_CLASSES:
            del self._classes[min(self._classes, key=lambda name: self._classes[name][0].rank)]

    def best(self) -> list[StrongestExample]:
        """The best of each class, then the second of each, and so on; each time the best first."""
        turns = zip_longest(*self._classes.values())
        ordered = [
            sorted((one for one in turn if one is not None), key=lambda one: one.rank, reverse=True)
            for turn in turns
        ]
        return list(chain.from_iterable(ordered))


def best_of(found: ImageAttempts) -> StrongestExample | None:
    """The best accepted answer of a round, the earliest among equals; None where nobody succeeded."""
    won = [StrongestExample(found, attempt) for attempt in found.attempts if attempt.accepted]
    return max(won, key=lambda one: one.rank) if won else None
