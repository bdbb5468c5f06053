"""One random pass over all rows before any repeats, recomputable from what is published.

Rules (design: architecture.md, "Rules of the network")
- An epoch has one 32-byte secret. Its draws are cut into segments of `SEGMENT_DRAWS`; segment j has the key
  `K_j = HMAC-SHA256(secret, "segment" || u32be j)`.
- Draw i swaps the position chosen by `HMAC-SHA256(K_j, "draw" || u32be i || u32be c)` with the last remaining row and takes it
  (a Fisher-Yates shuffle, one step a draw). The first eight bytes are a number; numbers at or above the largest multiple
  of the remaining count are refused and c goes up, so no row is favoured.
- The epoch leaf commits to SHA-256(K_j) of every segment; K_j is published when its segment is over. So an auditor checks
  the order, and no miner knows tomorrow's images.
- The fingerprint is (repository, revision, split, row count, manifest digest). Another fingerprint starts epoch 0.

Memory is one int32 per row; rebuilding a cursor replays the draws before it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perturbnet.errors import PerturbError

SEGMENT_DRAWS = 720
KEY_BYTES = 32


def segment_key(secret: bytes, segment: int) -> bytes:
    """K_j: the key of segment j, 32 bytes."""
    return _hmac(secret, b"segment", segment)


def segment_count(rows: int) -> int:
    """How many segments an epoch over `rows` rows has."""
    return -(-rows // SEGMENT_DRAWS)


def commit_to_keys(secret: bytes, rows: int) -> list[str]:
    """SHA-256 of every K_j, hex, in order: what the epoch leaf publishes."""
    return [hashlib.sha256(segment_key(secret, j)).hexdigest() for j in range(segment_count(rows))]


def opens_commitment(key: bytes, commitment: str) -> bool:
    """Whether `key` is the one an epoch leaf committed to."""
    return hmac.compare_digest(hashlib.sha256(key).hexdigest(), commitment)


def draw_seed(key: bytes, draw: int, purpose: str) -> bytes:
    """32 bytes that belong to one draw and one purpose (freshness, selection), fixed before the epoch began."""
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
        if rows < 1:
            raise PerturbError(f"a traversal needs at least one row, got {rows}")
        self._remaining = np.arange(rows, dtype=np.int32)
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
        left = self.remaining
        if left == 0:
            raise PerturbError("the epoch is over: every row has been drawn")
        chosen = _below(key, self._drawn, left)
        row = int(self._remaining[chosen])
        self._remaining[chosen] = self._remaining[left - 1]
        self._drawn += 1
        return row


class Traversal:
    """An epoch with its secret: what the validator holds."""

    def __init__(self, secret: bytes, rows: int, *, epoch: int = 0, cursor: int = 0) -> None:
        """Rebuild the order up to `cursor` (draws already taken); 0.2 s for 126,689 of them."""
        if len(secret) != KEY_BYTES:
            raise PerturbError(f"an epoch's secret has {KEY_BYTES} bytes, got {len(secret)}")
        if not 0 <= cursor <= rows:
            raise PerturbError(f"cursor {cursor} is outside the epoch's 0 to {rows} draws")
        self.epoch = epoch
        self.rows = rows
        self._secret = secret
        self._order = Order(rows)
        self._keys: dict[int, bytes] = {}
        for _ in range(cursor):
            self.next()

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
    """The rows an auditor expects, in order, from the keys published so far (whole segments, the first first)."""
    order = Order(rows)
    count = min(rows, len(keys) * SEGMENT_DRAWS)
    return [order.take(keys[index // SEGMENT_DRAWS]) for index in range(count)]


def _below(key: bytes, draw: int, bound: int) -> int:
    """A number in [0, bound) without modulo bias."""
    limit = (1 << 64) - (1 << 64) % bound
    counter = 0
    while True:
        block = hmac.digest(key, b"draw" + draw.to_bytes(4, "big") + counter.to_bytes(4, "big"), "sha256")
        number = int.from_bytes(block[:8], "big")
        if number < limit:
            return number % bound
        counter += 1


def _hmac(key: bytes, purpose: bytes, number: int) -> bytes:
    return hmac.digest(key, purpose + number.to_bytes(4, "big"), "sha256")
