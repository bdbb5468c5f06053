"""Keys: who signs, over which bytes, and how a signature is checked.

Rules (each a measured hazard of sr25519 as the SDK offers it, see docs/ledger.md)
- Only bytes are signed and verified. The library decodes a `str` that looks like hex first, so `str` is
  refused here.
- `verify(m, sign(<Bytes>m</Bytes>))` is true in the library (browser wallets wrap messages). Every message
  therefore starts with a prefix and a domain, so a text that a wallet was talked into signing is never one of
  ours.
- A signature is not deterministic, so it is evidence and never an identifier.
- Hotkeys are sr25519. The address alone does not tell the scheme, and the verifier has only the address.
"""

from __future__ import annotations

import re
from typing import Protocol

import bittensor_core as sp_core

SIGNATURE_BYTES = 64
_PREFIX = b"perturb/signature/1\n"
_DOMAIN = re.compile(r"[a-z0-9][a-z0-9/._-]{0,99}\Z")


class Keypair(Protocol):
    """The part of the SDK's keypair that this project uses."""

    @property
    def ss58_address(self) -> str:
        """The address, ss58 format 42."""

    @property
    def public_key(self) -> bytes:
        """The 32 bytes of the public key."""

    @property
    def crypto_type(self) -> int:
        """1 for sr25519."""

    def sign(self, payload: bytes) -> bytes:
        """Sign raw bytes; 64 bytes, different each time."""


def message(domain: str, payload: bytes) -> bytes:
    """Return the bytes that are signed: prefix, domain, newline, payload.

    Raises:
        TypeError: `payload` is not bytes.
        ValueError: `domain` is not 1 to 100 characters of `a-z 0-9 / . _ -`.

    """
    if not isinstance(payload, bytes):
        raise TypeError(f"only bytes are signed; got {type(payload).__name__}")
    if not _DOMAIN.match(domain):
        raise ValueError(f"domain {domain!r}: 1 to 100 characters of a-z 0-9 / . _ - are allowed")
    return _PREFIX + domain.encode() + b"\n" + payload


def sign(keypair: Keypair, domain: str, payload: bytes) -> bytes:
    """Sign `payload` for one purpose; 64 bytes.

    Raises:
        TypeError: `payload` is not bytes.
        ValueError: `domain` is malformed.

    """
    return bytes(keypair.sign(message(domain, payload)))


def verify(ss58: str, domain: str, payload: bytes, signature: bytes) -> bool:
    """Whether `signature` is the hotkey `ss58`'s (sr25519) over `payload` for `domain`.

    A malformed address or signature is False, for both come from peers.

    Raises:
        TypeError: `payload` or `signature` is not bytes.

    """
    if not isinstance(signature, bytes):
        raise TypeError(f"a signature is bytes; got {type(signature).__name__}")
    signed = message(domain, payload)
    if len(signature) != SIGNATURE_BYTES or not is_address(ss58):
        return False
    return bool(sp_core.verify(signed, signature, ss58, sp_core.CRYPTO_SR25519))


def is_address(ss58: str) -> bool:
    """Whether `ss58` is an address of this network in its one canonical form (format 42)."""
    try:
        return bool(sp_core.ss58_encode(bytes(sp_core.ss58_decode(ss58)), 42) == ss58)
    except (ValueError, TypeError):
        return False
