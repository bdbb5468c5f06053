"""What a running neuron shows on this machine: read-only pages on 127.0.0.1, served by threads of their own.

    GET /metrics      the registry, for Prometheus
    GET /healthz      {"status": "ok"}
    GET …             what the neuron adds: the validator's /overview.json

Rules
- Loopback only. What is served is the operator's: it is not public yet.
- The Host header must name this machine's loopback and this port, so no web page of a stranger reads it
  through the browser (DNS rebinding).
- At most `MAX_CONNECTIONS` at a time, each with a deadline for every read; the next one is closed.
- A page that fails answers 500 and is logged; a port that is taken is said once. The neuron goes on.

Source: RFC 9110 section 7.2 (Host); prometheus.io/docs/instrumenting/exposition_formats.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

HOST = "127.0.0.1"
MAX_CONNECTIONS = 16
READ_DEADLINE_S = 5.0
Page = Callable[[], bytes]  # JSON, made in the thread that answers

log = logging.getLogger(__name__)


def allowed_hosts(port: int) -> frozenset[str]:
    """The values of a Host header that mean this machine's loopback and this port."""
    return frozenset(f"{name}:{port}" for name in (HOST, "localhost", "[::1]"))


class Loopback:
    """The pages of one process. `port` is where they are served, 0 while they are not."""

    def __init__(self, registry: CollectorRegistry, pages: Mapping[str, Page] | None = None) -> None:
        """Serve nothing yet."""
        self.registry, self.pages = registry, dict(pages or {})
        self.port = 0
        self._server: _Server | None = None

    def start(self, port: int) -> bool:
        """Serve on `port` until `close`; False, and a line in the log, where that port cannot be had."""
        try:
            self._server = _Server((HOST, port), self)
        except OSError as error:
            log.warning(
                "No metrics and no status: %s:%d: %s; set PERTURB_METRICS_PORT", HOST, port, error.strerror
            )
            return False
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="loopback", daemon=True).start()
        log.info("Metrics and status at http://%s:%d", HOST, self.port)
        return True

    def close(self) -> None:
        """Serve no more. Idempotent."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server, self.port = None, 0

    def answer(self, path: str, accept: str) -> tuple[HTTPStatus, str, bytes]:
        """Status, content type and body for a path."""
        if path == "/metrics":
            encode, content_type = choose_encoder(accept)
            return HTTPStatus.OK, content_type, encode(self.registry)
        if path == "/healthz":
            return HTTPStatus.OK, "application/json", b'{"status": "ok"}'
        page = self.pages.get(path)
        if page is None:
            return _refuse(HTTPStatus.NOT_FOUND, f"pages: /metrics, /healthz, {', '.join(self.pages)}")
        return HTTPStatus.OK, "application/json", page()


class _Server(ThreadingHTTPServer):
    """A bounded number of threads that end with the process."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, address: tuple[str, int], loopback: Loopback) -> None:
        super().__init__(address, _Handler)
        self.loopback = loopback
        self.hosts = allowed_hosts(self.server_address[1])
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand a connection to a thread, or close it where too many are open."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and make room for the next."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is nothing to tell."""
        log.debug("A reader on loopback went away: %s, %s", request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One request for each connection."""

    server: _Server
    timeout = READ_DEADLINE_S
    server_version, sys_version = "perturb", ""
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        """Answer with a page."""
        self._send(*self._answer())

    def do_HEAD(self) -> None:
        """Answer as GET would, without the body."""
        self._send(*self._answer())

    def _answer(self) -> tuple[HTTPStatus, str, bytes]:
        host = (self.headers.get_all("Host") or [""])[0]
        if host.lower() not in self.server.hosts:
            allowed = ", ".join(sorted(self.server.hosts))
            return _refuse(HTTPStatus.MISDIRECTED_REQUEST, f"Host must be one of {allowed}")
        path = self.path.partition("?")[0]
        try:
            return self.server.loopback.answer(path, self.headers.get("Accept", ""))
        except Exception:  # the edge of a page: the neuron must not notice
            log.exception("The page %r failed", path)
            return _refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "this page failed; see the log")

    def _send(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
        """Requests on loopback are of no interest."""


def _refuse(status: HTTPStatus, reason: str) -> tuple[HTTPStatus, str, bytes]:
    return status, "application/json", json.dumps({"error": reason}).encode()
