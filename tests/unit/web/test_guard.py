"""Who may read: this machine's browser under this machine's name, and nobody through it."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message

from perturbnet.web.guard import POLICY
from tests.support.web.asking import HOST, ask
from tests.unit.web.conftest import Site

PAGES = ["/", "/overview.json", "/style.css", "/nothing", "/rounds/99999"]


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("host", [b"evil.example", b"evil.example:8477", b"127.0.0.1", b"localhost:1", b""])
def test_another_name_is_refused(site: Site, path: str, host: bytes) -> None:
    """DNS rebinding: the name leads here, and the browser sends it as Host."""
    found = ask(site.app(), path, headers=[(b"host", host)])
    assert (found.status, "Host header" in found.text) == (421, True)


def test_no_host_or_two_are_refused(site: Site) -> None:
    assert ask(site.app(), "/", headers=[]).status == 421
    assert ask(site.app(), "/", headers=[(b"host", HOST), (b"host", b"evil.example")]).status == 421


@pytest.mark.parametrize("host", [b"127.0.0.1:8477", b"LocalHost:8477", b"[::1]:8477"])
def test_loopback_has_these_names(site: Site, host: bytes) -> None:
    assert ask(site.app(), "/", headers=[(b"host", host)]).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT"])
def test_it_is_read_only(site: Site, method: str) -> None:
    for path in ("/", "/nothing"):
        found = ask(site.app(), path, method=method)
        assert (found.status, "read-only" in found.text) == (405, True)


def test_head_has_no_body(site: Site) -> None:
    found = ask(site.app(), "/style.css", method="HEAD")
    assert (found.status, found.headers["content-type"]) == (200, "text/css; charset=utf-8")


@pytest.mark.parametrize("path", PAGES)
def test_every_answer_carries_the_headers(site: Site, path: str) -> None:
    headers = ask(site.app(), path).headers
    assert headers["content-security-policy"] == POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["x-frame-options"] == "DENY"
    assert "access-control-allow-origin" not in headers
    assert headers["cache-control"] == ("max-age=3600" if path == "/style.css" else "no-store")


def test_the_policy_allows_no_script_and_no_other_place() -> None:
    rules = dict(rule.split(" ", 1) for rule in POLICY.split("; "))
    assert rules["default-src"] == "'none'"
    assert set(rules) >= {"base-uri", "form-action", "frame-ancestors"}
    assert "script-src" not in rules
    assert "unsafe" not in POLICY


def test_other_origins_may_link_and_not_read(site: Site) -> None:
    foreign = [(b"host", HOST), (b"sec-fetch-site", b"cross-site")]
    assert (
        ask(site.app(), "/overview.json", headers=[*foreign, (b"sec-fetch-mode", b"no-cors")]).status == 403
    )
    assert ask(site.app(), "/", headers=[*foreign, (b"sec-fetch-mode", b"navigate")]).status == 200


def test_nothing_but_http_is_spoken(site: Site) -> None:
    async def silent() -> Message:
        raise AssertionError("nothing is read")

    async def mute(_: Message) -> None:
        raise AssertionError("nothing is said")

    for kind in ("websocket", "lifespan"):
        asyncio.run(site.app()({"type": kind, "headers": []}, silent, mute))  # type: ignore[arg-type]
