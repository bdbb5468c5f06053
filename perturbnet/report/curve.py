"""Numbers over time in fixed room: a sample of the running counts, ever coarser as the log grows."""

from __future__ import annotations

from dataclasses import dataclass, field

from perturbnet.rounds.attempts import ImageAttempts
from perturbnet.statistics.robustness import Count

MOST_POINTS = 96


@dataclass(frozen=True)
class Point:
    """The counts after so many rounds; `block` and `created_ms` are the last round's."""

    rounds: int
    block: int
    created_ms: int
    images: int
    broken: int
    labelled: int
    correct: int
    robust: int


@dataclass
class Curve:
    """Points at every `stride`-th round. When there are too many, every second is dropped."""

    points: list[Point] = field(default_factory=list)
    stride: int = 1
    last: Point | None = None

    def add(self, point: Point) -> None:
        """Take the counts after one more round."""
        self.last = point
        if point.rounds % self.stride:
            return
        self.points.append(point)
        if len(self.points) > MOST_POINTS:
            self.stride *= 2
            self.points = [kept for kept in self.points if kept.rounds % self.stride == 0]

    def sampled(self) -> list[Point]:
        """The points, the last round's among them."""
        if self.last is None or (self.points and self.points[-1] == self.last):
            return list(self.points)
        return [*self.points, self.last]


@dataclass
class Running:
    """The statistics' own numbers of images after each round, without counting all images anew."""

    images: int = 0
    broken: int = 0
    labelled: int = 0
    correct: int = 0
    robust: int = 0

    def add(self, count: Count, found: ImageAttempts) -> bool:
        """Let `count` take in a round, and follow it; whether the round counts."""
        before = _standing(count, found)
        counted = count.add(found)
        after = _standing(count, found)
        for name, was, is_ in zip(_NUMBERS, before, after, strict=True):
            setattr(self, name, getattr(self, name) + is_ - was)
        return counted

    def point(self, rounds: int, found: ImageAttempts) -> Point:
        """Where things stand after so many rounds."""
        leaf = found.challenge
        numbers = (self.images, self.broken, self.labelled, self.correct, self.robust)
        return Point(rounds, leaf.block, leaf.created_ms, *numbers)


_NUMBERS = ("images", "broken", "labelled", "correct", "robust")


def _standing(count: Count, found: ImageAttempts) -> tuple[bool, ...]:
    """What a round's image adds to each of the numbers."""
    image = count.images.get(found.image)
    if image is None:
        return (False,) * len(_NUMBERS)
    broken, correct = image.linf_u8 >= 0, image.labelled and not image.mislabelled
    return True, broken, image.labelled, correct, correct and not broken
