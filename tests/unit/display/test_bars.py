"""Bars: seen at a terminal, on standard error, and nowhere else."""

from __future__ import annotations

import io

from rich.console import Console

from perturbnet.display.bars import open_bar, open_bars


def screen(*, terminal: bool = True) -> tuple[Console, io.StringIO]:
    drawn = io.StringIO()
    return Console(file=drawn, force_terminal=terminal, width=120), drawn


def test_a_terminal_sees_what_how_far_and_what_is_said() -> None:
    console, drawn = screen()
    with open_bars(console=console, stays=True) as show:
        show("leaves", 0, 1000)
        show("rounds", 7, 7, said="[done]")
        show("leaves", 1000, 1000)
    assert "leaves" in drawn.getvalue()
    assert "1,000 of 1,000" in drawn.getvalue()
    assert "7 of 7" in drawn.getvalue()
    assert "[done]" in drawn.getvalue()  # no mark-up of rich's


def test_the_end_is_drawn_however_fast_it_comes() -> None:
    console, drawn = screen()
    with open_bars(console=console, stays=True) as show:
        for done in range(10_001):
            show("leaves", done, 10_000)
    assert "10,000 of 10,000" in drawn.getvalue()


def test_bytes_have_their_own_unit() -> None:
    console, drawn = screen()
    with open_bar("hashing", unit="{:.0f} B".format, console=console) as show:
        show(5, 5)
    assert "5 B of 5 B" in drawn.getvalue()


def test_work_without_an_end_draws_nothing() -> None:
    console, drawn = screen()
    with open_bar("fetched", console=console) as show:
        show(0, 0)
    assert "fetched" not in drawn.getvalue()


def test_neither_a_log_nor_who_wants_quiet_sees_any() -> None:
    for console, drawn, quiet in ((*screen(terminal=False), False), (*screen(), True)):
        with open_bars(console=console, quiet=quiet, stays=True) as show:
            show("leaves", 1, 2)
            show("leaves", 2, 2, said="there")
        assert drawn.getvalue() == ""
