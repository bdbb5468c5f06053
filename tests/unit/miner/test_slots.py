"""Places: the earliest deadline first, and a share for everybody who waits."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from perturbnet.errors import AttackError
from perturbnet.miner.slots import Slots
from tests.support.fakes import VirtualClock


@dataclass(eq=False)
class One:
    deadline_s: float
    asked: int = 0

    def yield_place(self) -> None:
        self.asked += 1


async def until_asked(one: One) -> None:
    async with asyncio.timeout(5):
        while not one.asked:  # noqa: ASYNC110 - it is asked by a task that looks at the clock now and then
            await asyncio.sleep(0.005)


def test_the_earliest_deadline_gets_the_place_that_is_free() -> None:
    async def main() -> list[One]:
        clock = VirtualClock(0.0)
        slots = Slots(1, 9, clock)
        first, late, early = One(100), One(90), One(50)
        await slots.take(first)
        got: list[One] = []

        async def wait(one: One) -> None:
            await slots.take(one)
            got.append(one)
            slots.free(one)

        waiting = [asyncio.create_task(wait(one)) for one in (late, early)]
        await asyncio.sleep(0.01)
        slots.free(first)
        await asyncio.gather(*waiting)
        assert got == [early, late]
        return got

    asyncio.run(main())


def test_who_has_had_a_share_is_asked_to_end_only_while_others_wait() -> None:
    async def main() -> None:
        clock = VirtualClock(0.0)
        slots = Slots(1, 9, clock)
        first, second = One(20.0), One(20.0)
        await slots.take(first)
        clock.advance(15.0)
        assert first.asked == 0
        waiting = asyncio.create_task(slots.take(second))
        await until_asked(first)  # 15 of 20 s with two who want them
        slots.free(first)
        await waiting
        assert list(slots.searching) == [second]
        assert second.asked == 0

    asyncio.run(main())


def test_nobody_is_asked_before_the_share_is_over() -> None:
    async def main() -> None:
        clock = VirtualClock(0.0)
        slots = Slots(1, 9, clock)
        first = One(20.0)
        await slots.take(first)
        clock.advance(9.0)
        waiting = asyncio.create_task(slots.take(One(20.0)))
        await asyncio.sleep(0.1)
        assert first.asked == 0
        clock.advance(1.5)
        await until_asked(first)
        waiting.cancel()

    asyncio.run(main())


def test_waiting_ends_at_the_deadline_and_when_too_many_wait() -> None:
    async def main() -> None:
        clock = VirtualClock(0.0)
        slots = Slots(1, 1, clock)
        await slots.take(One(20.0))
        waiting = asyncio.create_task(slots.take(One(5.0)))
        await asyncio.sleep(0.01)
        with pytest.raises(AttackError, match="busy: 1 challenges"):
            await slots.take(One(20.0))
        clock.advance(6.0)
        with pytest.raises(AttackError, match="too many challenges at once"):
            await waiting
        assert not slots.waiting

    asyncio.run(main())


def test_a_place_given_in_the_moment_of_cancelling_is_not_lost() -> None:
    async def main() -> None:
        slots = Slots(1, 9, VirtualClock(0.0))
        first, second = One(20.0), One(20.0)
        await slots.take(first)
        waiting = asyncio.create_task(slots.take(second))
        await asyncio.sleep(0.01)
        slots.free(first)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not slots.searching

    asyncio.run(main())
