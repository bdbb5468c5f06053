"""Charts: lines stay on the canvas whatever the numbers are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perturbnet.overview.views import SeriesView
from perturbnet.web.charts import HEIGHT, WIDTH, draw_bars, draw_standings

ANY = st.integers(-(2**53), 2**53)
POINTS = st.lists(st.tuples(ANY, ANY), max_size=8).map(lambda points: tuple(sorted(points)))


def test_one_series() -> None:
    chart = draw_standings([SeriesView(3, ((10, 0), (20, 500_000_000), (30, 10**9)))])
    assert chart is not None
    (line,) = chart.lines
    assert line.points == f"30.0,{HEIGHT - 20}.0 370.0,94.0 710.0,8.0"
    assert [tick.text for tick in chart.across] == ["10", "20", "30"]
    assert [tick.text for tick in chart.up] == ["0.00", "0.25", "0.50", "0.75", "1.00"]


def test_nothing_to_draw() -> None:
    assert draw_standings([]) is None
    assert draw_standings([SeriesView(1, ())]) is None


def test_a_single_round_has_one_tick() -> None:
    chart = draw_standings([SeriesView(1, ((7, 10**8),))])
    assert chart is not None
    assert [tick.text for tick in chart.across] == ["7"]


@given(st.lists(st.builds(SeriesView, st.integers(0, 255), POINTS), max_size=4))
def test_lines_stay_on_the_canvas(series: list[SeriesView]) -> None:
    chart = draw_standings(series)
    for line in chart.lines if chart else ():
        for point in line.points.split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT


def test_bars() -> None:
    bars = draw_bars({"timeout": 4, "offline": 1, "never": 0})
    assert [(bar.name, bar.value, bar.length) for bar in bars] == [
        ("timeout", 4, 100.0),
        ("offline", 1, 25.0),
        ("never", 0, 0.0),
    ]
    assert draw_bars({}) == ()
    assert len(draw_bars({str(number): number for number in range(50)})) == 12
