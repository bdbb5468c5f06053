"""`perturb web` in a real browser: whole, quiet, and closed to whoever is not this machine's own page."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import uvicorn

from perturbnet.overview import Overview, PublishedFeed
from perturbnet.transport.connections import bind
from perturbnet.web import Pictures, Viewer, build_app
from tests.support.auditing.honest import Honest, live
from tests.support.auditing.published import publish_honest
from tests.support.chromium import REBOUND, Chromium

pytestmark = pytest.mark.needs("chromium")
LOADED = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
WIDER = "document.documentElement.scrollWidth > innerWidth"
HOSTILE = "<script>window.hit=1</script><img src=/nothing onerror='window.hit=2'>"


class Shown:
    """A feed whose overview a test may change."""

    def __init__(self, bundle: Path) -> None:
        self.feed = PublishedFeed(str(bundle))
        self.overview: Overview = self.feed.read()

    def read(self) -> Overview:
        return self.overview

    def blob(self, digest: str) -> bytes:
        return self.feed.blob(digest)


@contextmanager
def served(shown: Shown, honest: Honest) -> Iterator[str]:
    """The application behind a real server; yields its address."""
    bound = bind("127.0.0.1", 0)
    port = bound.getsockname()[1]
    app = build_app(Viewer(shown, max_age_s=0), Pictures(lambda: honest.source, shown.blob), port=port)
    server = uvicorn.Server(uvicorn.Config(app, http="h11", ws="none", lifespan="off", log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Honest:
    return live(tmp_path_factory.mktemp("honest"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture
def shown(honest: Honest, tmp_path: Path) -> Shown:
    return Shown(publish_honest(honest, tmp_path / "bundle"))


@pytest.fixture
def address(shown: Shown, honest: Honest, browser: Chromium) -> Iterator[str]:
    browser.complaints.clear()
    with served(shown, honest) as found:
        yield found


def test_pages_are_whole_and_nothing_is_complained_of(
    browser: Chromium, address: str, shown: Shown, tmp_path: Path
) -> None:
    for path in ("/", f"/rounds/{shown.overview.latest[1].number}"):
        assert browser.open(address + path) == 200
        assert browser.complaints == []
        assert browser.evaluate("document.images.length") >= 3
        assert browser.evaluate(LOADED)
        assert browser.evaluate("getComputedStyle(document.body).maxWidth") == "1180px"  # the style arrived
        browser.screenshot(tmp_path / "page.png")
        assert (tmp_path / "page.png").stat().st_size > 20_000
    assert browser.complaints == []


def test_the_chart_is_drawn(browser: Chromium, address: str) -> None:
    browser.open(address)
    width = browser.evaluate("document.querySelector('polyline').getBoundingClientRect().width")
    stroke = browser.evaluate("getComputedStyle(document.querySelector('polyline')).stroke")
    assert width > 300
    assert stroke not in {"none", ""}


@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_the_window(browser: Chromium, address: str, tmp_path: Path, width: int) -> None:
    browser.open(address)
    browser.screenshot(tmp_path / "page.png", width=width, height=800)
    assert not browser.evaluate(WIDER)


def test_links_lead_to_rounds_and_back(browser: Chromium, address: str, shown: Shown) -> None:
    browser.open(address)
    href = browser.evaluate("document.querySelector('a[href^=\"/rounds/\"]').href")
    assert browser.open(href) == 200
    assert browser.evaluate("document.querySelector('h1 a').getAttribute('href')") == "/"
    assert browser.complaints == []


def test_a_strangers_text_does_nothing(browser: Chromium, address: str, shown: Shown) -> None:
    overview = shown.overview
    rounds = tuple(
        replace(
            found,
            label=HOSTILE,
            answers=tuple(replace(answer, label_after=HOSTILE, hotkey=HOSTILE) for answer in found.answers),
        )
        for found in overview.latest
    )
    shown.overview = replace(overview, latest=rounds, hotkey=HOSTILE, model_name=HOSTILE)
    for path in ("/", f"/rounds/{rounds[1].number}"):
        assert browser.open(address + path) == 200
        assert browser.evaluate("typeof window.hit") == "undefined"
        assert browser.evaluate("document.scripts.length") == 0
        assert "<script>window.hit=1</script>" in browser.evaluate("document.body.innerText")
    assert browser.complaints == []


def test_no_script_would_run_even_if_it_slipped_through(browser: Chromium, address: str) -> None:
    """The policy alone: markup put into the page as if nothing had been escaped."""
    browser.open(address)
    put = "document.body.insertAdjacentHTML('beforeend', \"<img src=/icon.svg onload='window.hit=3'>\")"
    browser.evaluate(put)
    browser.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hit=4'}))"
    )
    browser.evaluate("fetch('/overview.json').catch(() => 0)")
    browser.settle()
    assert browser.evaluate("typeof window.hit") == "undefined"
    assert sum("Content Security Policy" in complaint for complaint in browser.complaints) >= 3


def test_complaints_are_heard(browser: Chromium, address: str) -> None:
    """What the tests above rely on: a page that lacks something is complained of."""
    assert browser.open(f"{address}/pictures/0/99/clean.png") == 404
    assert any("404" in complaint for complaint in browser.complaints)


def test_a_rebound_name_sees_nothing(browser: Chromium, address: str) -> None:
    assert browser.open(address.replace("127.0.0.1", REBOUND)) == 421
    assert "Host header" in browser.evaluate("document.body.innerText")


@contextmanager
def foreign(page: str) -> Iterator[str]:
    """A page of another origin."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = page.encode() if self.path == "/" else b""
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_another_origin_can_neither_embed_nor_frame_nor_read(
    browser: Chromium, address: str, shown: Shown
) -> None:
    found = next(one for one in shown.overview.latest if one.answers and one.answers[0].delta)
    picture = f"{address}/pictures/{found.number}/{found.answers[0].uid}/clean.png"
    with foreign(f"<img id=a src={picture}><iframe id=b src={address}></iframe>") as elsewhere:
        browser.open(elsewhere)
        assert browser.evaluate("document.getElementById('a').naturalWidth") == 0
        read = f"fetch('{address}/overview.json').then(() => 'read', () => 'refused')"
        assert browser.evaluate(read) == "refused"
        blind = f"fetch('{address}/overview.json', {{mode: 'no-cors'}}).then(() => 'read', () => 'refused')"
        assert browser.evaluate(blind) == "refused"
        reasons = " ".join(browser.complaints)
    assert "frame-ancestors" in reasons or "X-Frame-Options" in reasons
