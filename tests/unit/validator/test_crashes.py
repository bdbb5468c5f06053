"""Crash at every step of two rounds and their weights, open again, go on: nothing lost, nothing repeated."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from perturbnet.errors import Reject
from perturbnet.ledger import ArrivalRow, Entry, fold
from perturbnet.ledger.leaves import (
    ChallengeLeaf,
    MetagraphLeaf,
    ReceiptLeaf,
    SkipLeaf,
    SubmissionLeaf,
    WeightsLeaf,
)
from tests.support.validator.world import Crash, World, good, junk, make_world, receipts_of, silent

ROUNDS = 2
REPEATED = range(59, 88)  # the second round asks and judges by the first one's steps
FIRST_ROW = 10  # the secret of tests is always the same
STEPS = 135  # as many as a run has; `test_the_steps_are_counted` keeps this number true


def make(folder: Path) -> World:
    """Two good miners that send the same image, one that sends junk, one that sends nothing; a broken row."""
    world = make_world(folder, miners=4, PERTURB_KEEP_BODIES_ROUNDS="1")
    world.courier.answers = {1: good, 2: junk, 3: silent, 4: good}
    world.source.broken = frozenset({FIRST_ROW})
    return world


def test_the_steps_are_counted(tmp_path: Path) -> None:
    world = make(tmp_path)
    world.run(ROUNDS)
    assert len(world.faults.steps) == STEPS
    assert len(set(world.faults.steps)) > 20


@pytest.mark.parametrize(
    "at", [pytest.param(at, marks=pytest.mark.slow) if at in REPEATED else at for at in range(STEPS)]
)
def test_a_crash_at_any_step(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda handle: None)  # the process dies here, not the power
    monkeypatch.setattr("perturbnet.validator.weight_setting.DOUBT_BLOCKS", 0)  # two rounds are two blocks
    world = make(tmp_path)
    world.faults.at = at
    with pytest.raises(Crash):
        asyncio.run(world.live(ROUNDS))
    before = world.entries()
    open_round = fold(before).open_round
    noted = world.arrivals(open_round.position) if open_round else []
    after = world.run(ROUNDS + 1)
    assert [entry.hash for entry in after[: len(before)]] == [entry.hash for entry in before]
    check_draws(after)
    check_rounds(after)
    check_questions(world, after)
    check_weights(after)
    if open_round:
        check_recovered(after, open_round.leaf.round, noted)


def check_draws(entries: list[Entry]) -> None:
    """No draw twice, none left out, no row twice; the broken row skipped once."""
    taken = [entry.leaf for entry in entries if isinstance(entry.leaf, (ChallengeLeaf, SkipLeaf))]
    assert [leaf.draw for leaf in taken] == list(range(len(taken)))
    assert len({leaf.row for leaf in taken}) == len(taken)
    assert [leaf.draw for leaf in taken if isinstance(leaf, SkipLeaf)] == [0]


def check_rounds(entries: list[Entry]) -> None:
    """Every challenge has one receipt for each miner it asked, and nothing is open."""
    state = fold(entries)
    assert state.open_round is None
    assert state.rounds == ROUNDS + 1
    for entry in entries:
        if isinstance(entry.leaf, ChallengeLeaf):
            receipts = [other.leaf for other in entries if isinstance(other.leaf, ReceiptLeaf)]
            mine = [receipt.uid for receipt in receipts if receipt.challenge == entry.position]
            assert mine == entry.leaf.asked == [1, 2, 3, 4]
    assert sum(isinstance(entry.leaf, MetagraphLeaf) for entry in entries) == 1


def check_questions(world: World, entries: list[Entry]) -> None:
    """No challenge was sent twice or unrecorded, and every miner was told its own leaf's hash."""
    asked = [challenge.challenge_id for challenge in world.courier.asked]
    assert len(set(asked)) == len(asked)
    assert set(asked) <= {entry.hash for entry in entries if isinstance(entry.leaf, ChallengeLeaf)}
    receipts = {entry.hash: entry.leaf for entry in entries if isinstance(entry.leaf, ReceiptLeaf)}
    for target, told in world.courier.acknowledged:
        leaf = receipts[told.leaf_hash]
        assert (leaf.uid, leaf.hotkey, leaf.challenge_id) == (target.uid, target.hotkey, told.challenge_id)
        assert (leaf.reject, leaf.score_ppb) == (told.reject, told.score_ppb)


def check_weights(entries: list[Entry]) -> None:
    """Every intent has its outcome, and the last of them is on chain."""
    assert fold(entries).pending_weights is None
    intents = [entry.position for entry in entries if isinstance(entry.leaf, WeightsLeaf)]
    outcomes = [entry.leaf for entry in entries if isinstance(entry.leaf, SubmissionLeaf)]
    assert [leaf.weights for leaf in outcomes] == intents
    assert intents
    assert outcomes[-1].outcome == "set"


def check_recovered(entries: list[Entry], number: int, noted: list[ArrivalRow]) -> None:
    """What was noted before the crash is judged; the rest is the validator's own fault."""
    expected = {1: Reject.OK, 2: Reject.BAD_MESSAGE, 3: Reject.TIMEOUT, 4: Reject.OK}
    heard = {row.uid for row in noted}
    receipts = receipts_of(entries, number)
    for receipt in receipts:
        assert receipt.reject == (expected[receipt.uid] if receipt.uid in heard else Reject.INTERRUPTED)
        assert (receipt.score_ppb > 0) == (receipt.reject == Reject.OK)
    same = {receipt.uid: receipt.same_as for receipt in receipts}
    assert same == {1: -1, 2: -1, 3: -1, 4: 1 if {1, 4} <= heard else -1}
