"""A kept message proves the same to a stranger a year later, and nothing that was changed does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from bittensor import http_auth
from hypothesis import given
from hypothesis import strategies as st

from perturbnet.errors import AuthenticationError
from perturbnet.transport import SignedMessage, parse_signed, verify_signed
from perturbnet.transport.server import Handlers
from perturbnet.wire import messages
from tests.support.transport.peers import (
    MINER,
    STRANGER,
    VALIDATOR,
    Seen,
    acknowledgement,
    send,
    serving,
    signed_request,
)

NONCE = 1_700_000_000_123_456_789


def kept(body: bytes = b'{"a":1}') -> SignedMessage:
    headers = http_auth.sign(
        VALIDATOR,
        method="POST",
        path="/Acknowledgement",
        body=body,
        receiver_ss58=MINER.ss58_address,
        nonce_ns=NONCE,
    )
    return SignedMessage.of("/Acknowledgement", [*headers.items(), ("Cookie", "secret")], body)


def test_what_a_validator_signed_verifies_at_any_time() -> None:
    message = kept()
    assert verify_signed(message) == NONCE
    assert (message.sender, message.receiver) == (VALIDATOR.ss58_address, MINER.ss58_address)
    assert b"secret" not in message.encode()
    assert parse_signed(message.encode()) == message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"body": b'{"a":2}'}, "BadSignature"),
        ({"path": "/AttackChallenge"}, "BadSignature"),
        ({"headers": {"x-bittensor-nonce": str(NONCE + 1)}}, "BadSignature"),
        ({"headers": {"x-bittensor-nonce": "now"}}, "MalformedAuth"),
        ({"headers": {"x-bittensor-hotkey": STRANGER.ss58_address}}, "BadSignature"),
        ({"headers": {"x-bittensor-receiver": STRANGER.ss58_address}}, "BadSignature"),
        ({"headers": {"x-bittensor-crypto": "ed25519"}}, "Auth|BadSignature"),
        ({"headers": {"x-bittensor-signature": ""}}, "MalformedAuth"),
    ],
)
def test_nothing_that_was_changed_verifies(changes: dict[str, object], said: str) -> None:
    message = kept()
    headers = changes.get("headers", {})
    assert isinstance(headers, dict)
    changed = replace(message, **{**changes, "headers": {**message.headers, **headers}})  # type: ignore[arg-type]
    with pytest.raises(AuthenticationError, match=said):
        verify_signed(changed)


@given(st.binary(max_size=200) | st.just(b'{"body":"","headers":{"a":1},"path":""}'))
def test_a_strangers_bytes_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(AuthenticationError, match="kept message"):
        parse_signed(data)


def test_too_long_a_message_is_not_parsed() -> None:
    with pytest.raises(AuthenticationError, match="20000 bytes"):
        parse_signed(b" " * 20_000)


@pytest.mark.anyio
async def test_the_server_hands_on_what_can_be_verified_again(tmp_path: Path) -> None:
    seen: list[SignedMessage] = []

    async def keep(_message: messages.Acknowledgement, signed: SignedMessage) -> None:
        seen.append(signed)

    body = messages.encode(acknowledgement())
    async with serving(tmp_path, handlers=Handlers(Seen().challenge, keep)) as server:
        request = signed_request(body, path=messages.ACKNOWLEDGEMENT_PATH)
        assert (await send(server.port, request))[0] == 200
    assert verify_signed(parse_signed(seen[0].encode())) > 0
    assert json.loads(seen[0].body)["leaf"] == 41
