"""One random pass over all rows before any repeats, recomputable from what is published.

Rules (docs/architecture.md, "Rules of the network")
- An epoch has one 32-byte secret. Its draws are cut into segments of `SEGMENT_DRAWS`; segment j has the key
  `K_j = HMAC-SHA256(secret, "segment" || u32be j)`.
- Draw i swaps the position chosen by `HMAC-SHA256(K_j, "draw" || u32be i || u32be c)` with the last remaining
  row and takes it (a Fisher-Yates shuffle, one step a draw). The first eight bytes are a number; numbers at
  or above the largest multiple of the remaining count are refused and c goes up, so no row is favoured.
- The epoch leaf commits to SHA-256(K_j) of every segment; K_j is published when its segment is over. So an
  auditor checks the order, and no miner knows tomorrow's images.
- The fingerprint is (repository, revision, split, row count, manifest digest). Another one starts epoch 0.

Memory is one int32 per row; rebuilding a cursor replays the draws before it (`benchmarks/traversal.py`). The
order is a constant of the protocol: tests/unit/rules/test_traversal.py pins it.

Source: Fisher and Yates' shuffle in Durstenfeld's form (CACM algorithm 235); HMAC is RFC 2104.
"""

from __future__ import annotations

import hashlib
import hmac
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from perturbnet.errors import PerturbError
from perturbnet.wire.digests import sha256_hex

SEGMENT_DRAWS = 720
KEY_BYTES = 32
MAX_ROWS = 2**31 - 1
_SPAN = 1 << 64  # draws use the first eight bytes of a digest
_BLOCK_BYTES = 64  # SHA-256's
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))


def segment_key(secret: bytes, segment: int) -> bytes:
    """K_j: the key of segment j, 32 bytes."""
    return _hmac(secret, b"segment", segment)


def segment_count(rows: int) -> int:
    """How many segments an epoch over `rows` rows has."""
    return -(-rows // SEGMENT_DRAWS)


def commit_to_keys(secret: bytes, rows: int) -> list[str]:
    """SHA-256 of every K_j, hex, in order: what the epoch leaf publishes."""
    return [sha256_hex(segment_key(secret, j)) for j in range(segment_count(rows))]


def opens_commitment(key: bytes, commitment: str) -> bool:
    """Whether `key` is the one an epoch leaf committed to."""
    return sha256_hex(key) == commitment


def draw_seed(key: bytes, draw: int, purpose: str) -> bytes:
    """32 bytes of one draw for one purpose (freshness, selection), fixed before the epoch began."""
    return _hmac(key, purpose.encode(), draw)


@dataclass(frozen=True)
class Draw:
    """One step of the pass: which draw of the epoch, and the row it takes."""

    epoch: int
    index: int
    row: int

    @property
    def segment(self) -> int:
        """The segment this draw belongs to."""
        return self.index // SEGMENT_DRAWS


class Order:
    """The order of an epoch, drawn one by one; needs only the keys of the segments it passes through."""

    def __init__(self, rows: int) -> None:
        """Start with all rows remaining."""
        if not 1 <= rows <= MAX_ROWS:
            raise PerturbError(f"a traversal needs 1 to {MAX_ROWS} rows, got {rows}")
        self._remaining = array("i", range(rows))
        self._drawn = 0

    @property
    def drawn(self) -> int:
        """How many rows have been taken."""
        return self._drawn

    @property
    def remaining(self) -> int:
        """How many rows are left."""
        return len(self._remaining) - self._drawn

    def take(self, key: bytes) -> int:
        """Take the next row with the key of its segment."""
        return self.take_run(key, 1)[0]

    def take_run(self, key: bytes, count: int) -> list[int]:
        """Take the next `count` rows, all of one segment, with its key."""
        if count > self.remaining:
            raise PerturbError(
                f"the epoch is over: {count} draws wanted, {self.remaining} of its rows are left"
            )
        number_below, rows = keyed_numbers(key), self._remaining
        taken = []
        for draw in range(self._drawn, self._drawn + count):
            last = len(rows) - draw - 1
            chosen = number_below(draw, last + 1)
            taken.append(rows[chosen])
            rows[chosen] = rows[last]
        self._drawn += count
        return taken


class Traversal:
    """An epoch with its secret: what the validator holds."""

    def __init__(self, secret: bytes, rows: int, *, epoch: int = 0, cursor: int = 0) -> None:
        """Rebuild the order up to `cursor` (draws already taken); about 0.25 s for 126,689 of them."""
        if len(secret) != KEY_BYTES:
            raise PerturbError(f"an epoch's secret has {KEY_BYTES} bytes, got {len(secret)}")
        if not 0 <= cursor <= rows:
            raise PerturbError(f"cursor {cursor} is outside the epoch's 0 to {rows} draws")
        self.epoch = epoch
        self.rows = rows
        self._secret = secret
        self._order = Order(rows)
        self._keys: dict[int, bytes] = {}
        for start in range(0, cursor, SEGMENT_DRAWS):
            self._order.take_run(self.key(start // SEGMENT_DRAWS), min(SEGMENT_DRAWS, cursor - start))

    @property
    def cursor(self) -> int:
        """How many draws have been taken."""
        return self._order.drawn

    @property
    def finished(self) -> bool:
        """Whether every row has been drawn once."""
        return self._order.remaining == 0

    def next(self) -> Draw:
        """Take the next row."""
        index = self._order.drawn
        row = self._order.take(self.key(index // SEGMENT_DRAWS))
        return Draw(self.epoch, index, row)

    def key(self, segment: int) -> bytes:
        """K_j of this epoch; the newest is remembered."""
        if segment not in self._keys:
            self._keys = {segment: segment_key(self._secret, segment)}
        return self._keys[segment]


def replay_order(keys: Sequence[bytes], rows: int) -> list[int]:
    """The rows an auditor expects from the keys published so far (whole segments, in order)."""
    order = Order(rows)
    found: list[int] = []
    for key in keys[: segment_count(rows)]:
        found += order.take_run(key, min(SEGMENT_DRAWS, order.remaining))
    return found


def keyed_numbers(key: bytes) -> Callable[[int, int], int]:
    """A function (draw, bound) to a number in [0, bound), without modulo bias, for one segment's key.

    It is HMAC-SHA256(key, "draw" || u32be draw || u32be counter). The key's two blocks are hashed once and
    their states copied, as RFC 2104 suggests in section 4: 720 draws share a key.
    """
    if len(key) != KEY_BYTES:
        raise PerturbError(f"the key of a segment has {KEY_BYTES} bytes, got {len(key)}")
    padded = key.ljust(_BLOCK_BYTES, b"\0")
    inner_copy = hashlib.sha256(padded.translate(_INNER)).copy
    outer_copy = hashlib.sha256(padded.translate(_OUTER)).copy

    def number_below(draw: int, bound: int) -> int:
        limit = _SPAN - _SPAN % bound
        message = b"draw" + draw.to_bytes(4, "big")
        counter = 0
        while True:
            inner, outer = inner_copy(), outer_copy()
            inner.update(message + counter.to_bytes(4, "big"))
            outer.update(inner.digest())
            number = int.from_bytes(outer.digest()[:8], "big")
            if number < limit:
                return number % bound
            counter += 1

    return number_below


def _hmac(key: bytes, purpose: bytes, number: int) -> bytes:
    return hmac.digest(key, purpose + number.to_bytes(4, "big"), "sha256")
