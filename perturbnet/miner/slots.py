"""Who searches and who waits: so many searches at a time, which bounds the memory, the rest by deadline.

Rules
- A place that becomes free goes to the waiting challenge with the earliest deadline.
- While any wait, nobody keeps a place longer than its share: with `waves` = ceil((searching + waiting) /
  places), a search that has had a place for 1 / waves of its own time is asked to end with the best it has.
- More than `most_waiting` challenges do not wait: they are told at once that the miner is busy.
- Everything here happens in the event loop's thread.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import Protocol

from perturbnet.errors import AttackError
from perturbnet.runtime.clock import Clock

LOOK_EVERY_S = 0.05


class Occupant(Protocol):
    """A search: when it should end at the latest, and how it is asked to end."""

    @property
    def deadline_s(self) -> float:
        """On the clock's monotonic scale."""
        ...

    def yield_place(self) -> None:
        """End soon, with the best there is."""
        ...


@dataclass(eq=False)
class _Waiting:
    occupant: Occupant
    place: asyncio.Future[None]


@dataclass
class Slots:
    """The places. `searching` maps who has one to when it got it, on the clock's monotonic scale."""

    places: int
    most_waiting: int
    clock: Clock
    searching: dict[Occupant, float] = field(default_factory=dict)
    waiting: list[_Waiting] = field(default_factory=list)

    async def take(self, occupant: Occupant) -> None:
        """Wait for a place, at most until the deadline.

        Raises:
            AttackError: too many wait already, or the deadline passed.

        """
        if len(self.searching) < self.places and not self.waiting:
            self.searching[occupant] = self.clock.monotonic_s()
            return
        if len(self.waiting) >= self.most_waiting:
            raise AttackError(f"busy: {len(self.waiting)} challenges wait already")
        mine = _Waiting(occupant, asyncio.get_running_loop().create_future())
        self.waiting.append(mine)
        try:
            await self._wait(mine)
        except BaseException:
            if mine.place.done() and not mine.place.cancelled():
                self.free(occupant)
            raise
        finally:
            if mine in self.waiting:
                self.waiting.remove(mine)

    def free(self, occupant: Occupant) -> None:
        """Give a place back; the waiting challenge with the earliest deadline gets it."""
        self.searching.pop(occupant, None)
        while self.waiting and len(self.searching) < self.places:
            first = min(self.waiting, key=lambda one: one.occupant.deadline_s)
            self.waiting.remove(first)
            self.searching[first.occupant] = self.clock.monotonic_s()
            first.place.set_result(None)

    async def _wait(self, mine: _Waiting) -> None:
        while not mine.place.done():
            left_s = mine.occupant.deadline_s - self.clock.monotonic_s()
            if left_s <= 0:
                raise AttackError("out of time before the search began: too many challenges at once")
            self._end_shares()
            await asyncio.wait([mine.place], timeout=min(LOOK_EVERY_S, left_s))

    def _end_shares(self) -> None:
        """Ask those to end who have had their share, as many as wait."""
        now_s = self.clock.monotonic_s()
        waves = math.ceil((len(self.searching) + len(self.waiting)) / self.places)
        over = [
            occupant
            for occupant, began_s in self.searching.items()
            if (now_s - began_s) * waves >= occupant.deadline_s - began_s
        ]
        for occupant in sorted(over, key=lambda one: self.searching[one])[: len(self.waiting)]:
            occupant.yield_place()
