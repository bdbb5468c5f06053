"""The signature of a request, btauth/1, where the digest of the body is known already.

`bittensor.http_auth.sign` hashes the body for each receiver; a round sends one body to a hundred. The form is
`http_auth.build_payload`'s, and a test holds the two side by side.
"""

from __future__ import annotations

from bittensor import http_auth, sp_core

from perturbnet.wire import keys

SCHEME = "sr25519"


def sign_request(
    keypair: keys.Keypair, *, path: str, body_sha256: str, receiver: str, nonce_ns: int
) -> dict[str, str]:
    """Return the headers of a POST of that body to `path`, signed for `receiver` (ss58) alone.

    Raises:
        ValueError: the key is not sr25519.

    """
    if keypair.crypto_type != sp_core.CRYPTO_SR25519:
        raise ValueError(f"crypto type {keypair.crypto_type}; requests are signed with sr25519 (1)")
    sender, nonce = keypair.ss58_address, str(nonce_ns)
    lines = (http_auth.PROTOCOL, SCHEME, "POST", path, body_sha256, nonce, sender, receiver)
    return {
        http_auth.HEADER_VERSION: http_auth.VERSION,
        http_auth.HEADER_HOTKEY: sender,
        http_auth.HEADER_NONCE: nonce,
        http_auth.HEADER_SIGNATURE: "0x" + bytes(keypair.sign("\n".join(lines).encode())).hex(),
        http_auth.HEADER_RECEIVER: receiver,
    }
