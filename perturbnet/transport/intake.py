"""Taking in a request: the steps 1 to 5 of `server`, before anyone knows who sent it.

What is not refused here has a body that is complete, within its cap, not encoded, and says it is JSON.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.requests import Request

from perturbnet.errors import TransportError
from perturbnet.transport.rates import Rates
from perturbnet.wire.addresses import rate_key


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What a stranger, or a validator, may cost."""

    max_body_bytes: int = 8 * 1024 * 1024
    max_header_bytes: int = 16 * 1024
    head_timeout_s: float = 5.0
    body_timeout_s: float = 10.0
    connection_lifetime_s: float = 660.0  # above the longest time-out of a challenge
    concurrent_connections: int = 128
    connections_per_address: int = 32
    address_rate_per_s: float = 20.0
    address_burst: int = 60
    hotkey_rate_per_s: float = 2.0
    hotkey_burst: int = 20
    max_age_s: float = 30.0
    allowed_skew_s: float = 5.0


class RequestRefused(TransportError):
    """A request that is answered with `status` before it reaches a handler."""

    def __init__(self, status: int, message: str) -> None:
        """Keep the HTTP status."""
        super().__init__(message)
        self.status = status


async def read_body(request: Request, limits: ServerLimits, rates: Rates) -> bytes:
    """Run the steps 1 to 5 and return the body.

    Raises:
        RequestRefused: with the status to answer.
        starlette.requests.ClientDisconnect: the sender left.

    """
    if not rates.take(remote_address(request)):  # 1
        raise RequestRefused(429, "too many requests from this address")
    head_bytes = sum(len(name) + len(value) + 4 for name, value in request.headers.raw)  # 2
    if head_bytes > limits.max_header_bytes:
        raise RequestRefused(
            431, f"headers of {head_bytes} bytes; at most {limits.max_header_bytes} are allowed"
        )
    declared = request.headers.get("content-length", "0")  # 3; h11 lets only digits through, and few of them
    if int(declared) > limits.max_body_bytes:
        raise RequestRefused(413, f"a body of {declared} bytes; at most {limits.max_body_bytes} are allowed")
    _check_content(request)  # 4
    try:
        async with asyncio.timeout(limits.body_timeout_s):
            return await _stream(request, limits.max_body_bytes)  # 5
    except TimeoutError:
        raise RequestRefused(408, f"the body did not arrive within {limits.body_timeout_s:g} s") from None


async def _stream(request: Request, max_bytes: int) -> bytes:
    body = (
        bytearray()
    )  # not a list of pieces: each costs more than a small piece holds, and a stranger cuts them
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise RequestRefused(413, f"a body above {max_bytes} bytes")
    return bytes(body)


def _check_content(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise RequestRefused(415, f"content-encoding {encoding[:40]!r}; only identity is allowed")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RequestRefused(415, f"content-type {kind[:40]!r}; expected application/json")


def signed_headers(request: Request) -> list[tuple[str, str]]:
    """Return all headers as they came, repeated ones too."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw]


def request_target(request: Request) -> str:
    """Return the request target as it was sent, query included: what the sender signed."""
    path: str = request.scope["raw_path"].decode("latin-1")
    query: str = request.scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path


def remote_address(request: Request) -> str:
    """Return what a rate limit counts as the sender's address."""
    return rate_key(request.client.host) if request.client else "unknown"
