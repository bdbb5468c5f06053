"""The report in a real browser, opened as a file: whole, quiet, in every width and on paper."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from perturbnet.ledger.leaves import ReceiptLeaf
from perturbnet.report import ReportOptions, given, make_report, render_report, write_report
from perturbnet.transparency.bundle import open_bundle
from tests.support.auditing.honest import Honest, live
from tests.support.auditing.published import publish, publish_honest
from tests.support.chromium import Chromium
from tests.support.report.rounds import Rounds

pytestmark = pytest.mark.needs("chromium")
LOADED = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
WIDER = "document.documentElement.scrollWidth > innerWidth"
REQUESTS = "performance.getEntriesByType('resource').filter(one => !one.name.startsWith('data:')).length"
CONTRAST = """(() => {
  const light = text => {
    const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const under = node => {
    for (; node; node = node.parentElement) {
      const found = getComputedStyle(node).backgroundColor;
      if (!found.endsWith(', 0)')) return found;
    }
  };
  let worst = 99;
  for (const node of document.querySelectorAll('p,li,dt,dd,th,td,h1,h2,h3,figcaption,code,summary,text')) {
    if (!node.textContent.trim()) continue;
    const style = getComputedStyle(node);
    const ink = light(node.tagName === 'text' ? style.fill : style.color), paper = light(under(node));
    worst = Math.min(worst, (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05));
  }
  return worst;
})()"""
"""The least contrast of any text, as WCAG 2.2 counts it; 4.5 is enough."""


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Honest:
    return live(tmp_path_factory.mktemp("honest"))


@pytest.fixture(scope="module")
def page(honest: Honest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    with open_bundle(publish_honest(honest, folder / "bundle")) as opened:
        write_report(
            folder / "report.html", make_report(opened, ReportOptions(), open_pictures=given(honest.source))
        )
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


def show(browser: Chromium, scheme: str, width: int) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.call("Emulation.setEmulatedMedia", media="screen", features=features)
    browser.call(
        "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_is_whole_quiet_and_legible(browser: Chromium, page: Path, scheme: str, width: int) -> None:
    browser.complaints.clear()
    show(browser, scheme, width)
    browser.open(page.as_uri())
    assert browser.complaints == []
    assert browser.evaluate("document.images.length") >= 6
    assert browser.evaluate(LOADED)
    assert browser.evaluate(REQUESTS) == 0
    assert not browser.evaluate(WIDER)
    assert browser.evaluate(CONTRAST) >= 4.5
    paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(251, 250, 247)" if scheme == "light" else "rgb(20, 20, 22)")  # the style holds


def test_its_charts_are_drawn(browser: Chromium, page: Path) -> None:
    show(browser, "light", 1280)
    browser.open(page.as_uri())
    assert browser.evaluate("document.querySelector('.band').getBoundingClientRect().height") > 20
    assert browser.evaluate("document.querySelector('.panel .bar').getBoundingClientRect().height") > 20


def test_it_prints_on_light_paper(browser: Chromium, page: Path) -> None:
    show(browser, "dark", 1280)
    browser.open(page.as_uri())
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.evaluate("getComputedStyle(document.body).color") == "rgb(29, 29, 31)"
    printed = browser.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
    data = base64.b64decode(printed["data"])
    assert data.startswith(b"%PDF-")
    assert 2 <= data.count(b"/Type /Page\n") + data.count(b"/Type /Page ") <= 8
    assert browser.complaints == []


def test_a_strangers_text_does_nothing(browser: Chromium, honest: Honest, tmp_path: Path) -> None:
    hostile = "</style></svg><script>window.hit=1</script><img src=/nothing onerror='window.hit=2'>"
    rounds = Rounds(honest)
    leaves = [*rounds.long_log(3)]
    changed = [
        structs.replace(leaf, label_after=hostile, hotkey=hostile) if isinstance(leaf, ReceiptLeaf) else leaf
        for leaf in leaves
    ]
    with open_bundle(publish(changed, tmp_path / "log", honest.blobs.folder)) as opened:
        made = make_report(opened, ReportOptions(), open_pictures=given(honest.source))
    (tmp_path / "report.html").write_text(render_report(made), encoding="utf-8")
    browser.complaints.clear()
    show(browser, "light", 390)
    browser.open((tmp_path / "report.html").as_uri())
    assert browser.evaluate("window.hit === undefined")
    assert "window.hit=1" in browser.evaluate("document.body.innerText")
    assert not browser.evaluate(WIDER)
    assert browser.complaints == []
