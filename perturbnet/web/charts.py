"""Charts as values for a template: pure functions from numbers to places. No script draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perturbnet.overview.views import SeriesView
from perturbnet.wire.units import PPB, from_ppb

WIDTH, HEIGHT = 720, 200
LEFT, RIGHT, TOP, BOTTOM = 30, 10, 8, 20


@dataclass(frozen=True)
class SparkLine:
    """One miner: `points` as SVG wants them, and where its last point lies."""

    uid: int
    points: str
    end_x: float
    end_y: float


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Chart:
    """Lines over rounds, scores from 0 to 1."""

    lines: tuple[SparkLine, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM


@dataclass(frozen=True)
class ShareBar:
    """One bar; `length` is a share of the longest, in per cent."""

    name: str
    value: int
    length: float


def draw_standings(series: Sequence[SeriesView]) -> Chart | None:
    """Each miner's mean over the rounds; None while there is nothing to draw."""
    drawn = [one for one in series if one.points]
    if not drawn:
        return None
    first = min(one.points[0][0] for one in drawn)
    last = max(one.points[-1][0] for one in drawn)
    lines = []
    for one in drawn:
        places = [(_across(number, first, last), _up(mean)) for number, mean in one.points]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        lines.append(SparkLine(one.uid, points, *places[-1]))
    middle = (first + last) // 2
    rounds = dict.fromkeys((first, middle, last))
    return Chart(
        lines=tuple(lines),
        across=tuple(Tick(_across(number, first, last), f"{number:,}") for number in rounds),
        up=tuple(Tick(_up(PPB * quarter // 4), f"{quarter / 4:.2f}") for quarter in range(5)),
    )


def draw_bars(counts: dict[str, int], limit: int = 12) -> tuple[ShareBar, ...]:
    """The largest counts as bars, the longest first."""
    largest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]
    top = max((value for _, value in largest), default=0)
    return tuple(ShareBar(name, value, 100 * value / top if top > 0 else 0) for name, value in largest)


def _across(number: int, first: int, last: int) -> float:
    share = (number - first) / (last - first) if last > first else 0.5
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _up(mean_ppb: int) -> float:
    share = min(1.0, max(0.0, from_ppb(mean_ppb)))
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
