"""A request signed over a known digest is what the SDK signs and verifies."""

from __future__ import annotations

import pytest
from bittensor import http_auth, sp_core

from perturbnet.transport.signatures import SCHEME, sign_request
from perturbnet.wire import messages
from tests.support.transport.peers import MINER, STRANGER, VALIDATOR

BODY, PATH, NONCE_NS = b'{"a":1}', "/AttackChallenge", 1_800_000_000_000_000_000


def headers() -> dict[str, str]:
    return sign_request(
        VALIDATOR,
        path=PATH,
        body_sha256=messages.body_digest(BODY),
        receiver=MINER.ss58_address,
        nonce_ns=NONCE_NS,
    )


def verified(body: bytes, receiver: str) -> http_auth.Caller:
    return http_auth.verify(
        headers(), body, method="POST", path=PATH, self_hotkey_ss58=receiver, now_ns=NONCE_NS
    )


def test_the_sdk_accepts_it_for_this_body_and_receiver_alone() -> None:
    caller = verified(BODY, MINER.ss58_address)
    assert (caller.hotkey_ss58, caller.nonce_ns) == (VALIDATOR.ss58_address, NONCE_NS)
    with pytest.raises(http_auth.AuthError):
        verified(BODY + b" ", MINER.ss58_address)
    with pytest.raises(http_auth.AuthError):
        verified(BODY, STRANGER.ss58_address)


def test_the_bytes_that_are_signed_are_the_sdks() -> None:
    payload = http_auth.build_payload(
        scheme=SCHEME,
        method="POST",
        path=PATH,
        body=BODY,
        nonce_ns=NONCE_NS,
        sender_ss58=VALIDATOR.ss58_address,
        receiver_ss58=MINER.ss58_address,
    )
    signature = bytes.fromhex(headers()[http_auth.HEADER_SIGNATURE].removeprefix("0x"))
    assert sp_core.verify(payload, signature, VALIDATOR.ss58_address, sp_core.CRYPTO_SR25519)


def test_the_headers_are_the_sdks() -> None:
    theirs = http_auth.sign(
        VALIDATOR, method="POST", path=PATH, body=BODY, receiver_ss58=MINER.ss58_address, nonce_ns=NONCE_NS
    )
    ours = headers()
    changing = http_auth.HEADER_SIGNATURE  # sr25519 signatures differ each time
    assert {**theirs, changing: ""} == {**ours, changing: ""}


def test_another_scheme_is_refused() -> None:
    key = sp_core.Keypair.create_from_uri("//Validator", sp_core.CRYPTO_ED25519)
    with pytest.raises(ValueError, match="crypto type 0"):
        sign_request(key, path=PATH, body_sha256="0" * 64, receiver=MINER.ss58_address, nonce_ns=1)
