"""Keys: bytes only, one purpose per signature."""

from __future__ import annotations

import pytest
from bittensor import sp_core
from hypothesis import given
from hypothesis import strategies as st

from perturbnet.wire.keys import Keypair, is_address, message, sign, verify

DOMAIN = "perturb/test/1"


def keypair(number: int = 1, crypto_type: int = sp_core.CRYPTO_SR25519) -> Keypair:
    made: Keypair = sp_core.Keypair.create_from_seed(number.to_bytes(32, "big"), crypto_type)
    return made


# Signatures ----------------------------------------------------------------------------------------


@given(st.binary(max_size=300))
def test_a_signature_is_verified(payload: bytes) -> None:
    key = keypair()
    assert verify(key.ss58_address, DOMAIN, payload, sign(key, DOMAIN, payload))


def test_another_payload_domain_or_key_is_refused() -> None:
    key = keypair()
    signature = sign(key, DOMAIN, b"payload")
    assert not verify(key.ss58_address, DOMAIN, b"payloae", signature)
    assert not verify(key.ss58_address, "perturb/other/1", b"payload", signature)
    assert not verify(keypair(2).ss58_address, DOMAIN, b"payload", signature)
    assert not verify(key.ss58_address, DOMAIN, b"payload", signature[:-1] + bytes([signature[-1] ^ 1]))


def test_signatures_differ_each_time() -> None:
    key = keypair()
    assert sign(key, DOMAIN, b"payload") != sign(key, DOMAIN, b"payload")


def test_a_text_wrapped_by_a_browser_wallet_is_not_ours() -> None:
    key = keypair()
    wrapped = bytes(key.sign(b"<Bytes>payload</Bytes>"))
    assert sp_core.verify(b"payload", wrapped, key.ss58_address)  # the hazard, in the library
    assert not verify(key.ss58_address, DOMAIN, b"payload", wrapped)
    assert not verify(key.ss58_address, DOMAIN, b"payload", bytes(key.sign(b"payload")))
    inside = sign(key, DOMAIN, b"<Bytes>payload</Bytes>")
    assert not verify(key.ss58_address, DOMAIN, b"payload", inside)


def test_text_that_looks_like_hex_is_not_decoded() -> None:
    key = keypair()
    signature = sign(key, DOMAIN, b"0x616263")
    assert not verify(key.ss58_address, DOMAIN, b"abc", signature)


def test_a_domain_cannot_run_into_the_payload() -> None:
    assert message("a", b"b\nc") != message("a/b", b"c")
    with pytest.raises(ValueError, match="domain"):
        message("a\nb", b"c")


@pytest.mark.parametrize("domain", ["", "A", "a b", "a\n", "/a", "a" * 101, "ä"])
def test_domains_that_are_refused(domain: str) -> None:
    with pytest.raises(ValueError, match="domain"):
        sign(keypair(), domain, b"")


@pytest.mark.parametrize("payload", ["0x00", "text", bytearray(b"x"), memoryview(b"x"), None, 7])
def test_only_bytes_are_signed(payload: object) -> None:
    key = keypair()
    with pytest.raises(TypeError, match="bytes"):
        sign(key, DOMAIN, payload)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="bytes"):
        verify(key.ss58_address, DOMAIN, payload, bytes(64))  # type: ignore[arg-type]


def test_a_signature_given_as_text_is_a_mistake_here() -> None:
    key = keypair()
    with pytest.raises(TypeError, match="bytes"):
        verify(key.ss58_address, DOMAIN, b"", "0x" + sign(key, DOMAIN, b"").hex())  # type: ignore[arg-type]


@pytest.mark.parametrize("signature", [b"", b"x", bytes(63), bytes(64), bytes(65), b"\xff" * 64])
def test_signatures_that_are_none(signature: bytes) -> None:
    assert not verify(keypair().ss58_address, DOMAIN, b"", signature)


@pytest.mark.parametrize("address", ["", "5", "x" * 48, "0x" + "00" * 32, "5" * 10_000, "\x00", "Ä"])
def test_addresses_that_are_none(address: str) -> None:
    assert not is_address(address)
    assert not verify(address, DOMAIN, b"", bytes(64))


def test_the_same_key_under_another_network_is_another_address() -> None:
    key = keypair()
    assert is_address(key.ss58_address)
    elsewhere = sp_core.ss58_encode(key.public_key, 0)
    assert not is_address(elsewhere)
    assert not verify(elsewhere, DOMAIN, b"", sign(key, DOMAIN, b""))


def test_an_ed25519_signature_is_refused() -> None:
    key = keypair(1, sp_core.CRYPTO_ED25519)
    assert not verify(key.ss58_address, DOMAIN, b"", sign(key, DOMAIN, b""))
