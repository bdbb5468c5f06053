"""The validator's client against miners who misbehave: each gets the code that fits."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path
from typing import Any

import pytest

from perturbnet.errors import Reject
from perturbnet.transport import Arrival, Query
from perturbnet.wire import messages
from tests.support.transport.peers import (
    IMAGE,
    MINER,
    PIXELS,
    STRANGER,
    Received,
    Seen,
    answer,
    ask,
    challenge,
    client,
    http,
    ignore,
    misbehaving,
    replying,
    serving,
    signature,
    target,
    verdict_on,
    writing,
)

pytestmark = pytest.mark.anyio

GOOD = messages.encode(answer())


async def test_an_honest_answer() -> None:
    arrival = await ask(replying(GOOD))
    assert (arrival.reject, arrival.detail) == (Reject.OK, "")
    assert (arrival.uid, arrival.hotkey) == (0, MINER.ss58_address)
    assert arrival.body == GOOD
    assert verdict_on(arrival).signed_pixels == PIXELS
    assert 0 < arrival.response_ms < 2000
    assert len(arrival.signature) == 130


async def test_a_whole_round_against_the_real_server(tmp_path: Path) -> None:
    seen = Seen()
    async with serving(tmp_path, handlers=seen.handlers()) as server:
        arrivals = await client().query_round(
            [target(server.port, uid=3)],
            lambda asked: Query.of(challenge(task_id=f"0-{asked.uid}")),
            deadline_s=5,
            on_arrival=ignore,
        )
    assert [(arrival.uid, arrival.reject) for arrival in arrivals] == [(3, Reject.OK)]
    assert seen.challenges[0][0].task_id == "0-3"


async def test_a_refusal_of_the_real_server_says_why(tmp_path: Path) -> None:
    async with serving(tmp_path, keypair=STRANGER) as server:  # serves, but for another hotkey
        [arrival] = await client().query_round(
            [target(server.port)], Query.of(challenge()), deadline_s=5, on_arrival=ignore
        )
    assert arrival.reject is Reject.HTTP_ERROR
    assert "401" in arrival.detail
    assert "WrongReceiver" in arrival.detail


async def test_no_image_is_said_honestly() -> None:
    body = messages.encode(answer(image=None))
    arrival = await ask(replying(body, pixels_sha256=None))
    verdict = verdict_on(arrival)
    assert (verdict.reject, verdict.detail, verdict.signed_pixels) == (Reject.NO_IMAGE, "none found", "")


# Signatures.


@pytest.mark.parametrize(
    "changes",
    [
        {"signer": STRANGER},
        {"netuid": 8},
        {"validator": STRANGER.ss58_address},
        {"challenge_id": "d" * 64},
        {"nonce": "1"},
        {"body_sha256": "0" * 64},
        {"pixels_sha256": "0" * 64},
        {"pixels_sha256": None},
    ],
)
async def test_a_signature_over_something_else(changes: dict[str, Any]) -> None:
    arrival = await ask(replying(GOOD, **changes))
    assert (arrival.reject, arrival.body) == (Reject.OK, GOOD)
    verdict = verdict_on(arrival)
    assert (verdict.reject, verdict.signed_pixels) == (Reject.BAD_SIGNATURE, None)


@pytest.mark.parametrize(
    "value", [None, "", "0x", "zz" * 64, "0x" + "0" * 128, "0x" + "A" * 128, "0x" + "0" * 130]
)
async def test_a_signature_that_is_none(value: str | None) -> None:
    headers = {} if value is None else {"X_Perturb_Signature": value}
    arrival = await ask(writing(http(GOOD, **headers)))
    assert arrival.signature == (value if value == "0x" + "0" * 128 else "")
    assert verdict_on(arrival).reject is Reject.BAD_SIGNATURE


async def test_two_signatures_are_none() -> None:
    async def twice(received: Received, writer: asyncio.StreamWriter) -> None:
        good = signature(received, GOOD)
        writer.write(http(GOOD, X_Perturb_Signature=good, x_perturb_signature=good))

    assert verdict_on(await ask(twice)).reject is Reject.BAD_SIGNATURE


async def test_a_body_changed_on_the_way() -> None:
    async def changed(received: Received, writer: asyncio.StreamWriter) -> None:
        body = GOOD.replace(IMAGE.encode(), b"aW1hZ2V=")
        writer.write(http(body, X_Perturb_Signature=signature(received, GOOD)))

    assert verdict_on(await ask(changed)).reject is Reject.BAD_SIGNATURE


async def test_an_answer_recorded_earlier() -> None:
    """The second request has another nonce, so the first one's answer does not fit it."""
    recorded: list[bytes] = []

    async def script(received: Received, writer: asyncio.StreamWriter) -> None:
        recorded.append(http(GOOD, X_Perturb_Signature=signature(received, GOOD)))
        writer.write(recorded[0])

    kept: list[Arrival] = []

    async def keep(arrival: Arrival) -> None:
        kept.append(arrival)

    async with misbehaving(script) as port:
        asker = client()
        for _ in range(2):
            await asker.query_round([target(port)], Query.of(challenge()), deadline_s=2, on_arrival=keep)
    first, second = map(verdict_on, kept)
    assert first.signed_pixels == PIXELS
    assert (second.reject, second.signed_pixels) == (Reject.BAD_SIGNATURE, None)


