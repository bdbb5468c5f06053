"""The miner's server against senders who misbehave: each is refused with a status, the rest are served."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from bittensor import http_auth, sp_core

from perturbnet import identity, protocol
from perturbnet.errors import PortInUse, TransportError
from perturbnet.protocol import AttackChallenge, AttackResponse
from perturbnet.transport import Handlers, MetagraphPermits, NonceStore, Server, ServerLimits
from tests.unit.transport.peers import (
    MINER,
    NETUID,
    PIXELS,
    STRANGER,
    VALIDATOR,
    Seen,
    acknowledgement,
    answer,
    challenge,
    request,
    send,
    serving,
    signed_headers,
    signed_request,
)

pytestmark = pytest.mark.anyio

SECOND = 1_000_000_000


class Neuron:
    def __init__(self, *, permit: bool, stake_rao: int) -> None:
        self.validator_permit, self.stake_rao = permit, stake_rao


class Metagraph:
    """A snapshot of three neurons."""

    neurons: ClassVar[dict[str, Neuron]] = {
        VALIDATOR.ss58_address: Neuron(permit=True, stake_rao=1000),
        STRANGER.ss58_address: Neuron(permit=False, stake_rao=10**12),
    }

    def by_hotkey(self, hotkey: str) -> Neuron | None:
        return self.neurons.get(hotkey)


def handlers(work: Any) -> Handlers:
    async def handle(message: AttackChallenge, _caller: str, _received_s: float) -> AttackResponse:
        response: AttackResponse = await work(message)
        return response

    return Handlers(handle, Seen().acknowledgement)


async def test_a_permitted_validator_is_answered_with_a_signature(tmp_path: Path) -> None:
    seen = Seen()
    async with serving(tmp_path, handlers=seen.handlers(), permits=MetagraphPermits(Metagraph)) as server:
        nonce = time.time_ns()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        before_s = time.monotonic()
        writer.write(signed_request(nonce_ns=nonce))
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    headers = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:])
    assert head.startswith(b"HTTP/1.1 200 ")
    assert headers["connection"] == "close"
    assert headers["x-perturb-protocol"] == "2"
    payload = protocol.response_payload(
        netuid=NETUID,
        validator=VALIDATOR.ss58_address,
        challenge_id="c" * 64,
        nonce=str(nonce),
        body_sha256=protocol.body_digest(body),
        pixels_sha256=PIXELS,
    )
    signature = bytes.fromhex(headers["x-perturb-signature"].removeprefix("0x"))
    assert identity.verify(MINER.ss58_address, protocol.RESPONSE_DOMAIN, payload, signature)
    [(message, caller, received_s)] = seen.challenges
    assert message == challenge()
    assert caller == VALIDATOR.ss58_address
    assert before_s <= received_s <= time.monotonic()
    assert server.counts == {200: 1}


async def test_a_tampered_body(tmp_path: Path) -> None:
    body = protocol.encode(challenge())
    async with serving(tmp_path) as server:
        status, said = await send(
            server.port, request(body.replace(b"0.0731", b"0.0732"), signed_headers(body))
        )
    assert (status, "BadSignature" in said) == (401, True)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"receiver_ss58": STRANGER.ss58_address}, "WrongReceiver"),
        ({"receiver_ss58": None}, "WrongReceiver"),
        ({"nonce_ns": time.time_ns() - 3600 * SECOND}, "StaleRequest"),
        ({"nonce_ns": time.time_ns() + 3600 * SECOND}, "StaleRequest"),
        ({"method": "PUT"}, "BadSignature"),
        ({"signer": sp_core.Keypair.create_from_uri("//Validator", sp_core.CRYPTO_ED25519)}, "sr25519"),
    ],
)
async def test_a_request_signed_for_something_else(
    tmp_path: Path, changes: dict[str, Any], name: str
) -> None:
    async with serving(tmp_path) as server:
        status, said = await send(server.port, signed_request(**changes))
    assert status == 401
    assert name in said


async def test_a_signature_for_the_other_path(tmp_path: Path) -> None:
    body = protocol.encode(challenge())
    headers = signed_headers(body, path=protocol.ACKNOWLEDGEMENT_PATH)
    async with serving(tmp_path) as server:
        assert (await send(server.port, request(body, headers)))[0] == 401
        assert (await send(server.port, request(body, headers, path=protocol.CHALLENGE_PATH + "?a=1")))[
            0
        ] == 401


@pytest.mark.parametrize(
    "change",
    [
        {http_auth.HEADER_VERSION: "2"},
        {http_auth.HEADER_NONCE: "1_0"},
        {http_auth.HEADER_NONCE: "-5"},
        {http_auth.HEADER_NONCE: "9" * 5000},
        {http_auth.HEADER_HOTKEY: "nobody"},
        {http_auth.HEADER_SIGNATURE: "0x00"},
        {http_auth.HEADER_SIGNATURE: "zz"},
        {http_auth.HEADER_CRYPTO: "rot13"},
    ],
)
async def test_malformed_signature_headers(tmp_path: Path, change: dict[str, str]) -> None:
    body = protocol.encode(challenge())
    async with serving(tmp_path) as server:
        status, _ = await send(server.port, request(body, {**signed_headers(body), **change}))
    assert status == 401


async def test_a_repeated_signature_header(tmp_path: Path) -> None:
    body = protocol.encode(challenge())
    headers = signed_headers(body)
    async with serving(tmp_path) as server:
        twice = request(body, {**headers, "x-bittensor-nonce": headers[http_auth.HEADER_NONCE]})
        status, said = await send(server.port, twice)
    assert (status, "appears 2 times" in said) == (401, True)


async def test_one_key_has_one_name(tmp_path: Path) -> None:
    """Another ss58 format of the same key would have nonces and a rate of its own."""

    class Renamed:
        crypto_type = sp_core.CRYPTO_SR25519
        public_key = VALIDATOR.public_key
        ss58_address = sp_core.ss58_encode(bytes(VALIDATOR.public_key), 0)

        def sign(self, message: bytes) -> bytes:
            return bytes(VALIDATOR.sign(message))

    async with serving(tmp_path) as server:
        status, said = await send(server.port, signed_request(signer=Renamed()))
    assert (status, "format 42" in said) == (401, True)


async def test_no_signature_at_all(tmp_path: Path) -> None:
    seen = Seen()
    async with serving(tmp_path, handlers=seen.handlers()) as server:
        assert (await send(server.port, request(protocol.encode(challenge()), {})))[0] == 401
    assert not seen.challenges


async def test_a_replay_is_refused_also_by_the_next_process(tmp_path: Path) -> None:
    once = signed_request()
    async with serving(tmp_path) as server:
        assert (await send(server.port, once))[0] == 200
        status, said = await send(server.port, once)
        assert (status, "ReplayedRequest" in said) == (401, True)
    async with serving(tmp_path) as server:
        status, said = await send(server.port, once)
        assert (status, "ReplayedRequest" in said) == (401, True)
        assert (await send(server.port, signed_request()))[0] == 200


async def test_simultaneous_replays_are_taken_once(tmp_path: Path) -> None:
    once = signed_request()
    async with serving(tmp_path) as server:
        statuses = await asyncio.gather(*[send(server.port, once) for _ in range(8)])
    assert sorted(status for status, _ in statuses) == [200] + [401] * 7


async def test_a_hotkey_without_a_permit_leaves_no_trace(tmp_path: Path) -> None:
    seen = Seen()
    async with serving(tmp_path, handlers=seen.handlers(), permits=MetagraphPermits(Metagraph)) as server:
        for signer in (STRANGER, MINER):
            status, said = await send(server.port, signed_request(signer=signer))
            assert status == 403
            assert signer.ss58_address in said
    assert not seen.challenges
    store = NonceStore(tmp_path / "nonces.sqlite")
    assert len(store) == 0
    store.close()


def test_permits_need_a_snapshot_and_enough_stake() -> None:
    hotkey = VALIDATOR.ss58_address
    assert not MetagraphPermits(lambda: None).allowed(hotkey)
    assert MetagraphPermits(Metagraph, min_stake_rao=1000).allowed(hotkey)
    assert not MetagraphPermits(Metagraph, min_stake_rao=1001).allowed(hotkey)


async def test_the_switch_for_open_networks(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        assert (await send(server.port, signed_request(signer=STRANGER)))[0] == 200


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
    body = gzip.compress(protocol.encode(challenge()))
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


async def test_a_failing_handler_costs_one_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_message: AttackChallenge) -> AttackResponse:
        raise RuntimeError("secret of the miner")

    async with serving(tmp_path, handlers=handlers(fail)) as server:
        status, said = await send(server.port, signed_request())
        assert (await send(server.port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 200
    assert status == 500
    assert "secret" not in said
    assert "secret of the miner" in caplog.text


async def test_a_handler_that_answers_another_task_is_stopped(tmp_path: Path) -> None:
    async def other(_message: AttackChallenge) -> AttackResponse:
        return answer(task_id="9-9")

    async with serving(tmp_path, handlers=handlers(other)) as server:
        assert (await send(server.port, signed_request()))[0] == 500


async def test_a_handler_has_the_challenge_s_time(tmp_path: Path) -> None:
    async def slow(message: AttackChallenge) -> AttackResponse:
        await asyncio.sleep(5)
        return answer(message.task_id)

    body = protocol.encode(challenge(timeout_ms=200))
    async with serving(tmp_path, handlers=handlers(slow)) as server:
        started_s = time.monotonic()
        assert (await send(server.port, signed_request(body)))[0] == 504
    assert time.monotonic() - started_s < 3


async def test_a_sender_who_leaves_ends_the_work(tmp_path: Path) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work(_message: AttackChallenge) -> AttackResponse:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return answer()

    async with serving(tmp_path, handlers=handlers(work)) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(signed_request(protocol.encode(challenge(timeout_ms=60_000))))
        await asyncio.wait_for(begun.wait(), 5)
        writer.close()
        await asyncio.wait_for(ended.wait(), 5)
        status, _ = await send(server.port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (status, server.counts) == (200, {400: 1, 200: 1})


async def test_an_acknowledgement_arrives(tmp_path: Path) -> None:
    seen = Seen()
    body = protocol.encode(acknowledgement())
    async with serving(tmp_path, handlers=seen.handlers()) as server:
        assert await send(server.port, signed_request(body, path=protocol.ACKNOWLEDGEMENT_PATH)) == (
            200,
            "{}",
        )
        assert (await send(server.port, signed_request(b"{}", path=protocol.ACKNOWLEDGEMENT_PATH)))[0] == 400
    assert seen.acknowledgements == [(acknowledgement(), VALIDATOR.ss58_address)]


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
        keypair=MINER, netuid=NETUID, permits=MetagraphPermits(Metagraph), nonces=store,
        handlers=Seen().handlers(), host="192.0.2.1", port=8091,
    )  # fmt: skip
    with pytest.raises(TransportError, match=r"192\.0\.2\.1"):
        await server.start()
    store.close()


async def test_nonces_kept_for_too_short_a_time_are_an_error(tmp_path: Path) -> None:
    store = NonceStore(tmp_path / "nonces.sqlite", retention_s=30)
    with pytest.raises(ValueError, match="35"):
        Server(
            keypair=MINER, netuid=NETUID, permits=MetagraphPermits(Metagraph), nonces=store,
            handlers=Seen().handlers(),
        )  # fmt: skip
    store.close()


async def test_stopping_waits_for_a_quick_answer_and_cuts_a_slow_one(tmp_path: Path) -> None:
    ended: list[str] = []

    def work(seconds: float) -> Any:
        async def handle(message: AttackChallenge) -> AttackResponse:
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
            await asyncio.sleep(0.1)
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
