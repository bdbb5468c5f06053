"""Canonical JSON: one value, one sequence of bytes (RFC 8785, restricted to what a ledger may hold).

Rules
- Objects, arrays, strings, integers within ±(2^53 - 1), booleans and null. Floats are refused: nothing that
  is hashed may depend on how a float is printed.
- Keys are sorted by UTF-16 code units (RFC 8785, 3.2.3); no white space; the escapes of section 3.2.2.2.
- Decoding refuses duplicate keys and any text that is not already canonical.
- At most MAX_DEPTH levels, both ways: how deep Python can nest differs between versions, and bytes from the
  network must never end in a RecursionError.
- The caller caps the length of what it decodes; an error quotes at most a line of it.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from perturbnet.errors import PerturbError
from perturbnet.wire.digests import sha256_hex

Json = dict[str, Any] | list[Any] | str | int | bool | None
MAX_SAFE_INTEGER = 2**53 - 1
MAX_DEPTH = 64


class NotCanonical(PerturbError):
    """A value or a text that has no canonical form."""


def encode(value: Json) -> bytes:
    """Return the canonical UTF-8 bytes of `value`.

    Raises:
        NotCanonical: a float, an integer beyond ±(2^53 - 1), a key that is not a string, a lone surrogate, or
            more than MAX_DEPTH levels.

    """
    ordered = _ordered(value, MAX_DEPTH)
    text = json.dumps(ordered, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise NotCanonical(f"a string holds a lone surrogate: {error.reason}") from None


def decode(data: bytes) -> Json:
    """Parse canonical bytes.

    Raises:
        NotCanonical: not JSON, a duplicate key, a float, or not the canonical form of what it says.

    """
    try:
        value = json.loads(
            data.decode(), object_pairs_hook=_unique, parse_float=_no_float, parse_constant=_no_float
        )
    except (ValueError, RecursionError) as error:
        raise NotCanonical(f"not JSON: {_quote(str(error))}") from None
    if encode(value) != data:
        raise NotCanonical("the text is not in canonical form (RFC 8785)")
    return value  # type: ignore[no-any-return]


def digest(value: Json) -> str:
    """Hex SHA-256 of the canonical bytes."""
    return sha256_hex(encode(value))


def _ordered(value: Any, levels: int) -> Any:
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        return _safe(value)
    if not isinstance(value, (list, tuple, dict)):
        raise NotCanonical(
            f"{type(value).__name__} {_quote(repr(value))} has no canonical form; use integers and strings"
        )
    if not levels:
        raise NotCanonical(f"nested more than {MAX_DEPTH} levels deep")
    if not isinstance(value, dict):
        return [_ordered(item, levels - 1) for item in value]
    for key in value:
        if not isinstance(key, str):
            raise NotCanonical(f"the key {_quote(repr(key))} is not a string")
    return {key: _ordered(value[key], levels - 1) for key in sorted(value, key=_utf16)}


def _safe(value: int) -> int:
    if abs(value) > MAX_SAFE_INTEGER:
        # Not quoted: Python itself refuses to print integers of more than 4300 digits.
        raise NotCanonical(
            f"an integer of {value.bit_length()} bits is beyond 2^53 - 1; write it as a string"
        )
    return int(value)


def _quote(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


def _utf16(key: str) -> bytes:
    return key.encode("utf-16-be", "surrogatepass")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise NotCanonical(f"the key {_quote(repr(key))} appears twice")
        found[key] = value
    return found


def _no_float(text: str) -> NoReturn:
    raise NotCanonical(f"the number {_quote(text)} is not an integer")