# Messages.


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"<html>",
        b"[" * 200_000,
        b'{"a":' * 100_000,
        GOOD[:-1] + b',"task_id":"0-17"}',
        GOOD.replace(b"0-17", b"0-18"),
        GOOD.replace(b"c" * 64, b"d" * 64),
        GOOD[:-1] + b',"score":1}',
        GOOD.replace(IMAGE.encode(), b""),
        GOOD.decode().encode("utf-16"),
        GOOD.replace(b"null", b"NaN"),
        GOOD.replace(b"null", b"9" * 100_000),
    ],
)
async def test_a_signed_body_that_is_no_answer(body: bytes) -> None:
    arrival = await ask(replying(body))
    assert (arrival.reject, arrival.body) == (Reject.OK, body)
    verdict = verdict_on(arrival)
    assert (verdict.reject, verdict.signed_pixels) == (Reject.BAD_MESSAGE, None)
    assert len(verdict.detail) < 400


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, identity"])
async def test_an_encoded_body_is_not_decoded(encoding: str) -> None:
    arrival = await ask(writing(http(gzip.compress(GOOD), Content_Encoding=encoding)))
    assert (arrival.reject, arrival.body) == (Reject.BAD_MESSAGE, None)


async def test_another_content_type() -> None:
    assert (await ask(writing(http(GOOD, Content_Type="text/html")))).reject is Reject.BAD_MESSAGE


# Addresses.


@pytest.mark.parametrize(
    ("host", "reject"),
    [
        (None, Reject.NOT_SERVING),
        ("0.0.0.0", Reject.NOT_SERVING),
        ("127.0.0.1", Reject.ADDRESS_REFUSED),
        ("10.1.2.3", Reject.ADDRESS_REFUSED),
        ("169.254.169.254", Reject.ADDRESS_REFUSED),
        ("::ffff:127.0.0.1", Reject.ADDRESS_REFUSED),
        ("localhost", Reject.ADDRESS_REFUSED),
    ],
)
async def test_addresses_that_are_not_dialled(host: str | None, reject: Reject) -> None:
    stored: list[Arrival] = []

    async def store(arrival: Arrival) -> None:
        stored.append(arrival)

    async with misbehaving(replying(GOOD)) as port:
        arrivals = await client(allow_private=False).query_round(
            [target(port, host=host)], Query.of(challenge()), deadline_s=2, on_arrival=store
        )
    assert [arrival.reject for arrival in arrivals] == [reject]
    assert stored == arrivals
