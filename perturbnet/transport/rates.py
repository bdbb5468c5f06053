"""Rate limits: one token bucket per key, in bounded memory, on an injected clock.

A bucket holds up to `burst` tokens and gains `per_s` of them a second; a request takes one. Buckets that have
been touched least recently are forgotten first: a forgotten one starts full again, which only an attacker
with more than `max_keys` addresses can make use of, and for such a one the limits on connections hold.
"""

from __future__ import annotations

from collections import OrderedDict

from perturbnet.runtime.clock import Clock


class Rates:
    """Token buckets by key."""

    def __init__(self, per_s: float, burst: int, *, clock: Clock, max_keys: int = 4096) -> None:
        """Allow `burst` requests at once and `per_s` requests a second after that, for each key."""
        self._per_s, self._burst, self._clock, self._max_keys = per_s, burst, clock, max_keys
        self._buckets: OrderedDict[str, tuple[float, float]] = (
            OrderedDict()
        )  # key -> tokens, at monotonic seconds

    def take(self, key: str) -> bool:
        """Take one token; False when there is none."""
        now_s = self._clock.monotonic_s()
        tokens, since_s = self._buckets.pop(key, (float(self._burst), now_s))
        tokens = min(float(self._burst), tokens + (now_s - since_s) * self._per_s)
        allowed = tokens >= 1
        self._buckets[key] = (tokens - 1 if allowed else tokens, now_s)
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)
        return allowed
