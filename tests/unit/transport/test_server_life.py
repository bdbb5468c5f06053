"""The miner's server from its start to its end: ports, health, what a stop waits for, signals."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from perturbnet.errors import PortInUse, TransportError
from perturbnet.transport import MetagraphPermits, NonceStore, Server
from perturbnet.wire.messages import AttackChallenge, AttackResponse
from tests.support.transport.peers import (
    MINER,
    NETUID,
    Metagraph,
    Seen,
    answer,
    handlers,
    send,
    serving,
    signed_request,
)

pytestmark = pytest.mark.anyio


async def test_health_and_nothing_else(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        status, said = await send(server.port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (status, json.loads(said)) == (200, {"status": "ok", "protocol": 2})
        assert (
            await send(server.port, b"GET /AttackChallenge HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        )[0] == 405
        assert (await send(server.port, b"GET /docs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))[
            0
        ] == 404


async def test_a_port_in_use(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        (tmp_path / "second").mkdir()
        store = NonceStore(tmp_path / "second" / "nonces.sqlite")
        second = Server(
            keypair=MINER,
            netuid=NETUID,
            permits=MetagraphPermits(Metagraph),
            nonces=store,
            handlers=Seen().handlers(),
            host="127.0.0.1",
            port=server.port,
        )
        with pytest.raises(PortInUse) as caught:
            await second.start()
        store.close()
    assert str(server.port) in caught.value.message
    assert "PERTURB_AXON_PORT" in caught.value.hint


async def test_an_address_that_is_not_ours(tmp_path: Path) -> None:
    store = NonceStore(tmp_path / "nonces.sqlite")
    server = Server(
        keypair=MINER,
        netuid=NETUID,
        permits=MetagraphPermits(Metagraph),
        nonces=store,
        handlers=Seen().handlers(),
        host="192.0.2.1",
        port=8091,
    )
    with pytest.raises(TransportError, match=r"192\.0\.2\.1"):
        await server.start()
    store.close()


async def test_nonces_kept_for_too_short_a_time_are_an_error(tmp_path: Path) -> None:
    store = NonceStore(tmp_path / "nonces.sqlite", retention_s=30)
    with pytest.raises(ValueError, match="35"):
        Server(
            keypair=MINER,
            netuid=NETUID,
            permits=MetagraphPermits(Metagraph),
            nonces=store,
            handlers=Seen().handlers(),
        )
    store.close()


async def test_stopping_waits_for_a_quick_answer_and_cuts_a_slow_one(tmp_path: Path) -> None:
    ended: list[str] = []
    begun = asyncio.Event()

    def work(seconds: float) -> Any:
        async def handle(message: AttackChallenge) -> AttackResponse:
            begun.set()
            try:
                await asyncio.sleep(seconds)
            except asyncio.CancelledError:
                ended.append("cut")
                raise
            return answer(message.task_id)

        return handle

    async def one(folder: Path, seconds: float) -> tuple[Awaitable[Any], float]:
        async with serving(folder, handlers=handlers(work(seconds))) as server:
            sent = asyncio.create_task(send(server.port, signed_request()))
            await asyncio.wait_for(begun.wait(), 5)
            begun.clear()
            started_s = time.monotonic()
            await server.stop()
            return sent, time.monotonic() - started_s

    (tmp_path / "cut").mkdir()
    quick, _ = await one(tmp_path, 0.3)
    assert (await quick)[0] == 200
    slow, took_s = await one(tmp_path / "cut", 60)
    await slow
    assert ended == ["cut"]
    assert took_s < 2


async def test_it_starts_again_on_the_same_port(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        assert (await send(server.port, signed_request()))[0] == 200
        await server.stop()
        await server.stop()
        await server.start()
        assert (await send(server.port, signed_request()))[0] == 200
        with pytest.raises(TransportError, match="already"):
            await server.start()


async def test_signals_stay_the_program_s_own(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with serving(tmp_path):
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
