"""Randomness that is the same everywhere: SHA-256 of a key and a counter.

No library's generator is used, because none promises its stream across versions.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_WORD = 8
_SPAN = 1 << 64


class SeededNumbers:
    """A stream of integers that depends on `key` and `purpose` only."""

    def __init__(self, key: bytes, purpose: str) -> None:
        """Start the stream HMAC-SHA256(key, purpose)."""
        self._seed = hmac.digest(key, purpose.encode(), "sha256")
        self._counter = 0
        self._words: list[int] = []

    def below(self, limit: int) -> int:
        """Return an integer in [0, limit), 0 < limit <= 2^64, each equally likely.

        Words past the last multiple of the limit are drawn again.
        """
        usable = _SPAN - _SPAN % limit
        while True:
            word = self._word()
            if word < usable:
                return word % limit

    def between(self, low: int, high: int) -> int:
        """Return an integer in [low, high], both included."""
        return low + self.below(high - low + 1)

    def one_of(self, options: Sequence[T]) -> T:
        """Return one of `options`, each equally likely."""
        return options[self.below(len(options))]

    def _word(self) -> int:
        if not self._words:
            block = hashlib.sha256(self._seed + self._counter.to_bytes(_WORD, "big")).digest()
            self._counter += 1
            self._words = [int.from_bytes(block[at : at + _WORD], "big") for at in range(24, -1, -_WORD)]
        return self._words.pop()
