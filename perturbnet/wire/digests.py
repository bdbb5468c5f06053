"""SHA-256 as text: 64 lower-case hex digits, the one form in which anything here is named by its bytes."""

from __future__ import annotations

import hashlib
import re

DIGEST_PATTERN = r"[0-9a-f]{64}"
_DIGEST = re.compile(DIGEST_PATTERN)


def sha256_hex(data: bytes | bytearray | memoryview) -> str:
    """Return the digest of the bytes."""
    return hashlib.sha256(data).hexdigest()


def is_digest(text: str) -> bool:
    """Whether a text has the form of a digest."""
    return _DIGEST.fullmatch(text) is not None
