"""Who may read the pages, and what a browser may do with them.

Rules
- Only GET and HEAD: nothing here changes anything.
- The Host header names this machine's loopback and this port, once. A page of a stranger whose name was made
  to point here (DNS rebinding) carries its own name and is refused.
- A page of another origin may link here, but not embed, frame or read: what is shown is not public yet.
- No script runs and nothing is loaded from elsewhere (Content-Security-Policy), so text of a stranger that
  would ever slip through the escaping could still do nothing.

Source: RFC 9110 section 7.2; W3C CSP level 3; W3C Fetch Metadata; owasp.org, HTTP security response headers.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """Answers what must not reach the pages, and puts the headers on every answer."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        """Guard `app`; `hosts` are the values of the Host header that are let through, in lower case."""
        self._app, self._hosts = app, frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":  # no WebSocket is spoken here
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        values: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            values.setdefault(name, []).append(value)
        hosts = [value.decode("latin-1").lower() for value in values.get(b"host", [])]
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            allowed = ", ".join(sorted(self._hosts))
            return _say(HTTPStatus.MISDIRECTED_REQUEST, f"the Host header must be one of {allowed}")
        if scope["method"] not in {"GET", "HEAD"}:
            return _say(HTTPStatus.METHOD_NOT_ALLOWED, "these pages are read-only: GET and HEAD")
        foreign = values.get(b"sec-fetch-site") == [b"cross-site"]
        if foreign and values.get(b"sec-fetch-mode") != [b"navigate"]:
            return _say(HTTPStatus.FORBIDDEN, "pages of other origins may link here, and not read")
        return None


def _say(status: HTTPStatus, reason: str) -> PlainTextResponse:
    return PlainTextResponse(f"{reason}\n", status)
