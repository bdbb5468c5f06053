"""The clock as a seam: what measures a deadline or stamps a record is injected, so that replays are exact."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Time as the validator and the miner see it."""

    def monotonic_s(self) -> float:
        """Seconds that never go backwards; for durations and deadlines."""

    def time_ns(self) -> int:
        """Nanoseconds of wall time since 1970; for records and nonces only."""

    async def sleep(self, seconds: float) -> None:
        """Wait without blocking the loop."""


class SystemClock:
    """The machine's own clock."""

    def monotonic_s(self) -> float:
        """See `Clock`."""
        return time.monotonic()

    def time_ns(self) -> int:
        """See `Clock`."""
        return time.time_ns()

    async def sleep(self, seconds: float) -> None:
        """See `Clock`."""
        await asyncio.sleep(seconds)
