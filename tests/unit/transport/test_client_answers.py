"""The validator's client and the bytes of an answer: too many, too slow, broken off, not HTTP."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from perturbnet.errors import Reject
from perturbnet.transport import ClientLimits, Query
from perturbnet.wire import messages
from tests.support.transport.peers import (
    Received,
    Script,
    answer,
    ask,
    challenge,
    client,
    http,
    ignore,
    misbehaving,
    replying,
    signature,
    target,
    writing,
)

pytestmark = pytest.mark.anyio

GOOD = messages.encode(answer())

# Sizes.


def endless(head: bytes, piece: bytes) -> Script:
    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()

    return script


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "script",
    [
        endless(HEAD + b"\r\n", b" " * 65536),
        endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65536 + b"\r\n"),
        endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 1000),
        endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1", b"0" * 1000),
        endless(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 100),
        writing(HEAD + b"Content-Length: 100001\r\n\r\n"),
    ],
    ids=["until close", "chunks", "tiny chunks", "a chunk's size", "interim responses", "declared"],
)
async def test_an_endless_answer_ends_at_the_cap(script: Script) -> None:
    started_s = time.monotonic()
    arrival = await ask(script, deadline_s=10, limits=ClientLimits(max_response_bytes=100_000))
    assert arrival.reject in {Reject.BODY_TOO_LARGE, Reject.HTTP_ERROR}
    assert arrival.body is None
    assert time.monotonic() - started_s < 5


@pytest.mark.parametrize("room", [0, 1])
async def test_the_cap_is_exact_and_a_round_may_tighten_it(room: int) -> None:
    async with misbehaving(replying(GOOD)) as port:
        [arrival] = await client().query_round(
            [target(port)],
            Query.of(challenge()),
            deadline_s=2,
            on_arrival=ignore,
            max_response_bytes=len(GOOD) - 1 + room,
        )
    assert arrival.reject is (Reject.OK if room else Reject.BODY_TOO_LARGE)


async def test_the_cap_is_exact_without_a_declared_length() -> None:
    for room, reject in ((0, Reject.BODY_TOO_LARGE), (1, Reject.OK)):

        async def until_close(received: Received, writer: asyncio.StreamWriter) -> None:
            writer.write(HEAD + f"X-Perturb-Signature: {signature(received, GOOD)}\r\n\r\n".encode() + GOOD)

        arrival = await ask(until_close, limits=ClientLimits(max_response_bytes=len(GOOD) - 1 + room))
        assert arrival.reject is reject


async def test_the_cap_on_headers_is_a_setting() -> None:
    async def talkative(received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(http(GOOD, X="a" * 100_000, X_Perturb_Signature=signature(received, GOOD)))

    assert (await ask(talkative)).reject is Reject.HTTP_ERROR
    assert (await ask(talkative, limits=ClientLimits(max_header_bytes=200_000))).reject is Reject.OK


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"a" * 40_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"a" * 16_500 + b"\r\n\r\n",
    ],
    ids=["one long", "many", "just too long"],
)
async def test_a_header_bomb(head: bytes) -> None:
    assert (await ask(writing(head))).reject is Reject.HTTP_ERROR


async def test_an_endless_head() -> None:
    arrival = await ask(endless(b"HTTP/1.1 200 OK\r\n", b"X-A: " + b"a" * 1000 + b"\r\n"), deadline_s=10)
    assert arrival.reject is Reject.HTTP_ERROR


# HTTP.


async def test_a_redirect_is_not_followed() -> None:
    visited: list[Received] = []

    async def elsewhere(received: Received, _writer: asyncio.StreamWriter) -> None:
        visited.append(received)

    async with misbehaving(elsewhere) as port:
        location = f"http://127.0.0.1:{port}/AttackChallenge"
        arrival = await ask(writing(http(b"", status="307 Temporary Redirect", Location=location)))
    assert arrival.reject is Reject.HTTP_ERROR
    assert "not followed" in arrival.detail
    assert not visited


@pytest.mark.parametrize(
    "data",
    [
        http(b'{"error":"\x1b[2Jno\n"}', status="500 Oops"),
        http(GOOD, status="201 Created"),
        http(b"x" * 100_000, status="403 Forbidden"),
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"\x00" * 100 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_not_a_200_of_http_1(data: bytes) -> None:
    arrival = await ask(writing(data))
    assert arrival.reject is Reject.HTTP_ERROR
    assert arrival.body is None
    assert arrival.detail.isprintable()
    assert len(arrival.detail) < 400


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200", HEAD + b"Content-Length: 99\r\n\r\n{"])
async def test_a_connection_that_breaks(data: bytes) -> None:
    assert (await ask(writing(data))).reject is Reject.OFFLINE


async def test_a_connection_that_is_reset() -> None:
    async def reset(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        await writer.drain()
        writer.transport.abort()

    assert (await ask(reset)).reject is Reject.OFFLINE


async def test_a_dead_port() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    [arrival] = await client().query_round(
        [target(port)], Query.of(challenge()), deadline_s=2, on_arrival=ignore
    )
    assert arrival.reject is Reject.OFFLINE
    assert f"127.0.0.1:{port}" in arrival.detail


async def test_an_early_refusal_is_heard_while_a_large_challenge_is_sent() -> None:
    heard, gone = asyncio.Event(), asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(http(b"no", status="403 Forbidden"))
        await heard.wait()
        writer.transport.abort()
        await asyncio.sleep(0.001)
        gone.set()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    large = Query.of(challenge(clean_image_b64="A" * 6_000_000))
    [arrival] = await client().query_round(
        [target(server.sockets[0].getsockname()[1])], large, deadline_s=5, on_arrival=ignore
    )
    heard.set()
    await gone.wait()
    server.close()
    assert arrival.reject is Reject.HTTP_ERROR  # not TIMEOUT: the miner read nothing of the body


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await ask(replying(GOOD))).reject is Reject.OK
