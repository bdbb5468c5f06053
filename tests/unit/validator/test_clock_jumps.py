"""The wall clock is set back or forth while a validator runs: it stamps records, and decides nothing."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from perturbnet.ledger.leaves import ChallengeLeaf, ReceiptLeaf, SubmissionLeaf
from tests.support.auditing.honest import live
from tests.support.fakes import VirtualClock
from tests.support.validator.world import World, make_world

DAY_S = 86_400


@dataclass
class JumpingClock(VirtualClock):
    """Wall time leaps at each look; what measures a duration goes on as ever."""

    leaps_s: list[int] = field(default_factory=list)
    _wall_s: int = 0

    def time_ns(self) -> int:
        if self.leaps_s:
            self._wall_s += self.leaps_s.pop(0)
        return super().time_ns() + self._wall_s * 10**9


async def play(world: World, rounds: int) -> None:
    validator = world.open()
    with closing(validator.journal):
        for _ in range(rounds):
            await validator.rounds.run()
            await validator.rounds.finish_telling()
            await validator.weights.run()
            await world.chain.advance(1)


@pytest.mark.parametrize("leaps_s", [[0, -DAY_S, -400 * DAY_S], [0, DAY_S, 400 * DAY_S], [0, -3600, 7200]])
def test_rounds_and_weights_go_on_as_if_nothing_had_happened(leaps_s: list[int], tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.clock = JumpingClock(leaps_s=list(leaps_s))
    asyncio.run(play(world, 3))
    entries = world.entries()
    stamps = [entry.leaf.created_ms for entry in entries if isinstance(entry.leaf, ChallengeLeaf)]
    moved = [after - before for before, after in pairwise(stamps)]
    assert moved == [leap * 1000 for leap in leaps_s[1:]], "the clock did not jump: the test shows nothing"
    receipts = [entry.leaf for entry in entries if isinstance(entry.leaf, ReceiptLeaf)]
    assert {leaf.reject for leaf in receipts} == {"ok"}
    assert {leaf.response_ms for leaf in receipts} == {500}
    outcomes = [entry.leaf.outcome for entry in entries if isinstance(entry.leaf, SubmissionLeaf)]
    assert outcomes == ["set"] * 3


def test_an_auditor_does_not_mind_stamps_that_go_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall_s = iter(range(2 * 10**9, 0, -(10**7)))
    monkeypatch.setattr(VirtualClock, "time_ns", lambda _self: next(wall_s) * 10**9)
    honest = live(tmp_path, rounds=3)
    assert honest.audit().findings == []
