"""Charts as values for a template: pure functions from numbers to places in an SVG. No script draws them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from perturbnet.report.curve import Point
from perturbnet.report.histograms import Format, Histogram, HistogramBar
from perturbnet.statistics.intervals import Interval, anytime

WIDTH, HEIGHT = 480, 236
LEFT, RIGHT, TOP, BOTTOM = 48, 54, 12, 34
BAR_WIDTH, BAR_HEIGHT, BAR_TOP, BAR_BOTTOM = 400, 158, 26, 22
TOPS = {0.05: 5, 0.1: 5, 0.2: 4, 0.5: 5, 1.0: 4}  # ends of the axis, and in how many parts
BANDED = 48  # points of which an interval is computed


@dataclass(frozen=True)
class ChartTick:
    """A mark on an axis."""

    at: float
    text: str
    anchor: str = "middle"


@dataclass(frozen=True)
class ChartLine:
    """A share over rounds: SVG points, the last one's place and value; `band` outlines its interval."""

    name: str
    points: str
    band: str
    end_x: float
    end_y: float
    text: str


@dataclass(frozen=True)
class CurveChart:
    """Lines over rounds."""

    lines: tuple[ChartLine, ...]
    up: tuple[ChartTick, ...]
    across: tuple[ChartTick, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


@dataclass(frozen=True)
class ChartColumn:
    """One bar of a distribution, and what a pointer that rests on it is told."""

    x: float
    y: float
    width: float
    height: float
    text: str


@dataclass(frozen=True)
class BarChart:
    """A distribution, its median marked; `words` says the same in a sentence."""

    columns: tuple[ChartColumn, ...]
    across: tuple[ChartTick, ...]
    median_x: float
    median: str
    words: str
    width: int = BAR_WIDTH
    height: int = BAR_HEIGHT
    top: int = BAR_TOP
    bottom: int = BAR_HEIGHT - BAR_BOTTOM


@dataclass(frozen=True)
class Series:
    """What a line is of: its name, successes and trials of a point, and whether it has a band."""

    name: str
    count: Callable[[Point], tuple[int, int]]
    banded: bool = True


def draw_curves(points: Sequence[Point], series: Sequence[Series]) -> CurveChart | None:
    """Shares over rounds with their anytime-valid intervals; None while there is nothing to draw."""
    points = [point for point in points if all(one.count(point)[1] for one in series)]
    if not points:
        return None
    sparse = _thin(points)
    bands = {one.name: [anytime(*one.count(point)) for point in sparse] for one in series if one.banded}
    top = _top(bands, points, series)
    last = points[-1].rounds

    def x(point: Point) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (point.rounds / last)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - min(value / top, 1.05) * (HEIGHT - TOP - BOTTOM)

    lines = []
    for one in series:
        places = [(x(point), y(_ratio(*one.count(point)))) for point in points]
        band = _outline([x(point) for point in sparse], bands.get(one.name, []), y)
        text = percent(_ratio(*one.count(points[-1])))
        lines.append(ChartLine(one.name, _path(places), band, *places[-1], text))
    parts = TOPS[top]
    up = [ChartTick(y(top * part / parts), f"{100 * top * part / parts:g} %") for part in range(parts + 1)]
    return CurveChart(tuple(lines), tuple(up), _rounds_axis(points, x))


def draw_bars(
    histogram: Histogram, written: Format, *, whole: bool = False, noun: str = "rounds"
) -> BarChart | None:
    """A distribution as bars; None where it is empty. `whole` values are named under their own bar."""
    bars = histogram.bars()
    if not bars:
        return None
    highest, total = max(bar.count for bar in bars), histogram.total
    low, high = bars[0].low, bars[-1].high
    room, plot = BAR_WIDTH / len(bars), BAR_HEIGHT - BAR_TOP - BAR_BOTTOM
    columns = []
    for number, bar in enumerate(bars):
        height = plot * bar.count / highest
        name = written((bar.low + bar.high) / 2) if whole else f"{written(bar.low)} to {written(bar.high)}"
        text = f"{name}: {bar.count:,} of {total:,}"
        gap = min(3.0, room * 0.14)
        wide = min(room - gap, 72.0)
        place = number * room + (room - wide) / 2
        columns.append(ChartColumn(place, BAR_HEIGHT - BAR_BOTTOM - height, wide, height, text))
    median = histogram.quantile(0.5)
    ends = f"from {written(histogram.quantile(0.05))} to {written(histogram.quantile(0.95))} in nine of ten"
    words = f"{total:,} {noun}, median {written(median)}, {ends}"
    across = _whole_axis(len(bars), room, low, written) if whole else _ends_axis(bars, written)
    return BarChart(tuple(columns), across, BAR_WIDTH * (median - low) / (high - low), written(median), words)


def percent(value: float) -> str:
    """A share as people read it: one digit, two near 0 and 100 %, halves up; none where it is just that."""
    scaled = 100 * value
    rest = min(scaled, 100 - scaled)
    if rest <= 0:
        return f"{scaled:.0f} %"
    factor = 10 if rest >= 1 else 100
    return f"{math.floor(scaled * factor + 0.5 + 1e-9) / factor:.{1 if rest >= 1 else 2}f} %"


def _ratio(successes: int, trials: int) -> float:
    return successes / trials if trials else 0.0


def _thin(points: Sequence[Point]) -> list[Point]:
    step = -(-len(points) // BANDED)
    return list(points[::-1][::step])[::-1]


def _top(bands: dict[str, list[Interval]], points: Sequence[Point], series: Sequence[Series]) -> float:
    """The axis' end: room for the lines, and for the bands of the later half."""
    late = [float(one.upper) for band in bands.values() for one in band[len(band) // 2 :]]
    highest = max([*late, *(_ratio(*one.count(point)) for one in series for point in points)])
    return next((top for top in TOPS if top >= highest), 1.0)


def _outline(across: list[float], band: Sequence[Interval], y: Callable[[float], float]) -> str:
    if not band:
        return ""
    upper = [(x, y(float(one.upper))) for x, one in zip(across, band, strict=True)]
    lower = [(x, y(float(one.lower))) for x, one in zip(across, band, strict=True)]
    return _path([*upper, *lower[::-1]])


def _path(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _rounds_axis(points: Sequence[Point], x: Callable[[Point], float]) -> tuple[ChartTick, ...]:
    first, last = points[0], points[-1]
    middle = min(points, key=lambda point: abs(point.rounds - last.rounds / 2))
    chosen = {point.rounds: point for point in (first, middle, last)}
    anchors = {first.rounds: "start", last.rounds: "end"} if len(chosen) > 1 else {}
    return tuple(
        ChartTick(x(point), f"{number:,}", anchors.get(number, "middle")) for number, point in chosen.items()
    )


def _whole_axis(count: int, room: float, low: float, written: Format) -> tuple[ChartTick, ...]:
    every = -(-count // 12)
    return tuple(ChartTick((n + 0.5) * room, written(low + n + 0.5)) for n in range(0, count, every))


def _ends_axis(bars: Sequence[HistogramBar], written: Format) -> tuple[ChartTick, ...]:
    ends = ChartTick(0, written(bars[0].low), "start"), ChartTick(BAR_WIDTH, written(bars[-1].high), "end")
    if len(bars) < 3:
        return ends
    half = len(bars) // 2
    return ends[0], ChartTick(BAR_WIDTH * half / len(bars), written(bars[half].low)), ends[1]
