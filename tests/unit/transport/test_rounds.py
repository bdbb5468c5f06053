"""A round: one deadline, nobody waits for another, bytes are handed over as they come; acknowledgements."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from perturbnet.errors import Reject, TransportError
from perturbnet.runtime.clock import SystemClock
from perturbnet.transport import Arrival, ClientLimits, Query
from perturbnet.wire import messages
from tests.support.transport.peers import (
    MINER,
    STRANGER,
    VALIDATOR,
    Received,
    Seen,
    acknowledgement,
    answer,
    challenge,
    client,
    http,
    ignore,
    misbehaving,
    replying,
    serving,
    signature,
    target,
)

pytestmark = pytest.mark.anyio

GOOD = messages.encode(answer())


async def a_byte_at_a_time(received: Received, writer: asyncio.StreamWriter) -> None:
    for byte in http(GOOD, X_Perturb_Signature=signature(received, GOOD)):
        writer.write(bytes([byte]))
        await asyncio.sleep(0.1)


async def silence(_received: Received, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


class SteeredClock:
    """Real monotonic time plus an offset; a sleep ends when the test says so."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self.wake = asyncio.Event()

    def monotonic_s(self) -> float:
        return time.monotonic() + self.ahead_s

    def time_ns(self) -> int:
        return time.time_ns()

    async def sleep(self, seconds: float) -> None:
        await self.wake.wait()


async def test_a_slow_miner_delays_neither_the_others_nor_the_round() -> None:
    order: list[int] = []
    at_ms: dict[int, float] = {}
    started_s = time.monotonic()

    async def store(arrival: Arrival) -> None:
        order.append(arrival.uid)
        at_ms[arrival.uid] = (time.monotonic() - started_s) * 1000

    async with (
        misbehaving(a_byte_at_a_time) as slow,
        misbehaving(silence) as silent,
        misbehaving(replying(GOOD)) as good,
    ):
        targets = [
            target(slow, uid=0),
            target(silent, uid=1),
            *[target(good, uid=uid) for uid in range(2, 12)],
        ]
        arrivals = await client().query_round(
            targets, Query.of(challenge()), deadline_s=2.0, on_arrival=store
        )
    took_s = time.monotonic() - started_s
    assert [arrival.uid for arrival in arrivals] == list(range(12))
    assert [arrival.reject for arrival in arrivals] == [Reject.TIMEOUT] * 2 + [Reject.OK] * 10
    assert sorted(order[:10]) == list(range(2, 12))
    assert max(at_ms[uid] for uid in range(2, 12)) < 1900
    assert 2.0 <= took_s < 4.0
    assert all(2000 <= arrival.response_ms < 4000 for arrival in arrivals[:2])
    assert all(arrival.body is None for arrival in arrivals[:2])


