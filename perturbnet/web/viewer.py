"""The newest overview, read again when it is older than a request wants it; one reading at a time."""

from __future__ import annotations

import threading

from perturbnet.errors import PerturbError
from perturbnet.overview import Feed, Overview
from perturbnet.runtime.clock import Clock, SystemClock

MAX_AGE_S = 2.0


class Viewer:
    """Reads a feed for many requests. What the feed raises goes to whoever asked."""

    def __init__(self, feed: Feed, *, max_age_s: float = MAX_AGE_S, clock: Clock | None = None) -> None:
        """Read nothing yet."""
        self._feed, self._max_age_s, self._clock = feed, max_age_s, clock or SystemClock()
        self._newest: Overview | PerturbError | None = None
        self._read_at_s = 0.0
        self._lock = threading.Lock()

    def overview(self) -> Overview:
        """The overview, at most `max_age_s` old; a failure is kept as long, so it is not asked for anew."""
        with self._lock:
            if self._newest is None or self._clock.monotonic_s() - self._read_at_s > self._max_age_s:
                try:
                    self._newest = self._feed.read()
                except PerturbError as error:
                    self._newest = error
                self._read_at_s = self._clock.monotonic_s()
            if isinstance(self._newest, PerturbError):
                raise self._newest
            return self._newest

    def blob(self, digest: str) -> bytes:
        """A delta that an answer names; raises PerturbError."""
        return self._feed.blob(digest)
