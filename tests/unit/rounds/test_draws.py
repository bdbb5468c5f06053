"""Draws: every row once an epoch, across restarts; keys published when their time has come, never before."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perturbnet.datasets import SourceIdentity
from perturbnet.errors import LedgerCorrupt
from perturbnet.ledger import OpenRound
from perturbnet.ledger.journal import Journal
from perturbnet.ledger.leaves import EpochLeaf, SegmentLeaf, SkipLeaf
from perturbnet.rounds.draws import EpochDraws, SeededDraw
from perturbnet.rules.traversal import SEGMENT_DRAWS, draw_seed, opens_commitment, replay_order


def identity(rows: int, revision: str = "1") -> SourceIdentity:
    return SourceIdentity("tests/draws", revision, "train", rows, "0" * 64)


def secret(epoch: int) -> bytes:
    return hashlib.sha256(f"epoch {epoch}".encode()).digest()


Open = Callable[[], Journal]


@pytest.fixture
def reopen(tmp_path: Path) -> Iterator[Open]:
    """Close the journal that is open, and open it again."""
    opened: list[Journal] = []

    def again() -> Journal:
        if opened:
            opened.pop().close()
        opened.append(Journal(tmp_path))
        opened[0].store._db.execute("PRAGMA synchronous=OFF")
        return opened[0]

    yield again
    opened.pop().close()


def take(draws: EpochDraws, count: int) -> list[SeededDraw]:
    """Draw and record; by skips, because they need nothing else."""
    found = []
    for _ in range(count):
        found.append(draws.next())
        draws.skip(found[-1].draw, "test")
    return found


def leaves(journal: Journal, kind: type) -> list[object]:
    return [entry.leaf for entry in journal.store.entries() if isinstance(entry.leaf, kind)]


def test_every_row_once_across_restarts_then_the_next_epoch(reopen: Open) -> None:
    rows = []
    for _ in range(4):
        rows += [one.draw.row for one in take(EpochDraws(reopen(), identity(20), secret), 5)]
    assert sorted(rows) == list(range(20))
    journal = reopen()
    nxt = take(EpochDraws(journal, identity(20), secret), 20)
    assert {one.draw.epoch for one in nxt} == {1}
    assert sorted(one.draw.row for one in nxt) == list(range(20))
    assert [one.draw.row for one in nxt] != rows
    assert [leaf.reason for leaf in leaves(journal, EpochLeaf)] == ["first", "finished"]  # type: ignore[attr-defined]


def test_nothing_is_written_before_the_first_draw(reopen: Open) -> None:
    journal = reopen()
    draws = EpochDraws(journal, identity(5), secret)
    draws.publish_segments()
    assert journal.store.size == 0
    draws.next()
    assert journal.store.size == 1


def test_a_draw_without_a_leaf_is_drawn_again_here_and_after_a_restart(reopen: Open) -> None:
    draws = EpochDraws(reopen(), identity(9), secret)
    take(draws, 2)
    first = draws.next()
    assert draws.next() == first
    assert EpochDraws(reopen(), identity(9), secret).next() == first
    draws = EpochDraws(reopen(), identity(9), secret)
    assert [one.draw.index for one in take(draws, 2)] == [2, 3]
    assert draws.next().draw.index == 4


def test_the_order_and_the_seeds_follow_from_the_published_key(reopen: Open) -> None:
    journal = reopen()
    drawn = take(EpochDraws(journal, identity(7), secret), 7)
    EpochDraws(journal, identity(7), secret).publish_segments()
    [epoch] = leaves(journal, EpochLeaf)
    [segment] = leaves(journal, SegmentLeaf)
    assert isinstance(epoch, EpochLeaf)
    assert isinstance(segment, SegmentLeaf)
    key = bytes.fromhex(segment.key)
    assert opens_commitment(key, epoch.commitments[0])
    assert [one.draw.row for one in drawn] == replay_order([key], 7)
    for one in drawn:
        assert one.freshness_seed == draw_seed(key, one.draw.index, "freshness")
        assert one.selection_seed == draw_seed(key, one.draw.index, "selection")


def test_a_key_is_published_when_its_segment_is_over_not_before(
    reopen: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("perturbnet.rounds.draws", "perturbnet.rules.traversal"):
        monkeypatch.setattr(f"{module}.SEGMENT_DRAWS", 3)
    journal = reopen()
    draws = EpochDraws(journal, identity(8), secret)
    published = []
    for _ in range(8):
        take(draws, 1)
        draws.publish_segments()
        published.append(len(leaves(journal, SegmentLeaf)))
    assert published == [0, 0, 1, 1, 1, 2, 2, 3]
    draws.publish_segments()
    assert len(leaves(journal, SegmentLeaf)) == 3
    [epoch] = leaves(journal, EpochLeaf)
    for segment in leaves(journal, SegmentLeaf):
        assert isinstance(segment, SegmentLeaf)
        assert opens_commitment(bytes.fromhex(segment.key), epoch.commitments[segment.segment])  # type: ignore[attr-defined]


def test_no_key_is_published_while_a_round_is_open(reopen: Open) -> None:
    journal = reopen()
    draws = EpochDraws(journal, identity(2), secret)
    take(draws, 2)
    journal.state.open_round = OpenRound(1, "0" * 64, None)  # type: ignore[arg-type]  # only that there is one
    draws.publish_segments()
    assert leaves(journal, SegmentLeaf) == []
    journal.state.open_round = None
    draws.publish_segments()
    assert len(leaves(journal, SegmentLeaf)) == 1


def test_the_next_epoch_publishes_what_the_last_one_owes(reopen: Open) -> None:
    journal = reopen()
    draws = EpochDraws(journal, identity(4), secret)
    take(draws, 5)
    kinds = [entry.leaf.kind for entry in journal.store.entries()]
    assert kinds == ["epoch", "skip", "skip", "skip", "skip", "segment", "epoch", "skip"]


def test_a_changed_fingerprint_starts_epoch_0_and_says_so(
    reopen: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    take(EpochDraws(reopen(), identity(6), secret), 2)
    journal = reopen()
    drawn = take(EpochDraws(journal, identity(6, revision="2"), secret), 6)
    assert sorted(one.draw.row for one in drawn) == list(range(6))
    assert {(one.draw.epoch, one.draw.index) for one in drawn} == {(0, index) for index in range(6)}
    assert [leaf.reason for leaf in leaves(journal, EpochLeaf)] == ["first", "fingerprint_changed"]  # type: ignore[attr-defined]
    old, new = identity(6).fingerprint[:16], identity(6, revision="2").fingerprint[:16]
    assert f"The data set changed (fingerprint {old}, now {new}): epoch 0 begins anew" in caplog.text
    assert "Epoch 0 begins: 6 rows (fingerprint_changed)" in caplog.text
    caplog.clear()
    EpochDraws(reopen(), identity(6, revision="2"), secret)
    assert "Epoch 0 goes on at draw 6 of 6" in caplog.text


def test_an_epoch_that_a_changed_data_set_ends_still_publishes_its_keys(
    reopen: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("perturbnet.rounds.draws", "perturbnet.rules.traversal"):
        monkeypatch.setattr(f"{module}.SEGMENT_DRAWS", 3)
    take(EpochDraws(reopen(), identity(9), secret), 4)
    journal = reopen()
    EpochDraws(journal, identity(9, revision="2"), secret).next()
    kinds = [entry.leaf.kind for entry in journal.store.entries()]
    assert kinds == ["epoch", "skip", "skip", "skip", "skip", "segment", "segment", "epoch"]
    assert journal.store.secret_of(7) == secret(0)


def test_a_secret_that_is_not_the_epoch_s_is_refused(reopen: Open) -> None:
    journal = reopen()
    take(EpochDraws(journal, identity(6), secret), 1)
    journal.store._db.execute("UPDATE secrets SET secret = ?", (bytes(32),))
    with pytest.raises(LedgerCorrupt, match="does not open the commitments"):
        EpochDraws(journal, identity(6), secret)


def test_a_reason_is_short_and_printable(reopen: Open) -> None:
    journal = reopen()
    draws = EpochDraws(journal, identity(6), secret)
    draws.skip(draws.next().draw, "bad\n\ud800 " + "x" * 500)
    [leaf] = leaves(journal, SkipLeaf)
    assert isinstance(leaf, SkipLeaf)
    assert leaf.reason == ("bad " + "x" * 500)[:200]


def test_segments_are_long_in_earnest() -> None:
    assert SEGMENT_DRAWS == 720
