"""The tail keeps the latest rounds and no more, and agrees with the fold wherever both know something."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from perturbnet.ledger import Entry, fold
from perturbnet.ledger.leaves import ChallengeLeaf, ReceiptLeaf
from perturbnet.overview import Tail
from perturbnet.overview.tail import KEEP_ROUNDS
from tests.support.ledger.samples import plain
from tests.support.validator.world import copycat, good, junk, make_world, silent


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    folder: Path = tmp_path_factory.mktemp("tail")
    world = make_world(folder, miners=4, PERTURB_HISTORY_SIZE="5")
    world.courier.answers = {1: good, 2: copycat, 3: junk, 4: silent}
    return world.run(30)


def test_it_keeps_the_latest_rounds(entries: list[Entry]) -> None:
    tail = Tail()
    tail.look(entries)
    latest = tail.latest()
    challenges = [entry.leaf for entry in entries if isinstance(entry.leaf, ChallengeLeaf)]
    assert [found.number for found in latest] == list(range(29, 29 - KEEP_ROUNDS, -1))
    assert [found.task_id for found in latest] == [leaf.task_id for leaf in challenges[:-25:-1]]
    assert all(found.counted is True for found in latest)
    assert [answer.reject for answer in latest[0].answers] == ["ok", "linf_low", "bad_message", "timeout"]
    assert tail.next == len(entries)


def test_a_mean_over_time_ends_where_the_fold_is(entries: list[Entry]) -> None:
    tail = Tail()
    tail.look(entries)
    miners = fold(entries).miners
    for series in tail.series([1, 2, 3], window=5):
        scores = miners[series.uid].scores_ppb
        assert series.points[-1] == (29, sum(scores) // len(scores))
        assert len(series.points) == miners[series.uid].processed


def test_piece_by_piece_is_the_same(entries: list[Entry]) -> None:
    whole, pieces = Tail(), Tail()
    whole.look(entries)
    for entry in entries:
        pieces.look([entry])
    assert (pieces.latest(), pieces.series([1], 5), pieces.accepted_block) == (
        whole.latest(),
        whole.series([1], 5),
        whole.accepted_block,
    )


def test_it_may_begin_inside_a_round(entries: list[Entry]) -> None:
    rounds = defaultdict(list)
    for entry in entries:
        if isinstance(entry.leaf, ReceiptLeaf):
            rounds[entry.leaf.round].append(entry.position)
    middle = rounds[20][1]
    tail = Tail(next=middle)
    tail.look(entries[middle:])
    assert [found.number for found in tail.latest()] == list(range(29, 20, -1))


def test_an_open_round_is_shown_as_open(entries: list[Entry]) -> None:
    last = next(e.position for e in reversed(entries) if isinstance(e.leaf, ChallengeLeaf))
    tail = Tail()
    tail.look(entries[: last + 3])
    assert (tail.latest()[0].counted, len(tail.latest()[0].answers)) == (None, 2)
    assert tail.latest()[1].counted is True


def test_a_round_without_success_does_not_count(tmp_path: Path) -> None:
    world = make_world(tmp_path, miners=2)
    world.courier.answers = {1: silent, 2: silent}
    tail = Tail()
    tail.look(world.run(2))
    assert [found.counted for found in tail.latest()] == [False, False]
    assert tail.series([1], 5)[0].points == ()


def test_weights_that_were_refused_do_not_count_as_accepted(entries: list[Entry]) -> None:
    tail = Tail()
    tail.look(entries)
    assert tail.last_submission is not None
    assert tail.accepted_block == tail.last_submission.block
    submission = next(e for e in reversed(entries) if e.leaf == tail.last_submission)
    refused = type(tail.last_submission)(tail.last_submission.weights, 999, "rejected", "TooFast")
    tail.look([Entry(submission.position, submission.hash, refused)])
    assert tail.accepted_block != 999


def test_what_never_counts_is_in_no_mean() -> None:
    """An answer that the validator itself cut short: the fold leaves it out, and so does the chart."""
    leaves = [
        plain(ChallengeLeaf, round=0, asked=[1, 2]),
        plain(ReceiptLeaf, challenge=0, round=0, uid=1, reject="ok", score_ppb=5),
        plain(ReceiptLeaf, challenge=0, round=0, uid=2, reject="interrupted", score_ppb=0),
    ]
    tail = Tail()
    tail.look(Entry(position, "", leaf) for position, leaf in enumerate(leaves))
    assert [series.points for series in tail.series([1, 2], 5)] == [((0, 5),), ()]
