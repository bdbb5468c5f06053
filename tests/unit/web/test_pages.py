"""The pages: what stands on them, that a stranger's text stays text, and what is said of nothing."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from typing import Any

import pytest

from perturbnet.errors import PerturbError, Reject
from perturbnet.overview import HealthView, Overview, decode_overview
from perturbnet.overview.feeds import NotRunning
from perturbnet.overview.views import AnchorView, WeightsView
from perturbnet.web.viewer import Viewer
from tests.support.fakes import VirtualClock
from tests.support.web.asking import ask
from tests.unit.web.conftest import Site

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}\u202e\x1b[2J"
VOID = {"meta", "link", "img", "br", "line", "circle", "polyline", "rect", "path"}


class Read(HTMLParser):
    """Elements, their attributes and text; complains of what is not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_first_page(site: Site) -> None:
    overview = site.overview
    page = ask(site.app(), "/")
    read = Read(page.text)
    assert page.status == 200
    for text in (
        overview.hotkey,
        overview.root,
        f"{overview.leaves:,}",
        "published log",
        f"{overview.rounds}, of which {overview.counted_rounds} count",
        "Standings over time",
    ):
        assert text in read.text, text
    for code in overview.rejects:
        assert code == Reject.OK or code in read.text
    assert sum(tag == "polyline" for tag, _ in read.elements) == len([s for s in overview.series if s.points])
    assert sum(tag == "rect" for tag, _ in read.elements) == len(overview.rejects) - 1
    assert {tag for tag, _ in read.elements} & {"script", "iframe", "form", "style", "object"} == set()


def test_every_address_on_it_answers(site: Site) -> None:
    app = site.app()
    seen, to_see = set(), ["/"]
    while to_see:
        path = to_see.pop()
        if path in seen:
            continue
        seen.add(path)
        answer = ask(app, path)
        assert answer.status == 200, (path, answer.text)
        if answer.headers["content-type"].startswith("text/html"):
            found = [attrs.get("href") or attrs.get("src") for _, attrs in Read(answer.text).elements]
            to_see += [address for address in found if address]
    assert sum(path.startswith("/pictures/") for path in seen) >= 3
    assert sum(path.startswith("/rounds/") for path in seen) == len(site.overview.latest)


def test_a_round_has_all_its_answers(site: Site) -> None:
    found = next(one for one in site.overview.latest if one.counted)
    text = Read(ask(site.app(), f"/rounds/{found.number}").text).text
    for answer in found.answers:
        assert answer.reject in text
    assert f"{found.answers[0].score_ppb / 1e9:.4f}" in text


def test_json_is_the_overview(site: Site) -> None:
    assert decode_overview(ask(site.app(), "/overview.json").body, "there") == site.overview


def poisoned(value: Any) -> Any:
    """The same with every text replaced by a hostile one; codes and digests too."""
    if isinstance(value, str):
        return HOSTILE
    if isinstance(value, tuple):
        return tuple(poisoned(item) for item in value)
    if isinstance(value, dict):
        return {
            poisoned(key) + str(number): poisoned(item) for number, (key, item) in enumerate(value.items())
        }
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(**{one.name: poisoned(getattr(value, one.name)) for one in fields(value)})
    return value


@pytest.mark.parametrize("source", ["published", "validator"])
def test_a_strangers_text_is_only_text(site: Site, source: str) -> None:
    whole = replace(
        site.overview,
        anchor=AnchorView(1, 1, "x"),
        last_weights=WeightsView(1, 1, 1, ((1, 10**9),), "x", "x", "x"),
        health=(HealthView("x", ok=False, found="x"),),
        next_weights=(),
    )
    hostile: Overview = replace(poisoned(whole), source=source)
    rejected = replace(hostile.last_weights or whole.last_weights, outcome="rejected")  # type: ignore[type-var]
    site.feed.shown = replace(hostile, last_weights=rejected)
    number = hostile.latest[0].number
    for path in ("/", f"/rounds/{number}"):
        page = ask(site.app(), path)
        read = Read(page.text)
        assert page.status == 200
        assert "<script>alert(1)</script>" in read.text  # as text
        assert {tag for tag, _ in read.elements} & {"script"} == set()
        for tag, attrs in read.elements:
            assert not any(name.startswith("on") for name in attrs), (tag, attrs)
            assert tag != "img" or str(attrs["src"]).startswith("/pictures/")
        assert not re.search("[\u202e\x1b]", page.text)


def test_hostile_text_is_not_a_template(site: Site) -> None:
    site.feed.shown = replace(site.overview, hotkey="{{ 7*7 }}{% raw %}")
    assert "{{ 7*7 }}{% raw %}" in ask(site.app(), "/").text


def test_hostile_numbers_do_not_break_a_page(site: Site) -> None:
    huge = 2**53 - 1
    first = site.overview.latest[0]
    answers = tuple(
        replace(one, score_ppb=-huge, response_ms=huge, linf_u8=huge, same_as=huge) for one in first.answers
    )
    odd = replace(first, created_ms=-huge, block=huge, epsilon="", answers=answers)
    site.feed.shown = replace(site.overview, latest=(odd,), made_ms=huge, epoch_cursor=-1)
    assert ask(site.app(), "/").status == 200
    page = ask(site.app(), f"/rounds/{odd.number}")
    assert (page.status, "no time" in page.text) == (200, True)


def test_a_new_log_has_a_page(site: Site) -> None:
    site.feed.shown = replace(
        site.overview, latest=(), standings=(), series=(), next_weights=(), last_weights=None, anchor=None
    )
    text = Read(ask(site.app(), "/").text).text
    for found in (
        "No round has counted yet",
        "No miner was asked yet",
        "Nobody has succeeded lately",
        "none: ",
    ):
        assert found in text


def test_a_validator_that_does_not_answer(site: Site) -> None:
    site.feed.shown = NotRunning("no validator answers at <there>", hint="start it")
    for path, status in (("/", 503), ("/overview.json", 503), ("/rounds/1", 503), ("/style.css", 200)):
        page = ask(site.app(), path)
        assert page.status == status
    text = ask(site.app(), "/").text
    assert "no validator answers at &lt;there&gt;" in text
    assert "start it" in text
    assert 'http-equiv="refresh"' in text


def test_what_is_not_there(site: Site) -> None:
    for path in ("/nothing", "/rounds/99999", "/rounds/x", "/pictures/0/99/clean.png", "/../cli.py"):
        page = ask(site.app(), path)
        assert (page.status, "Not shown" in page.text) == (404, True), path
    number = site.overview.latest[-1].number
    assert ask(site.app(), f"/pictures/{number}/1/secret.png").status == 404


def test_the_feed_is_not_asked_for_every_request(site: Site) -> None:
    clock = VirtualClock()
    viewer = Viewer(site.feed, max_age_s=2.0, clock=clock)
    for _ in range(5):
        viewer.overview()
    assert site.feed.reads == 1
    clock.advance(2.1)
    viewer.overview()
    assert site.feed.reads == 2
    site.feed.shown = PerturbError("gone")
    clock.advance(2.1)
    for _ in range(3):
        with pytest.raises(PerturbError, match="gone"):
            viewer.overview()
    assert site.feed.reads == 3
