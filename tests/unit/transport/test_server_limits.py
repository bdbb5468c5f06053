"""The miner's server and what is too much: bodies, headers, time, connections, requests."""

from __future__ import annotations

import asyncio
import gzip
import time
from pathlib import Path

import pytest

from perturbnet.transport import ServerLimits
from perturbnet.wire import messages
from perturbnet.wire.messages import AttackChallenge, AttackResponse
from tests.support.transport.peers import (
    STRANGER,
    challenge,
    handlers,
    request,
    send,
    serving,
    signed_headers,
    signed_request,
)

pytestmark = pytest.mark.anyio


async def test_a_declared_body_above_the_cap_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    head = request(b"", {"Content-Length": str(8 * 1024 * 1024 + 1)})
    async with serving(tmp_path) as server:
        assert (await send(server.port, head))[0] == 413


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 30, "5, 6"])
async def test_a_malformed_length(tmp_path: Path, length: str) -> None:
    async with serving(tmp_path) as server:
        assert (await send(server.port, request(b"", {"Content-Length": length})))[0] == 400


async def test_a_chunked_body_above_the_cap_is_refused_while_it_is_read(tmp_path: Path) -> None:
    head = b"POST /AttackChallenge HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
    async with serving(tmp_path, limits=ServerLimits(max_body_bytes=10_000)) as server:
        status, _ = await send(
            server.port, head + b"Transfer-Encoding: chunked\r\n\r\n", chunk, chunk, chunk, pause_s=0.02
        )
    assert status == 413


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "identity, gzip"])
async def test_encoded_bodies_are_refused(tmp_path: Path, name: str) -> None:
    body = gzip.compress(messages.encode(challenge()))
    async with serving(tmp_path) as server:
        status, _ = await send(server.port, request(body, {"Content-Encoding": name, **signed_headers(body)}))
    assert status == 415


async def test_another_content_type_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        assert (await send(server.port, request(b"{}", {"Content-Type": "text/plain"})))[0] == 415


@pytest.mark.parametrize("count", [1, 400])
async def test_a_header_bomb(tmp_path: Path, count: int) -> None:
    headers = {f"X-{i}": "a" * (40_000 // count) for i in range(count)}
    async with serving(tmp_path) as server:
        status, _ = await send(server.port, request(b"{}", headers))
        assert status in {400, 431}
        assert (await send(server.port, signed_request()))[0] == 200


async def test_headers_that_arrive_at_once_are_counted_too(tmp_path: Path) -> None:
    async with serving(tmp_path, limits=ServerLimits(max_header_bytes=1000)) as server:
        assert (await send(server.port, request(b"{}", {"X-A": "a" * 1000})))[0] in {400, 431}
        assert (await send(server.port, request(b"{}", {"X-A": "a" * 100})))[0] == 401


async def test_a_slow_body_has_a_deadline(tmp_path: Path) -> None:
    whole = signed_request()
    async with serving(tmp_path, limits=ServerLimits(body_timeout_s=0.2)) as server:
        slow = asyncio.create_task(send(server.port, whole[:-20], *[b" "] * 10, pause_s=0.1))
        assert (await send(server.port, signed_request()))[0] == 200
        assert (await slow)[0] in {0, 408}
        assert server.counts[408] == 1


async def test_a_slow_head_has_a_deadline(tmp_path: Path) -> None:
    async with serving(tmp_path, limits=ServerLimits(head_timeout_s=0.2)) as server:
        started_s = time.monotonic()
        assert await send(server.port, b"POST /AttackChallenge HTTP/1.1\r\n") == (0, "")
        assert await send(server.port, b"") == (0, "")
        assert time.monotonic() - started_s < 2


async def test_a_connection_has_a_longest_life(tmp_path: Path) -> None:
    async def forever(_message: AttackChallenge) -> AttackResponse:
        await asyncio.sleep(60)
        raise AssertionError

    limits = ServerLimits(connection_lifetime_s=0.3)
    async with serving(tmp_path, handlers=handlers(forever), limits=limits) as server:
        assert await asyncio.wait_for(send(server.port, signed_request()), 2) == (0, "")


async def test_one_address_cannot_hold_all_connections(tmp_path: Path) -> None:
    async with serving(tmp_path, limits=ServerLimits(connections_per_address=2)) as server:
        held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        assert await send(server.port, signed_request()) == (0, "")
        for _, writer in held:
            writer.close()
            await writer.wait_closed()
        await asyncio.sleep(0.05)
        assert (await send(server.port, signed_request()))[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b'{"task_id":1,"task_id":2}',
        b'{"a":' + b"9" * 10_000 + b"}",
        b"\xff\xfe{}",
    ],
)
async def test_a_signed_body_that_is_no_challenge(tmp_path: Path, body: bytes) -> None:
    async with serving(tmp_path) as server:
        status, said = await send(server.port, signed_request(body))
    assert status == 400
    assert "bad_message" in said


async def test_a_hotkey_has_a_rate(tmp_path: Path) -> None:
    async with serving(tmp_path, limits=ServerLimits(hotkey_burst=2, hotkey_rate_per_s=0.001)) as server:
        mine = [(await send(server.port, signed_request()))[0] for _ in range(3)]
        other = (await send(server.port, signed_request(signer=STRANGER)))[0]
    assert mine == [200, 200, 429]
    assert other == 200


async def test_an_address_has_a_rate_and_cannot_name_another(tmp_path: Path) -> None:
    async with serving(tmp_path, limits=ServerLimits(address_burst=3, address_rate_per_s=0.001)) as server:
        forwarded = [
            await send(server.port, request(b"{}", {"X-Forwarded-For": f"8.8.8.{i}"})) for i in range(4)
        ]
        assert (await send(server.port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 429
    assert [status for status, _ in forwarded] == [401, 401, 401, 429]
