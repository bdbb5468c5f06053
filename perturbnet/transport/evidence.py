"""A signed request, kept: what its receiver shows to a stranger long after its nonce went stale.

The server checks a request's signature, freshness, permit and replay, and then forgets it. A message that
proves something (an acknowledgement) is kept as it came: path, signed headers, body. `verify_signed` checks
it again as the server did, at the moment that its own nonce names; the stranger's clock does not matter.

Source: `bittensor.http_auth` of SDK 11.3; RFC 8785 for the kept form.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bittensor import http_auth, sp_core

from perturbnet.errors import AuthenticationError
from perturbnet.wire import canonical_json, keys

MAX_KEPT_BYTES = 16 * 1024
_KEPT = (
    http_auth.HEADER_VERSION,
    http_auth.HEADER_HOTKEY,
    http_auth.HEADER_RECEIVER,
    http_auth.HEADER_NONCE,
    http_auth.HEADER_CRYPTO,
    http_auth.HEADER_SIGNATURE,
)


@dataclass(frozen=True)
class SignedMessage:
    """A POST request as it was signed; header names in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @classmethod
    def of(cls, path: str, headers: Iterable[tuple[str, str]], body: bytes) -> SignedMessage:
        """Keep what the signature is over, of a request that was verified."""
        kept = {name.lower() for name in _KEPT}
        return cls(path, {name.lower(): text for name, text in headers if name.lower() in kept}, body)

    @property
    def sender(self) -> str:
        """The hotkey that the headers name; true once `verify_signed` has passed."""
        return self.headers.get(http_auth.HEADER_HOTKEY.lower(), "")

    @property
    def receiver(self) -> str:
        """The hotkey it was sent to; true once `verify_signed` has passed."""
        return self.headers.get(http_auth.HEADER_RECEIVER.lower(), "")

    def encode(self) -> bytes:
        """One line of canonical JSON, without its end. The body is text, or it would not be a message."""
        return canonical_json.encode(
            {"body": self.body.decode(), "headers": {**self.headers}, "path": self.path}
        )


def parse_signed(data: bytes) -> SignedMessage:
    """Read one from a stranger; nothing is verified.

    Raises:
        AuthenticationError: too long, or of another form.

    """
    if len(data) > MAX_KEPT_BYTES:
        raise AuthenticationError(f"a kept message of {len(data)} bytes; {MAX_KEPT_BYTES} are allowed")
    try:
        value = canonical_json.decode(data)
    except canonical_json.NotCanonical as error:
        raise AuthenticationError(f"not a kept message: {error.message}") from None
    match value:
        case {"body": str(body), "headers": dict(headers), "path": str(path)} if _plain(headers):
            return SignedMessage(path, headers, body.encode())
    raise AuthenticationError("not a kept message: expected body, headers and path, all text")


def verify_signed(message: SignedMessage) -> int:
    """Check that the sender signed this very message for this receiver; return its nonce, ns since 1970.

    Raises:
        AuthenticationError: it did not.

    """
    nonce = message.headers.get(http_auth.HEADER_NONCE.lower(), "")
    if not (nonce.isascii() and nonce.isdigit() and len(nonce) <= 20):
        raise AuthenticationError(f"MalformedAuth: the nonce {nonce[:40]!r} is no decimal number")
    try:
        caller = http_auth.verify(
            message.headers,
            message.body,
            method="POST",
            path=message.path,
            self_hotkey_ss58=message.receiver,
            nonce_store=_Anew(),
            now_ns=int(nonce),
        )
    except http_auth.AuthError as error:
        raise AuthenticationError(f"{type(error).__name__}: {error}") from None
    if caller.crypto_type != sp_core.CRYPTO_SR25519 or not keys.is_address(caller.hotkey_ss58):
        raise AuthenticationError("MalformedAuth: expected an sr25519 hotkey in ss58 format 42")
    return caller.nonce_ns


def _plain(headers: dict[str, Any]) -> bool:
    return all(isinstance(text, str) for text in headers.values())


class _Anew:
    """Says yes: a message that is shown again is no replay."""

    def check_and_store(self, hotkey_ss58: str, nonce_ns: int) -> bool:  # noqa: ARG002 - the protocol's signature
        return True
