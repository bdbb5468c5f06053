"""The miner's end: a small HTTP server that answers permitted validators.

`POST /AttackChallenge`, `POST /Acknowledgement`, `GET /healthz`. A request passes these steps in this order;
the first that fails answers with its status, and costs no more than the steps before it:

1. rate limit of the remote address                        429
2. size of the headers                                      431
3. declared size of the body, before any of it is read      413
4. content encoding (identity only) and type (JSON)         415
5. the body, capped while it is read, and with a deadline   413, 408
6. signature, freshness, permit, replay                     401, 403 (`authentication`)
7. rate limit of the hotkey                                 429
8. the message                                              400
9. the handler, within the challenge's own time-out, and
   cancelled when the sender leaves: nobody would get it     500, 504

One request per connection: an idle connection is worth nothing at one challenge every two minutes, and a
server without keep-alive has fewer states to be held in. Starlette routes, uvicorn serves (HTTP/1.1 by h11).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from perturbnet.errors import AuthenticationError, MessageError, TransportError
from perturbnet.runtime.clock import Clock, SystemClock
from perturbnet.transport.authentication import Authenticator, Caller, Permits
from perturbnet.transport.connections import EmbeddedServer, bind, guarded_protocol
from perturbnet.transport.evidence import SignedMessage
from perturbnet.transport.intake import (
    RequestRefused,
    ServerLimits,
    read_body,
    remote_address,
    request_target,
    signed_headers,
)
from perturbnet.transport.nonces import NonceStore
from perturbnet.transport.rates import Rates
from perturbnet.wire import keys, messages
from perturbnet.wire.messages import Acknowledgement, AttackChallenge, AttackResponse

_log = logging.getLogger(__name__)
_STOP_GRACE_S = 1.0

Handler = Callable[[AttackChallenge, str, float], Awaitable[AttackResponse]]
"""(challenge, the validator's hotkey, monotonic seconds when the request arrived) -> response."""
AcknowledgementHandler = Callable[[Acknowledgement, SignedMessage], Awaitable[None]]
"""(message, the request as the validator signed it)."""


class Handlers(NamedTuple):
    """What the miner does with a challenge and with an acknowledgement."""

    challenge: Handler
    acknowledgement: AcknowledgementHandler


class Server:
    """A miner's axon, embedded in the running event loop. `counts` holds answers by HTTP status."""

    def __init__(  # noqa: PLR0913 - each is a seam
        self,
        *,
        keypair: keys.Keypair,
        netuid: int,
        permits: Permits,
        nonces: NonceStore,
        handlers: Handlers,
        host: str = "0.0.0.0",  # noqa: S104 - a miner serves the world
        port: int = 8091,
        clock: Clock | None = None,
        limits: ServerLimits | None = None,
    ) -> None:
        """Serve for the hotkey `keypair`. The nonce store stays the caller's to close."""
        self._keypair, self._netuid, self._handlers = keypair, netuid, handlers
        self._host, self._port = host, port
        self._clock = clock or SystemClock()
        self._limits = limits = limits or ServerLimits()
        self._authenticator = Authenticator(
            self_hotkey=keypair.ss58_address,
            permits=permits,
            nonces=nonces,
            clock=self._clock,
            max_age_s=limits.max_age_s,
            allowed_skew_s=limits.allowed_skew_s,
        )
        self._address_rates = Rates(limits.address_rate_per_s, limits.address_burst, clock=self._clock)
        self._hotkey_rates = Rates(limits.hotkey_rate_per_s, limits.hotkey_burst, clock=self._clock)
        self.counts: Counter[int] = Counter()
        self._server: EmbeddedServer | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that is bound: the one asked for, or the free one that was found for 0."""
        return self._port

    async def start(self) -> None:
        """Bind and serve; return once connections are accepted.

        Raises:
            PortInUse: the port is taken.
            TransportError: the address cannot be bound, or the server is running already.

        """
        if self._serving is not None:
            raise TransportError(f"already serving on port {self._port}")
        bound = bind(self._host, self._port)
        self._port = int(bound.getsockname()[1])
        self._server = EmbeddedServer(self._config(), grace_s=_STOP_GRACE_S)
        self._serving = asyncio.create_task(self._server.serve(sockets=[bound]))
        while not self._server.started:
            if self._serving.done():
                await self._serving
                raise TransportError(f"the server on port {self._port} ended while it was starting")
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Stop within two seconds: requests in flight get one second to finish, then are cancelled."""
        if self._server is None or self._serving is None:
            return
        self._server.stop()
        await self._serving
        self._server = self._serving = None

    def _config(self) -> uvicorn.Config:
        limits = self._limits
        guarded = guarded_protocol(
            head_timeout_s=limits.head_timeout_s,
            lifetime_s=limits.connection_lifetime_s,
            per_address=limits.connections_per_address,
        )
        return uvicorn.Config(
            self._application(),
            http=guarded,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,  # else anyone could name the address that is rate-limited
            server_header=False,
            date_header=False,
            limit_concurrency=limits.concurrent_connections,
            h11_max_incomplete_event_size=limits.max_header_bytes,
            timeout_keep_alive=1,
        )

    def _application(self) -> Starlette:
        async def challenge(request: Request) -> Response:
            return await self._answer(request, self._answer_challenge)

        async def acknowledgement(request: Request) -> Response:
            return await self._answer(request, self._answer_acknowledgement)

        async def health(request: Request) -> Response:
            if not self._address_rates.take(remote_address(request)):
                return self._reply(429, {"error": "too many requests"})
            return self._reply(200, {"status": "ok", "protocol": messages.PROTOCOL_VERSION})

        return Starlette(
            routes=[
                Route(messages.CHALLENGE_PATH, challenge, methods=["POST"]),
                Route(messages.ACKNOWLEDGEMENT_PATH, acknowledgement, methods=["POST"]),
                Route("/healthz", health, methods=["GET"]),
            ]
        )

    async def _answer(
        self, request: Request, handle: Callable[[Request, SignedMessage, Caller, float], Awaitable[Response]]
    ) -> Response:
        received_s = self._clock.monotonic_s()
        try:
            body = await read_body(request, self._limits, self._address_rates)  # 1 to 5
            headers, path = signed_headers(request), request_target(request)
            caller = self._authenticator.authenticate(headers, body, method=request.method, path=path)  # 6
            if not self._hotkey_rates.take(caller.hotkey):  # 7
                raise RequestRefused(429, f"too many requests from {caller.hotkey}")
            return await handle(request, SignedMessage.of(path, headers, body), caller, received_s)  # 8, 9
        except Exception as error:  # noqa: BLE001 - the edge of the server: one bad request must not end it
            status, why = _explain(error)
            if status == 500:
                _log.error("%s failed", request.url.path, exc_info=error)
            _log.info("%s from %s: %d %s", request.url.path, remote_address(request), status, why)
            return self._reply(status, {"error": why})

    async def _answer_challenge(
        self, request: Request, message: SignedMessage, caller: Caller, received_s: float
    ) -> Response:
        challenge = messages.parse(AttackChallenge, message.body, max_bytes=self._limits.max_body_bytes)  # 8
        left_s = received_s + challenge.timeout_seconds - self._clock.monotonic_s()
        async with asyncio.timeout(left_s), _while_connected(request):  # 9
            response = await self._handlers.challenge(challenge, caller.hotkey, received_s)
        if (response.task_id, response.challenge_id) != (challenge.task_id, challenge.challenge_id):
            raise TransportError(f"the handler answered task {response.task_id}, not {challenge.task_id}")
        content = messages.encode(response)
        payload = messages.response_payload(
            netuid=self._netuid,
            validator=caller.hotkey,
            challenge_id=challenge.challenge_id,
            nonce=caller.nonce,
            body_sha256=messages.body_digest(content),
            pixels_sha256=response.pixels_sha256,
        )
        signature = keys.sign(self._keypair, messages.RESPONSE_DOMAIN, payload)
        self.counts[200] += 1
        return _json(200, content, {messages.SIGNATURE_HEADER: "0x" + signature.hex()})

    async def _answer_acknowledgement(
        self, _request: Request, message: SignedMessage, _caller: Caller, _received_s: float
    ) -> Response:
        acknowledgement = messages.parse(Acknowledgement, message.body, max_bytes=self._limits.max_body_bytes)
        await self._handlers.acknowledgement(acknowledgement, message)
        return self._reply(200, {})

    def _reply(self, status: int, content: dict[str, str | int]) -> Response:
        self.counts[status] += 1
        return _json(status, json.dumps(content).encode())


@asynccontextmanager
async def _while_connected(request: Request) -> AsyncIterator[None]:
    """Cancel what is done inside when the sender leaves, and raise `ClientDisconnect`."""
    inside = asyncio.current_task()
    left = False

    async def watch() -> None:
        nonlocal left
        while (await request.receive())["type"] != "http.disconnect":
            pass
        left = True
        if inside is not None:
            inside.cancel()

    watching = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if left and inside is not None and inside.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        watching.cancel()


def _json(status: int, content: bytes, headers: dict[str, str] | None = None) -> Response:
    always = {"Connection": "close", messages.PROTOCOL_HEADER: str(messages.PROTOCOL_VERSION)}
    return Response(content, status, {**always, **(headers or {})}, media_type="application/json")


def _explain(error: Exception) -> tuple[int, str]:
    """Return the status and the sentence a sender gets; what went wrong inside the miner stays inside."""
    match error:
        case RequestRefused() | AuthenticationError():
            return error.status, error.message
        case MessageError():
            return 400, error.message
        case ClientDisconnect():
            return 400, "the sender left"
        case TimeoutError():
            return 504, "no answer within the challenge's time-out"
        case _:
            return 500, "the miner failed"