async def test_the_deadline_is_the_injected_clock_s() -> None:
    clock = SteeredClock()

    async def late(received: Received, writer: asyncio.StreamWriter) -> None:
        clock.ahead_s = 20.5  # the last byte comes after the deadline, before the timer is heard
        await replying(GOOD)(received, writer)

    async with misbehaving(late) as port:
        [arrival] = await client(clock=clock).query_round(
            [target(port)], Query.of(challenge()), deadline_s=20, on_arrival=ignore
        )
    assert (arrival.reject, arrival.body) == (Reject.TIMEOUT, None)
    assert arrival.response_ms >= 20_500

    clock, asked = SteeredClock(), asyncio.Event()

    async def asked_in_vain(received: Received, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await silence(received, writer)

    async with misbehaving(asked_in_vain) as port:
        round_ = asyncio.create_task(
            client(clock=clock).query_round(
                [target(port)], Query.of(challenge()), deadline_s=20, on_arrival=ignore
            )
        )
        await asyncio.wait_for(asked.wait(), 5)
        assert not round_.done()
        clock.wake.set()
        [arrival] = await asyncio.wait_for(round_, 1)
    assert arrival.reject is Reject.TIMEOUT


async def test_the_response_time_is_that_of_the_last_byte() -> None:
    async def in_two_parts(received: Received, writer: asyncio.StreamWriter) -> None:
        whole = http(GOOD, X_Perturb_Signature=signature(received, GOOD))
        writer.write(whole[:-1])
        await asyncio.sleep(0.3)
        writer.write(whole[-1:])

    async with misbehaving(in_two_parts) as slow, misbehaving(replying(GOOD)) as quick:
        arrivals = await client().query_round(
            [target(slow), target(quick, uid=1)], Query.of(challenge()), deadline_s=3, on_arrival=ignore
        )
    assert [arrival.reject for arrival in arrivals] == [Reject.OK, Reject.OK]
    assert 300 <= arrivals[0].response_ms < 2500
    assert arrivals[1].response_ms < arrivals[0].response_ms


async def test_arrivals_are_handed_over_one_at_a_time_and_past_the_deadline() -> None:
    inside = 0
    stored: list[int] = []

    async def slow_store(arrival: Arrival) -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        await asyncio.sleep(0.15)
        stored.append(arrival.uid)
        inside -= 1

    async with misbehaving(replying(GOOD)) as port:
        arrivals = await client().query_round(
            [target(port, uid=uid) for uid in range(5)],
            Query.of(challenge()),
            deadline_s=0.5,
            on_arrival=slow_store,
        )
    assert sorted(stored) == list(range(5))
    assert [arrival.reject for arrival in arrivals] == [Reject.OK] * 5


async def test_a_store_that_fails_ends_the_round() -> None:
    async def fail(_arrival: Arrival) -> None:
        raise OSError("disk full")

    async with misbehaving(replying(GOOD)) as port, misbehaving(silence) as silent:
        started_s = time.monotonic()
        with pytest.raises(ExceptionGroup) as caught:
            await client().query_round(
                [target(port), target(silent, uid=1)], Query.of(challenge()), deadline_s=30, on_arrival=fail
            )
        assert time.monotonic() - started_s < 5
    assert caught.group_contains(OSError, match="disk full")


async def test_a_cancelled_round_leaves_nothing_running() -> None:
    asked = asyncio.Event()

    async def asked_in_vain(received: Received, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await silence(received, writer)

    async with misbehaving(asked_in_vain) as port:
        before = asyncio.all_tasks()
        round_ = asyncio.create_task(
            client().query_round([target(port)], Query.of(challenge()), deadline_s=30, on_arrival=ignore)
        )
        await asyncio.wait_for(asked.wait(), 5)
        round_.cancel()
        with pytest.raises(asyncio.CancelledError):
            await round_
        await asyncio.sleep(0.05)
        leftover = {task for task in asyncio.all_tasks() - before if "connected" not in repr(task.get_coro())}
    assert not leftover


async def test_a_round_of_nobody() -> None:
    assert await client().query_round([], Query.of(challenge()), deadline_s=30, on_arrival=ignore) == []


async def test_more_miners_than_connections_are_an_error() -> None:
    asker = client(limits=ClientLimits(max_connections=2))
    with pytest.raises(TransportError, match="3 miners"):
        await asker.query_round([target(1)] * 3, Query.of(challenge()), deadline_s=1, on_arrival=ignore)


async def test_every_request_has_a_nonce_of_its_own() -> None:
    nonces: list[str] = []

    async def note(received: Received, writer: asyncio.StreamWriter) -> None:
        nonces.append(received.nonce)
        await replying(GOOD)(received, writer)

    class StoppedClock(SystemClock):
        def time_ns(self) -> int:
            return 1_700_000_000_000_000_000

    async with misbehaving(note) as port:
        arrivals = await client(clock=StoppedClock()).query_round(
            [target(port, uid=uid) for uid in range(20)],
            Query.of(challenge()),
            deadline_s=5,
            on_arrival=ignore,
        )
    assert len(set(nonces)) == 20
    assert {arrival.nonce for arrival in arrivals} == set(nonces)


async def test_acknowledgements_are_sent_once_and_best_effort(tmp_path: Path) -> None:
    seen = Seen()
    async with serving(tmp_path, handlers=seen.handlers()) as server, misbehaving(silence) as silent:
        started_s = time.monotonic()
        deliveries = await client().send_acknowledgements(
            [
                (target(server.port, uid=0), acknowledgement()),
                (target(silent, uid=1), acknowledgement()),
                (target(1, uid=2), acknowledgement()),
                (target(0, uid=3, host=None), acknowledgement()),
                (target(server.port, uid=4, keypair=STRANGER), acknowledgement()),
            ],
            timeout_s=0.5,
        )
        assert time.monotonic() - started_s < 1.5
    assert [(delivery.uid, delivery.delivered) for delivery in deliveries] == [
        (0, True),
        (1, False),
        (2, False),
        (3, False),
        (4, False),
    ]
    assert deliveries[0].hotkey == MINER.ss58_address
    assert "in time" in deliveries[1].detail
    assert "offline" in deliveries[2].detail
    assert "not_serving" in deliveries[3].detail
    assert "WrongReceiver" in deliveries[4].detail
    assert seen.acknowledgements == [(acknowledgement(), VALIDATOR.ss58_address)]
    assert await client().send_acknowledgements([]) == []
