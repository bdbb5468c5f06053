"""From an overview to HTML. Every value is escaped, and freed of characters that hide or reorder text."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from jinja2 import Environment

from perturbnet.display.markup import open_templates
from perturbnet.errors import PerturbError, Reject
from perturbnet.overview import AnswerView, Overview, RoundView
from perturbnet.overview.screen import ago
from perturbnet.web.charts import draw_bars, draw_standings
from perturbnet.web.pictures import Pictures, Triple

SHOWN_CHALLENGES = 6
SHOWN_ANSWERS = 24
SHOWN_MINERS = 32
REFRESH_S = 30


@dataclass(frozen=True)
class Shown:
    """One answer with its pictures, or the reason why there are none."""

    round: RoundView
    answer: AnswerView
    pictures: Triple | None
    reason: str = ""


def render_home(overview: Overview, pictures: Pictures) -> str:
    """The first page."""
    return _render(
        "home.html",
        overview=overview,
        chart=draw_standings(overview.series),
        codes=draw_bars({code: times for code, times in overview.rejects.items() if code != Reject.OK}),
        challenges=best_answers(overview, pictures),
        standings=[one for one in overview.standings if one.asked][:SHOWN_MINERS],
        refresh_s=REFRESH_S,
    )


def render_round(overview: Overview, found: RoundView, pictures: Pictures) -> str:
    """One round with all its answers."""
    shown = [show(found, answer, pictures) for answer in found.answers if answer.delta][:SHOWN_ANSWERS]
    return _render("round.html", overview=overview, round=found, shown=shown, refresh_s=0)


def render_error(title: str, error: PerturbError) -> str:
    """A page that says what is wrong and what to do."""
    return _render("error.html", title=title, error=error, refresh_s=REFRESH_S)


def best_answers(overview: Overview, pictures: Pictures) -> list[Shown]:
    """The best answer of each of the latest rounds in which anybody succeeded."""
    found = []
    for one in overview.latest:
        won = next((answer for answer in one.answers if answer.reject == Reject.OK), None)
        if won is not None:
            found.append(show(one, won, pictures))
        if len(found) == SHOWN_CHALLENGES:
            break
    return found


def show(found: RoundView, answer: AnswerView, pictures: Pictures) -> Shown:
    """Make the pictures now, so that no page asks for one that cannot be made."""
    try:
        return Shown(found, answer, pictures.make(found, answer))
    except PerturbError as error:
        return Shown(found, answer, None, f"{error.message}. {error.hint}" if error.hint else error.message)


def _render(template: str, **values: object) -> str:
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    return open_templates("perturbnet.web", {"ago": ago, "utc": _utc, "percent": _percent})


def _utc(time_ms: int) -> str:
    try:
        return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return "no time"


def _percent(ppb: int) -> str:
    return f"{ppb / 1e7:.2f} %"
