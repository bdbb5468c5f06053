"""Rounds and epochs under way: what may follow, in which order, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from perturbnet.ledger.leaves import (
    SegmentLeaf,
    SkipLeaf,
)
from tests.support.ledger.samples import (
    Log,
    epoch,
    refuse,
    segment,
    started,
)


def test_receipt_without_its_challenge_refused() -> None:
    log = started()
    log.add(log.challenge(1, 2))
    receipt = log.receipt(1)
    refuse(log, replace(receipt, challenge=receipt.challenge - 1), "without its open challenge")
    refuse(log, replace(receipt, challenge_id="00"), "without its open challenge")
    refuse(log, replace(receipt, round=7), "round 7, expected 0")
    refuse(log, replace(receipt, uid=3), "uid 3 was not asked")
    log.add(receipt)
    refuse(log, receipt, "has its receipt already")
    log.add(log.receipt(2))
    refuse(log, receipt, "without its open challenge")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"round": 1}, "round 1, expected 0"),
        ({"draw": 1}, "draw 1, expected 0"),
        ({"epoch": 1}, "epoch 1, but the current one is 0"),
        ({"config": 1}, "config of leaf 1, the newest is leaf 0"),
        ({"rules": 2}, "rules of leaf 2, the newest is leaf 1"),
        ({"metagraph": 0}, "metagraph of leaf 0, the newest is leaf 2"),
        ({"asked": [1, 2, 1]}, "a uid is asked twice"),
    ],
)
def test_challenge_out_of_place_refused(change: dict[str, Any], said: str) -> None:
    log = started()
    refuse(log, log.challenge(1, 2, **change), said)


def test_challenge_before_what_it_depends_on_refused() -> None:
    log = Log()
    refuse(log, log.challenge(1), "config of leaf 0, the newest is leaf None")


def test_challenge_inside_an_open_round_refused() -> None:
    log = started()
    log.add(log.challenge(1))
    refuse(log, log.challenge(2), "round 1 begins inside round 0")


def test_skipped_row_takes_its_draw() -> None:
    log = started()
    log.add(SkipLeaf(0, 0, 5, "unreadable"))
    refuse(log, SkipLeaf(0, 0, 5, "unreadable"), "draw 0, expected 1")
    log.add(log.challenge(1, 2))
    assert log.state.epoch is not None
    assert log.state.epoch.cursor == 2
    assert log.state.rounds == 1


def test_no_draw_beyond_the_rows() -> None:
    log = started()
    log.add(*[SkipLeaf(0, draw, 0, "") for draw in range(12)])
    refuse(log, SkipLeaf(0, 12, 0, ""), "draw 12, expected 12 of 12")


def test_epochs_follow_each_other() -> None:
    """No image twice in an epoch: the next begins when all rows were drawn, or are another data set's."""
    log = started()
    refuse(log, epoch(1), "only 0 of its 12 rows")
    refuse(log, epoch(0), "only 0 of its 12 rows")
    log.add(*[SkipLeaf(0, draw, 0, "") for draw in range(12)])
    refuse(log, epoch(0), "epoch 0, expected 1")
    refuse(log, epoch(2), "epoch 2, expected 1")
    log.add(epoch(1))
    refuse(log, epoch(1, fingerprint="other"), "epoch 1, expected 0")
    log.add(epoch(0, fingerprint="other"))
    refuse(log, SkipLeaf(1, 0, 0, ""), "epoch 1, but the current one is 0")
    assert log.state.epoch is not None
    assert (log.state.epoch.cursor, log.state.epoch.segments_revealed) == (0, 0)


def test_first_epoch_is_epoch_0() -> None:
    refuse(Log(), epoch(1), "epoch 1, expected 0")


def test_segment_keys_come_in_order_when_they_are_over() -> None:
    log = started()  # 12 rows in segments of 5: over at 5, 10 and 12
    refuse(log, segment(0), "segment 0 begins at draw 0, and 0 were drawn")
    log.add(*[SkipLeaf(0, draw, 0, "") for draw in range(5)])
    refuse(log, segment(1), "segment 1, expected 0")
    refuse(log, segment(0, of_epoch=1), "epoch 1, but the current one is 0")
    for key in ("00" * 32, "", "zz", segment(1).key):
        refuse(log, SegmentLeaf(0, 0, key), "key not the one committed to")
    log.add(segment(0))
    refuse(log, segment(0), "segment 0, expected 1")
    log.add(*[SkipLeaf(0, draw, 0, "") for draw in range(5, 10)], segment(1))
    refuse(log, segment(2), "segment 2 begins at draw 10, and 10 were drawn")
    log.add(SkipLeaf(0, 10, 0, ""), SkipLeaf(0, 11, 0, ""), segment(2))
    refuse(log, SegmentLeaf(0, 3, "00" * 32), "segment 3 begins at draw 15, and 12 were drawn")


def test_the_key_of_an_open_segment_ends_the_epoch() -> None:
    log = started()  # 12 rows in segments of 5
    log.add(*[SkipLeaf(0, draw, 0, "") for draw in range(7)], segment(0), segment(1))
    refuse(log, SkipLeaf(0, 7, 0, ""), "no more draws: its keys are public of 12")
    refuse(log, segment(2), "segment 2")
    refuse(log, epoch(1), "only 7 of its 12 rows were drawn")
    log.add(epoch(0, fingerprint="f1"), SkipLeaf(0, 0, 0, ""))
