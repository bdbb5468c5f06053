"""How one request to the hub or its store is answered, with the fault that is due; see `hub_server`."""

from __future__ import annotations

import re
import socket
import struct
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal

from tests.support.hub_faults import Cut, Fault, Headers, IgnoreRange, Short, Slow, Wrong

if TYPE_CHECKING:
    from tests.support.hub_server import HubServer

Where = Literal["api", "resolve", "store"]
PIECE = 64 << 10


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    where: Where
    method: str
    path: str  # of the file or of the address
    range: str | None
    token: str | None


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: HubServer, handler: type[Handler]) -> None:
        self.hub = hub
        super().__init__(("127.0.0.1", 0), handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep a fault of our own; a client that went away is what half of the tests are about."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):
            self.hub.broken.append(error)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as in the base class
        """Quiet."""

    @property
    def hub(self) -> HubServer:
        return self.server.hub

    @property
    def bearer(self) -> str | None:
        return self.headers.get("Authorization")

    def note(self, where: Where, path: str) -> Fault | None:
        return self.hub.seen(Request(where, self.command, path, self.headers.get("Range"), self.bearer))

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str) -> None:
        self.answer(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

    def content(self, path: str, data: bytes, fault: Fault | None, headers: Mapping[str, str]) -> None:
        """Send a file, or the range of it that was asked for, with the fault that is due."""
        if isinstance(fault, Wrong):
            data = fault.data
        start, status = 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and not isinstance(fault, IgnoreRange):
            start, status = int(asked[1]), 206
            if start >= len(data):
                self.answer(416, headers={"Content-Range": f"bytes */{len(data)}"})
                return
            headers = {**headers, "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        body = data[start:]
        if isinstance(fault, Short):
            body = body[: fault.bytes]
        self.send_response(status)
        extra = fault.headers if isinstance(fault, Headers) else {}
        for name, value in {"Content-Length": str(len(body)), **headers, **extra}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self._send(path, body, fault)

    def _send(self, path: str, body: bytes, fault: Fault | None) -> None:
        limit = fault.after if isinstance(fault, Cut) else len(body)
        piece = PIECE if not isinstance(fault, Slow) else max(1, int(fault.bytes_per_s / 20))
        for start in range(0, limit, piece):
            part = body[start : min(start + piece, limit)]
            self.hub.sent(path, len(part))  # before the client has them, and may ask how many they were
            self.wfile.write(part)
            if isinstance(fault, Slow):
                time.sleep(0.05)
        if isinstance(fault, Cut):
            self.wfile.flush()
            time.sleep(0.05)  # a reset overtakes what the other side has not read yet
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
