"""The miner's server against senders who misbehave: each is refused with a status, the rest are served."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from bittensor import http_auth, sp_core

from perturbnet.transport import MetagraphPermits, NonceStore
from perturbnet.wire import keys, messages
from perturbnet.wire.messages import AttackChallenge, AttackResponse
from tests.support.transport.peers import (
    MINER,
    NETUID,
    PIXELS,
    STRANGER,
    VALIDATOR,
    Metagraph,
    Seen,
    acknowledgement,
    answer,
    challenge,
    handlers,
    request,
    send,
    serving,
    signed_headers,
    signed_request,
)

pytestmark = pytest.mark.anyio

SECOND = 1_000_000_000


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
    payload = messages.response_payload(
        netuid=NETUID,
        validator=VALIDATOR.ss58_address,
        challenge_id="c" * 64,
        nonce=str(nonce),
        body_sha256=messages.body_digest(body),
        pixels_sha256=PIXELS,
    )
    signature = bytes.fromhex(headers["x-perturb-signature"].removeprefix("0x"))
    assert keys.verify(MINER.ss58_address, messages.RESPONSE_DOMAIN, payload, signature)
    [(message, caller, received_s)] = seen.challenges
    assert message == challenge()
    assert caller == VALIDATOR.ss58_address
    assert before_s <= received_s <= time.monotonic()
    assert server.counts == {200: 1}


async def test_a_tampered_body(tmp_path: Path) -> None:
    body = messages.encode(challenge())
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
    body = messages.encode(challenge())
    headers = signed_headers(body, path=messages.ACKNOWLEDGEMENT_PATH)
    async with serving(tmp_path) as server:
        assert (await send(server.port, request(body, headers)))[0] == 401
        assert (await send(server.port, request(body, headers, path=messages.CHALLENGE_PATH + "?a=1")))[
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
    body = messages.encode(challenge())
    async with serving(tmp_path) as server:
        status, _ = await send(server.port, request(body, {**signed_headers(body), **change}))
    assert status == 401


async def test_a_repeated_signature_header(tmp_path: Path) -> None:
    body = messages.encode(challenge())
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
        assert (await send(server.port, request(messages.encode(challenge()), {})))[0] == 401
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

    body = messages.encode(challenge(timeout_ms=200))
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
        writer.write(signed_request(messages.encode(challenge(timeout_ms=60_000))))
        await asyncio.wait_for(begun.wait(), 5)
        writer.close()
        await asyncio.wait_for(ended.wait(), 5)
        status, _ = await send(server.port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (status, server.counts) == (200, {400: 1, 200: 1})


async def test_an_acknowledgement_arrives(tmp_path: Path) -> None:
    seen = Seen()
    body = messages.encode(acknowledgement())
    async with serving(tmp_path, handlers=seen.handlers()) as server:
        assert await send(server.port, signed_request(body, path=messages.ACKNOWLEDGEMENT_PATH)) == (
            200,
            "{}",
        )
        assert (await send(server.port, signed_request(b"{}", path=messages.ACKNOWLEDGEMENT_PATH)))[0] == 400
    assert seen.acknowledgements == [(acknowledgement(), VALIDATOR.ss58_address)]
