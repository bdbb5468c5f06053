"""The validator's end: ask all miners of a round at once, and tell each what became of its answer.

Rules
- One deadline for the round, on the injected clock. Each miner has its own connection and task; nothing one
  miner does or leaves undone delays another, or the round beyond its deadline.
- Every target yields exactly one `Arrival`, whatever happens, with the reject code that a receipt records.
  `Reject.OK` means: a whole body arrived in time. Whether it is the miner's own and what it is worth,
  verification decides, from the stored bytes; nothing is parsed here.
- `on_arrival` is awaited with each arrival as it comes, one at a time, so that the bytes are stored before
  anyone looks at the image in them, and forgotten here. The deadline never cancels it; an error in it ends
  the round.
- The request's nonce goes into the arrival, because the response's signature covers it.
- The response time runs from the moment before connecting to the last byte, in whole
  milliseconds, rounded up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from perturbnet.errors import Refused, Reject, TransportError
from perturbnet.runtime.clock import Clock, SystemClock
from perturbnet.transport.arrivals import Arrival, Delivery, Query
from perturbnet.transport.http_exchange import Caps, Post, Reply, post
from perturbnet.transport.signatures import sign_request
from perturbnet.wire import keys, messages
from perturbnet.wire.addresses import check_address
from perturbnet.wire.messages import Acknowledgement
from perturbnet.wire.target import Target

_log = logging.getLogger(__name__)
_ACKNOWLEDGEMENT_REPLY_BYTES = 4096


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """What a miner may cost, and how many are asked at once (a subnet has at most 256 uids)."""

    max_response_bytes: int = 6_000_000
    max_header_bytes: int = 16 * 1024
    max_connections: int = 256


OnArrival = Callable[[Arrival], Awaitable[None]]


class Client:
    """Signs with one hotkey, for one subnet."""

    def __init__(
        self,
        keypair: keys.Keypair,
        *,
        netuid: int,
        allow_private: bool = False,
        clock: Clock | None = None,
        limits: ClientLimits | None = None,
    ) -> None:
        """Sign with `keypair`; `allow_private` only for `NETWORK=local`."""
        self._keypair, self._netuid, self._allow_private = keypair, netuid, allow_private
        self._clock = clock or SystemClock()
        self._limits = limits or ClientLimits()
        self._last_nonce_ns = 0

    async def query_round(
        self,
        targets: Sequence[Target],
        build: Query | Callable[[Target], Query],
        *,
        deadline_s: float,
        on_arrival: OnArrival,
        max_response_bytes: int | None = None,
    ) -> list[Arrival]:
        """Ask all targets at once; return their arrivals without bodies, in the order of the targets.

        Args:
            targets: at most `max_connections`, so that nobody waits for a turn while the deadline runs.
            build: one query for all, or one for each.
            deadline_s: seconds from now, for the whole round.
            on_arrival: stores an arrival.
            max_response_bytes: a tighter cap for this round (`messages.response_limit_bytes`).

        Raises:
            TransportError: too many targets.
            ExceptionGroup: what `build` or `on_arrival` raised.

        """
        if len(targets) > self._limits.max_connections:
            raise TransportError(
                f"{len(targets)} miners in one round; at most {self._limits.max_connections} are allowed"
            )
        cap = min(max_response_bytes or self._limits.max_response_bytes, self._limits.max_response_bytes)
        caps = Caps(cap, self._limits.max_header_bytes)
        round_ = _Round(self, self._clock.monotonic_s() + deadline_s, caps, on_arrival)
        expired = asyncio.create_task(self._clock.sleep(deadline_s))
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(round_.run(target, build, expired)) for target in targets]
            return [task.result() for task in tasks]
        finally:
            expired.cancel()

    async def send_acknowledgements(
        self, acknowledgements: Sequence[tuple[Target, Acknowledgement]], *, timeout_s: float = 5.0
    ) -> list[Delivery]:
        """Tell miners their verdicts, all at once, best effort: nothing is sent twice, nothing raised."""
        if not acknowledgements:
            return []
        turns = asyncio.Semaphore(self._limits.max_connections)
        tasks = [asyncio.create_task(self._acknowledge(turns, *pair)) for pair in acknowledgements]
        expired = asyncio.create_task(self._clock.sleep(timeout_s))
        try:
            await _until(expired, tasks)
        finally:
            expired.cancel()
        return [_delivery(target, task) for (target, _), task in zip(acknowledgements, tasks, strict=True)]

    async def _acknowledge(self, turns: asyncio.Semaphore, target: Target, message: Acknowledgement) -> None:
        async with turns:
            address = check_address(target.host, target.port, allow_private=self._allow_private)
            body = messages.encode(message)
            request = self.sign(
                target,
                messages.ACKNOWLEDGEMENT_PATH,
                body,
                body_sha256=messages.body_digest(body),
                nonce_ns=self.next_nonce(),
            )
            caps = Caps(_ACKNOWLEDGEMENT_REPLY_BYTES, self._limits.max_header_bytes)
            await post(address, request, caps=caps, clock=self._clock)

    def next_nonce(self) -> int:
        """Return the wall time in ns, larger than any nonce this client has used."""
        self._last_nonce_ns = max(self._last_nonce_ns + 1, self._clock.time_ns())
        return self._last_nonce_ns

    def sign(self, target: Target, path: str, body: bytes, *, body_sha256: str, nonce_ns: int) -> Post:
        """Return a request signed for this target alone."""
        headers = sign_request(
            self._keypair, path=path, body_sha256=body_sha256, receiver=target.hotkey, nonce_ns=nonce_ns
        )
        return Post(path, headers, body)

    async def ask(self, target: Target, query: Query, nonce_ns: int, caps: Caps) -> Reply:
        """Send one query. Raises `Refused` with the code."""
        address = check_address(target.host, target.port, allow_private=self._allow_private)
        request = self.sign(
            target, messages.CHALLENGE_PATH, query.body, body_sha256=query.body_sha256, nonce_ns=nonce_ns
        )
        return await post(address, request, caps=caps, clock=self._clock)


class _Round:
    """One round: what its tasks share."""

    def __init__(self, client: Client, ends_s: float, caps: Caps, on_arrival: OnArrival) -> None:
        self._client, self._ends_s, self._caps, self._on_arrival = client, ends_s, caps, on_arrival
        self._clock = client._clock  # noqa: SLF001 - a part of the client
        self._one_at_a_time = asyncio.Lock()

    async def run(
        self, target: Target, build: Query | Callable[[Target], Query], expired: asyncio.Task[None]
    ) -> Arrival:
        query = build if isinstance(build, Query) else build(target)
        arrival = await self._exchange(target, query, expired)
        async with self._one_at_a_time:
            await self._on_arrival(arrival)
        return replace(arrival, body=None)

    async def _exchange(self, target: Target, query: Query, expired: asyncio.Task[None]) -> Arrival:
        nonce_ns = self._client.next_nonce()
        started_s = self._clock.monotonic_s()
        reply = await self._reply(target, query, nonce_ns, expired)
        ended_s = self._clock.monotonic_s()
        arrival = Arrival(
            target.uid, target.hotkey, Reject.TIMEOUT, _milliseconds(ended_s - started_s), str(nonce_ns)
        )
        if reply is None:
            return replace(arrival, detail="no complete response within the round's deadline")
        if isinstance(reply, Refused):
            return replace(arrival, reject=reply.reject, detail=reply.detail)
        arrival = replace(arrival, response_ms=_milliseconds(reply.received_s - started_s))
        if reply.received_s > self._ends_s:
            return replace(arrival, detail="the last byte came after the deadline")
        return replace(arrival, reject=Reject.OK, body=reply.body, signature=_signature(reply))

    async def _reply(
        self, target: Target, query: Query, nonce_ns: int, expired: asyncio.Task[None]
    ) -> Reply | Refused | None:
        """What came, why it was refused, or None at the deadline.

        A refusal is handed on, not raised again: raised here it would name this frame, and the frame the task
        that keeps it, and what had been read until then would stay until the collector comes by.
        """
        work = asyncio.create_task(self._client.ask(target, query, nonce_ns, self._caps))
        await _until(expired, [work])
        if work.cancelled():
            return None
        error = work.exception()
        if error is None:
            return work.result()
        if not isinstance(error, Refused):
            raise error
        return error.with_traceback(None)


async def _until(expired: asyncio.Task[None], work: Sequence[asyncio.Task[Any]]) -> None:
    """Wait until all work is done or time has expired; leave no task of it running."""
    everything = asyncio.create_task(asyncio.wait(work))
    either: set[asyncio.Task[Any]] = {everything, expired}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in work:
            task.cancel()
        await everything


def _signature(reply: Reply) -> str:
    """The response's signature in hex with 0x; empty where there is not exactly one of that form."""
    values = reply.values(messages.SIGNATURE_HEADER)
    text = "0x" + values[0].removeprefix("0x") if len(values) == 1 else ""
    return text if messages.read_signature(text) else ""


def _delivery(target: Target, task: asyncio.Task[None]) -> Delivery:
    if not task.cancelled() and task.exception() is None:
        return Delivery(target.uid, target.hotkey, delivered=True)
    detail = "no answer in time" if task.cancelled() else str(task.exception())
    _log.debug("acknowledgement to uid %d was not delivered: %s", target.uid, detail)
    return Delivery(target.uid, target.hotkey, delivered=False, detail=detail)


def _milliseconds(seconds: float) -> int:
    return -int(-seconds * 1000 // 1)
