"""From numbers to places: distributions, curves, and how shares are written."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perturbnet.report.charts import (
    BAR_WIDTH,
    HEIGHT,
    LEFT,
    RIGHT,
    WIDTH,
    Series,
    draw_bars,
    draw_curves,
    percent,
)
from perturbnet.report.curve import Point
from perturbnet.report.histograms import BARS, Histogram
from perturbnet.statistics.intervals import anytime


def stability(point: Point) -> tuple[int, int]:
    return point.images - point.broken, point.images


def points(*broken: int) -> list[Point]:
    return [Point(n, n, 0, n, lost, 0, 0, 0) for n, lost in enumerate(broken, start=1)]


@given(st.lists(st.floats(-0.5, 1.5, allow_nan=False), min_size=1, max_size=200))
def test_bars_hold_every_value_once_and_are_few(values: list[float]) -> None:
    histogram = Histogram(0.0, 1.0)
    for value in values:
        histogram.add(value)
    bars = histogram.bars()
    assert sum(bar.count for bar in bars) == len(values) == histogram.total
    assert len(bars) <= BARS + 2
    for before, after in pairwise(bars):
        assert math.isclose(before.high, after.low)


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=100), st.floats(0.01, 1))
def test_a_quantile_is_exact_to_a_bin(values: list[float], share: float) -> None:
    histogram = Histogram(0.0, 1.0)
    for value in values:
        histogram.add(value)
    exact = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    assert histogram.quantile(share) == pytest.approx(exact, abs=1.01 * histogram.width)


def test_nothing_has_no_quantile_and_no_bars() -> None:
    histogram = Histogram(0.0, 1.0)
    assert math.isnan(histogram.quantile(0.5))
    assert draw_bars(histogram, str) is None


def test_levels_stand_under_their_bars() -> None:
    histogram = Histogram(0.5, 64.5, 64)
    for level in (1, 1, 1, 2, 4):
        histogram.add(level)
    chart = draw_bars(histogram, lambda value: f"{round(value)}", whole=True)
    assert chart is not None
    assert [tick.text for tick in chart.across] == ["1", "2", "3", "4"]
    assert [bar.text for bar in chart.columns] == ["1: 3 of 5", "2: 1 of 5", "3: 0 of 5", "4: 1 of 5"]
    assert chart.median == "1"
    for tick, bar in zip(chart.across, chart.columns, strict=True):
        assert tick.at == pytest.approx(bar.x + bar.width / 2)
    assert chart.columns[0].height > chart.columns[1].height > chart.columns[2].height == 0
    assert chart.columns[-1].x + chart.columns[-1].width <= BAR_WIDTH


def test_a_curve_lies_inside_and_ends_at_its_share() -> None:
    chart = draw_curves(points(0, 1, 1, 2), [Series("stability", stability)])
    assert chart is not None
    [line] = chart.lines
    assert line.text == "50.0 %"
    assert line.end_x == WIDTH - RIGHT
    assert line.end_y == pytest.approx((chart.top + chart.bottom) / 2)
    for place in line.points.split():
        x, y = map(float, place.split(","))
        assert LEFT <= x <= WIDTH - RIGHT
        assert 0 <= y <= HEIGHT


def test_a_band_is_the_anytime_interval_of_every_point() -> None:
    chart = draw_curves(points(0, 1, 1), [Series("stability", stability)])
    assert chart is not None
    places = [tuple(map(float, place.split(","))) for place in chart.lines[0].band.split()]
    assert len(places) == 6
    for (_, y), (lost, images) in zip(places, [(0, 1), (1, 2), (1, 3)], strict=False):
        upper = float(anytime(images - lost, images).upper)
        assert y == pytest.approx(chart.bottom - upper * (chart.bottom - chart.top), abs=0.06)


def test_an_axis_ends_where_the_band_does() -> None:
    chart = draw_curves(points(*range(1, 400)), [Series("stability", stability)])
    assert chart is not None
    assert chart.up[-1].text == "5 %"
    assert [tick.text for tick in chart.across] == ["1", "199", "399"]


def test_shares_of_nothing_are_not_drawn() -> None:
    accuracy = Series("robust accuracy", lambda point: (point.robust, point.labelled))
    assert draw_curves(points(0, 1), [accuracy]) is None
    assert draw_curves([], [accuracy]) is None


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.0625, "6.3 %"),
        (0.001, "0.10 %"),
        (0.9999, "99.99 %"),
        (0.31, "31.0 %"),
        (0.9375, "93.8 %"),
    ],
)
def test_shares_as_people_read_them(value: float, written: str) -> None:
    assert percent(value) == written
