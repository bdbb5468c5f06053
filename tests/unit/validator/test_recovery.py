"""Recovery: a round that was cut short is closed with what was noted, under the rules it was sent under."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import asdict

from perturbnet.errors import (
    ChainTimeout,
    LedgerCorrupt,
)
from perturbnet.ledger import fold
from perturbnet.ledger.leaves import (
    ChallengeLeaf,
    EpochLeaf,
)
from perturbnet.rounds.acknowledgements import read_terms
from tests.support.fakes import BlockEngine, MemorySource
from tests.support.validator.world import (
    Validator,
    copycat,
    good,
    interrupt,
    junk,
    leaves,
    make_world,
    receipts_of,
    session,
)


def test_what_was_noted_is_judged_the_rest_is_interrupted(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    interrupt(world, "after LedgerStore.note_arrival", 2)
    entries = world.run(1)
    receipts = receipts_of(entries, 0)
    assert [receipt.reject for receipt in receipts] == ["ok", "ok", "interrupted"]
    assert fold(entries).miners[3].processed == 0
    assert len(world.courier.asked) == 1
    assert [told.reject for _, told in world.courier.acknowledged] == ["ok", "ok", "interrupted"]


def test_a_damaged_body_is_interrupted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = make_world(tmp_path, miners=3)
    world.courier.answers = {1: good, 2: copycat, 3: junk}
    interrupt(world, "after MemoryCourier.query_round")
    position = fold(world.entries()).open_round.position  # type: ignore[union-attr]
    first, second, _ = world.arrivals(position)
    blobs = world.state_dir / "blobs"
    (blobs / first.body[:2] / first.body).write_bytes(b"damaged")
    (blobs / second.body[:2] / second.body).unlink()
    receipts = receipts_of(world.run(1), 0)
    assert [receipt.reject for receipt in receipts] == ["interrupted", "interrupted", "bad_message"]
    assert "The answer of uid 1 is lost" in caplog.text
    assert "The answer of uid 2 is lost" in caplog.text


def test_recovery_judges_by_the_rules_the_round_was_sent_under(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.courier.answers = {1: good, 2: good}
    interrupt(world, "after MemoryCourier.query_round")
    world.environment |= {"PERTURB_MIN_LINF_DELTA": "0.02", "PERTURB_DUPLICATES": "zero"}
    receipts = receipts_of(world.run(1), 0)
    assert [receipt.reject for receipt in receipts] == ["ok", "ok", "offline"]
    assert receipts[0].score_ppb == receipts[1].score_ppb > 0
    later = receipts_of(world.run(2), 1)
    assert [receipt.reject for receipt in later] == ["linf_low", "linf_low", "offline"]
    first, second = leaves(world, ChallengeLeaf)
    assert first.rules < second.rules


def test_recovery_does_not_ask_another_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = make_world(tmp_path)
    interrupt(world, "after MemoryCourier.query_round")
    world.engine = BlockEngine("other weights")
    receipts = receipts_of(world.run(1), 0)
    assert [receipt.reject for receipt in receipts] == ["interrupted"] * 3
    assert world.engine.calls == []
    assert "Round 0 belongs to another model" in caplog.text


def test_recovery_with_another_data_set(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = make_world(tmp_path)
    interrupt(world, "after MemoryCourier.query_round")
    world.source = MemorySource(name="another")
    entries = world.run(2)
    assert [receipt.reject for receipt in receipts_of(entries, 0)] == ["interrupted"] * 3
    assert "is not the image that was sent" in caplog.text
    assert "The data set changed" in caplog.text
    assert [entry.leaf.reason for entry in entries if isinstance(entry.leaf, EpochLeaf)] == [
        "first",
        "fingerprint_changed",
    ]
    assert fold(entries).rounds == 2


def test_recovery_without_the_row(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = make_world(tmp_path)
    interrupt(world, "after MemoryCourier.query_round")
    world.source.broken = frozenset(range(12))
    session(world, lambda validator: validator.rounds.recover())
    assert [receipt.reject for receipt in receipts_of(world.entries(), 0)] == ["interrupted"] * 3
    assert "cannot be read again" in caplog.text


def test_a_chain_that_goes_silent_before_the_receipts_costs_no_answer(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    block, outages = world.chain.block, [ChainTimeout("block: no answer")]

    async def silent_block() -> int:
        if outages:
            raise outages.pop()
        return await block()

    async def act(validator: Validator) -> None:
        world.chain.block = silent_block  # type: ignore[method-assign]
        with pytest.raises(ChainTimeout):
            await validator.rounds.run()
        assert validator.journal.state.open_round is not None
        await validator.rounds.run()

    session(world, act)
    entries = world.entries()
    assert [receipt.reject for receipt in receipts_of(entries, 0)] == ["ok"] * 3
    assert [receipt.reject for receipt in receipts_of(entries, 1)] == ["ok"] * 3
    assert len(world.courier.asked) == 2
    assert fold(entries).open_round is None


def test_recovery_with_nothing_open_does_nothing(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    before = len(world.run(1))
    session(world, lambda validator: validator.rounds.recover())
    assert len(world.entries()) == before


def test_a_challenge_that_asks_a_stranger_is_refused(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    interrupt(world, "before MemoryCourier.query_round")
    [leaf] = leaves(world, ChallengeLeaf)
    journal = world.open().journal
    with pytest.raises(LedgerCorrupt, match=r"uids \[9\] are not in its metagraph leaf"):
        read_terms(journal, ChallengeLeaf(**{**asdict(leaf), "asked": [1, 9]}))
    with pytest.raises(LedgerCorrupt, match="expected a rules leaf at 0, found a config leaf"):
        read_terms(journal, ChallengeLeaf(**{**asdict(leaf), "rules": 0}))
    journal.close()
