"""Progress bars: how long work shows itself to whoever waits for it.

Rules
- On standard error, so that standard output stays for results; only at a terminal, so that no log fills with
  bars; gone when the work is done, unless asked to stay.
- A bar appears when its work is first told of, and is drawn a few times a second, however often it is told.
- Rooms take a plain function of (done, of) or (what, done, of) and know nothing of this one; only the
  commands and the local network open bars. rich is imported here, and late.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

EVERY_S = 0.05
Unit = Callable[[float], str]


def count(number: float) -> str:
    """A number of things: 12,345."""
    return f"{number:,.0f}"


class Bars(Protocol):
    """Tell a bar how far its work is."""

    def __call__(self, what: str, done: int, of: int, said: str = "", unit: Unit = count) -> None:
        """`done` of `of` are done; `said` stands behind the bar. No more than 0 in all: nothing is drawn."""


class ProgressBar(Protocol):
    """Tell the one bar."""

    def __call__(self, done: int, of: int, said: str = "") -> None:
        """Likewise."""


@contextmanager
def open_bars(*, quiet: bool = False, stays: bool = False, console: Console | None = None) -> Iterator[Bars]:
    """A bar for each kind of work; none where `quiet`, or where nobody looks.

    Args:
        quiet: draw nothing.
        stays: leave the bars on the screen when the work is done.
        console: where to draw, when the caller prints there too  [default: standard error].

    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = console or Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda *_, **__: None
        return
    what, far, said = (
        TextColumn(text, markup=False)
        for text in ("{task.description:<16}", "{task.fields[far]}", "{task.fields[said]}")
    )
    columns = (what, BarColumn(), far, TimeElapsedColumn(), TimeRemainingColumn(), said)
    with Progress(*columns, console=console, transient=not stays) as drawn:
        yield _telling(drawn)


@contextmanager
def open_bar(
    what: str, *, unit: Unit = count, quiet: bool = False, console: Console | None = None
) -> Iterator[ProgressBar]:
    """One bar, for work that has one kind of steps; see `open_bars`."""
    with open_bars(quiet=quiet, console=console) as show:
        yield lambda done, of, said="": show(what, done, of, said, unit)


def _telling(drawn: Progress) -> Bars:
    """The function that draws into `drawn`, at most every `EVERY_S` for each bar; the end is always drawn."""
    tasks: dict[str, tuple[TaskID, float]] = {}

    def show(what: str, done: int, of: int, said: str = "", unit: Unit = count) -> None:
        if of <= 0:
            return
        now_s = time.monotonic()
        if what not in tasks:
            tasks[what] = drawn.add_task(what, total=of, far="", said=""), -math.inf
        task, shown_s = tasks[what]
        if done < of and now_s - shown_s < EVERY_S:
            return
        tasks[what] = task, now_s
        speed = next(each.speed for each in drawn.tasks if each.id == task) or 0.0
        rate = f", {unit(speed)}/s" if speed >= 1 else ""
        drawn.update(task, completed=done, total=of, far=f"{unit(done)} of {unit(of)}{rate}", said=said)

    return show
