"""Rounds: the normal way, everybody failing, nobody there, what cannot be read, and what is closed later."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import asdict

from perturbnet.errors import (
    ChainTimeout,
    ChallengeError,
    LedgerCorrupt,
    LedgerError,
    ModelError,
    Reject,
)
from perturbnet.freshness import Freshness, apply_freshness
from perturbnet.images import decode_base64, decode_png, pixel_digest
from perturbnet.ledger import BlobStore, fold
from perturbnet.ledger.leaves import (
    ChallengeLeaf,
    EpochLeaf,
    MetagraphLeaf,
    ReceiptLeaf,
    SkipLeaf,
)
from perturbnet.protocol import response_limit_bytes
from perturbnet.receipts import build_task
from perturbnet.scoring import score_verdict
from perturbnet.validator.receipts import describe, read_terms
from perturbnet.verification import verify
from tests.fakes import BlockEngine, MemorySource
from tests.unit.validator.world import (
    Crash,
    Validator,
    World,
    copycat,
    good,
    junk,
    keypair,
    make_world,
    receipts_of,
    silent,
)


def session(world: World, act: Callable[[Validator], Awaitable[Any]]) -> Any:
    """One process in which `act` happens; closed properly."""

    async def main() -> Any:
        validator = world.open()
        try:
            found = await act(validator)
            await validator.rounds.finish_telling()
            return found
        finally:
            validator.journal.close()

    return asyncio.run(main())


def run_once(world: World) -> list[ReceiptLeaf] | None:
    found: list[ReceiptLeaf] | None = session(world, lambda validator: validator.rounds.run())
    return found


def leaves(world: World, kind: type[Any]) -> list[Any]:
    return [entry.leaf for entry in world.entries() if isinstance(entry.leaf, kind)]


# The normal way.


def test_a_normal_round(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = make_world(tmp_path, miners=5)
    world.courier.answers = {1: good, 2: copycat, 3: junk, 4: silent}  # 5 is offline
    receipts = run_once(world)
    assert receipts is not None
    codes = {receipt.uid: receipt.reject for receipt in receipts}
    assert codes == {1: "ok", 2: "linf_low", 3: "bad_message", 4: "timeout", 5: "offline"}
    assert [receipt.uid for receipt in receipts if receipt.score_ppb] == [1]
    assert [receipt.hotkey for receipt in receipts] == [keypair(uid + 1).ss58_address for uid in range(1, 6)]
    text = caplog.text
    assert "Challenge 0-0: row" in text
    assert "Selected 5 miners (5 for exploration): uids [1, 2, 3, 4, 5]" in text
    assert "uid 1: score 0.8" in text
    assert "uid 4: score 0.0000 timeout, 500 ms (on purpose)" in text


def test_a_stranger_can_recompute_a_receipt_from_leaves_and_blobs(tmp_path: Path) -> None:
    world = make_world(tmp_path, miners=1)
    receipts = run_once(world)
    assert receipts is not None
    entries = world.entries()
    state = fold(entries)
    challenge = next(entry for entry in entries if isinstance(entry.leaf, ChallengeLeaf))
    assert isinstance(challenge.leaf, ChallengeLeaf)
    leaf = challenge.leaf
    pixels = MemorySource().read(leaf.row).pixels
    clean = apply_freshness(pixels, Freshness.from_leaf(leaf.freshness))
    assert pixel_digest(clean) == leaf.clean_pixels
    journal = world.open().journal
    rules = read_terms(journal, leaf).rules
    journal.close()
    opened = type("Opened", (), {"leaf": leaf, "hash": challenge.hash})()
    task = build_task(opened, rules, clean)
    body = BlobStore(world.state_dir / "blobs").get(receipts[0].body)
    verdict = verify(task, body, BlockEngine())
    receipt = receipts[0]
    names = ("linf_u8", "changed", "sum_sq", "ssim_ppb", "psnr_micro_db", "label_after", "logits_after")
    assert [getattr(verdict, name) for name in names] == [getattr(receipt, name) for name in names]
    assert receipt.score_ppb == score_verdict(
        verdict, epsilon=leaf.epsilon, rules=rules, response_ms=receipt.response_ms
    )
    assert state.counted_rounds == 1


def test_the_message_is_what_the_leaf_says(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    run_once(world)
    [leaf] = leaves(world, ChallengeLeaf)
    [sent] = world.courier.asked
    assert (sent.task_id, sent.true_label) == (leaf.task_id, leaf.true_label)
    assert sent.epsilon == float(leaf.epsilon)
    assert pixel_digest(decode_png(decode_base64(sent.clean_image_b64))) == leaf.clean_pixels
    assert sent.timeout_seconds == 20.0
    assert sent.model_name == "block-means"


def test_without_freshness_the_plain_image_is_sent(tmp_path: Path) -> None:
    world = make_world(tmp_path, PERTURB_CHALLENGE_AUGMENT="false")
    run_once(world)
    [leaf] = leaves(world, ChallengeLeaf)
    assert leaf.freshness == {}
    sent = decode_png(decode_base64(world.courier.asked[0].clean_image_b64))
    assert np.array_equal(sent, MemorySource().read(leaf.row).pixels)


def test_acknowledgements_name_the_receipt_s_leaf(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.courier.answers = {1: good, 2: silent, 3: copycat}
    run_once(world)
    by_uid = {
        entry.leaf.uid: (entry.hash, entry.leaf)
        for entry in world.entries()
        if isinstance(entry.leaf, ReceiptLeaf)
    }
    assert [target.uid for target, _ in world.courier.acknowledged] == [1, 2, 3]
    for target, told in world.courier.acknowledged:
        leaf_hash, leaf = by_uid[target.uid]
        assert told.leaf_hash == leaf_hash
        assert told.challenge_id == world.courier.asked[0].challenge_id
        assert (told.body_digest or "") == leaf.body
        assert (told.reject, told.score_ppb) == (leaf.reject, leaf.score_ppb)


def test_a_miner_that_does_not_serve_gets_a_receipt_and_no_acknowledgement(tmp_path: Path) -> None:
    world = make_world(tmp_path, miners=1)
    asyncio.run(world.chain.register(keypair(77).ss58_address, keypair(78).ss58_address))
    receipts = run_once(world)
    assert receipts is not None
    assert {receipt.uid: receipt.reject for receipt in receipts} == {1: "ok", 2: "not_serving"}
    assert [target.uid for target, _ in world.courier.acknowledged] == [1]


def test_all_failing_leaves_the_histories_alone(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.courier.answers = {1: copycat, 2: junk}
    receipts = run_once(world)
    assert receipts is not None
    assert all(receipt.score_ppb == 0 for receipt in receipts)
    state = fold(world.entries())
    assert (state.rounds, state.counted_rounds) == (1, 0)
    assert all(miner.processed == 0 for miner in state.miners.values())


def test_identical_pixels_are_recorded_and_judged_once(tmp_path: Path) -> None:
    world = make_world(tmp_path, PERTURB_CHALLENGE_AUGMENT="false")
    world.courier.answers = {1: junk, 2: good, 3: good}
    receipts = run_once(world)
    assert receipts is not None
    assert {receipt.uid: receipt.same_as for receipt in receipts} == {1: -1, 2: -1, 3: 2}
    assert receipts[1].score_ppb == receipts[2].score_ppb > 0
    assert world.engine.calls == [1, 1]  # the challenge, whose label stands, and one answer


@pytest.mark.parametrize(("mode", "share"), [("split", 2), ("zero", 0)])
def test_the_rule_for_duplicates_is_applied(tmp_path: Path, mode: str, share: int) -> None:
    world = make_world(tmp_path, PERTURB_DUPLICATES=mode)
    world.courier.answers = {1: good, 2: good}
    (tmp_path / "alone").mkdir()
    receipts, whole = run_once(world), run_once(make_world(tmp_path / "alone", miners=1))
    assert receipts is not None
    assert whole is not None
    expected = whole[0].score_ppb // share if share else 0
    assert [receipt.score_ppb for receipt in receipts] == [expected, expected, 0]


def test_a_miner_that_never_takes_its_acknowledgement_does_not_hold_up_the_round(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    told = asyncio.Event()
    real = world.courier.send_acknowledgements

    async def slow(notes: Any, **options: Any) -> Any:
        await told.wait()
        return await real(notes, **options)

    async def act(validator: Validator) -> None:
        setattr(world.courier, "send_acknowledgements", slow)  # noqa: B010 - mypy sees a method
        assert await validator.rounds.run() is not None
        assert world.courier.acknowledged == []
        told.set()
        await validator.rounds.run()
        assert len(world.courier.acknowledged) == 3  # before the second round's are sent, the first one's are
        await validator.rounds.finish_telling()
        assert len(world.courier.acknowledged) == 6

    session(world, act)


def test_a_segment_s_key_is_published_with_the_receipts_that_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("perturbnet.validator.draws", "perturbnet.traversal"):
        monkeypatch.setattr(f"{module}.SEGMENT_DRAWS", 2)
    world = make_world(tmp_path, miners=1)
    for _ in range(2):
        run_once(world)
    kinds = [entry.leaf.kind for entry in world.entries()]
    assert kinds[-5:] == ["challenge", "receipt", "challenge", "receipt", "segment"]


# No round.


def test_nobody_to_ask_draws_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = make_world(tmp_path, miners=0)
    assert run_once(world) is None
    assert world.source.reads == []
    assert leaves(world, EpochLeaf) == []
    assert "Nobody to ask" in caplog.text


def test_an_unreadable_row_is_skipped_once_and_recorded(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.source.broken = frozenset(range(12)) - {0, 1, 2, 3}
    entries = world.run(4)
    skips = [entry.leaf for entry in entries if isinstance(entry.leaf, SkipLeaf)]
    asked = [entry.leaf for entry in entries if isinstance(entry.leaf, ChallengeLeaf)]
    assert {leaf.row for leaf in asked} == {0, 1, 2, 3}
    assert all(leaf.reason == f"row {leaf.row} is unreadable: broken on purpose" for leaf in skips)
    assert len({leaf.row for leaf in skips}) == len(skips)
    draws = [leaf.draw for leaf in skips] + [leaf.draw for leaf in asked]
    assert sorted(draws) == list(range(len(skips) + 4))
    assert len(world.source.reads) == len(set(world.source.reads))


def test_only_so_many_attempts_are_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = make_world(tmp_path)
    world.source.broken = frozenset(range(12))
    assert run_once(world) is None
    assert len(leaves(world, SkipLeaf)) == 3
    assert "No challenge came out of 3 attempts" in caplog.text
    assert world.courier.asked == []


def test_an_image_whose_honest_answer_could_not_be_sent_is_skipped(tmp_path: Path) -> None:
    world = make_world(tmp_path, PERTURB_MAX_RESPONSE_BYTES="10000")
    assert run_once(world) is None
    skips = leaves(world, SkipLeaf)
    assert len(skips) == 3
    assert all(leaf.reason.startswith("an honest answer may take ") for leaf in skips)
    assert all(leaf.reason.endswith(" bytes, allowed are 10000") for leaf in skips)


def test_a_body_beyond_what_an_honest_answer_needs_is_refused(tmp_path: Path) -> None:
    world = make_world(tmp_path, miners=2)

    def padded(extra: int) -> Callable[[Any], bytes]:
        def answer(challenge: Any) -> bytes:
            clean = decode_png(decode_base64(challenge.clean_image_b64))
            limit = response_limit_bytes(clean.shape[0], clean.shape[1])
            return good(challenge).ljust(limit + extra)  # JSON may end in white space

        return answer

    world.courier.answers = {1: padded(0), 2: padded(1)}
    receipts = run_once(world)
    assert receipts is not None
    assert [receipt.reject for receipt in receipts] == ["ok", "body_too_large"]


def test_a_draw_that_was_never_recorded_is_drawn_again(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    classify, failures = world.engine.classify, [True]

    def failing(images: Any) -> Any:
        if failures.pop() if failures else False:
            raise ModelError("no memory")
        return classify(images)

    async def act(validator: Validator) -> None:
        world.engine.classify = failing  # type: ignore[method-assign]
        with pytest.raises(ModelError):
            await validator.rounds.run()
        await validator.rounds.run()

    session(world, act)
    assert world.source.reads[0] == world.source.reads[1]
    assert [leaf.draw for leaf in leaves(world, ChallengeLeaf)] == [0]


# Closed later.


def interrupt(world: World, step: str, times: int = 1) -> None:
    """Die at the given occurrence of a step."""
    scout = [name for name in world.faults.steps if name == step]
    assert scout == []
    seen = 0
    hit = world.faults.hit

    def counting(name: str) -> None:
        nonlocal seen
        seen += name == step
        if name == step and seen == times:
            world.faults.hit = hit  # type: ignore[method-assign]
            raise Crash(step)
        hit(name)

    world.faults.hit = counting  # type: ignore[method-assign]
    with pytest.raises(Crash):
        asyncio.run(world.live(1))


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


# State that fails.


def test_a_full_disk_while_answers_come_ends_the_round_by_its_own_name(tmp_path: Path) -> None:
    world = make_world(tmp_path)

    async def act(validator: Validator) -> None:
        async def query_round(*args: Any, on_arrival: Any, **options: Any) -> Any:
            raise ExceptionGroup(
                "unhandled", [ExceptionGroup("inner", [LedgerError("nothing was recorded")])]
            )

        world.courier.query_round = query_round  # type: ignore[method-assign]
        with pytest.raises(LedgerError, match="nothing was recorded"):
            await validator.rounds.run()

    session(world, act)


def test_other_errors_of_a_round_stay_what_they_are(tmp_path: Path) -> None:
    world = make_world(tmp_path)

    async def act(validator: Validator) -> None:
        async def query_round(*args: Any, **options: Any) -> Any:
            raise ExceptionGroup("unhandled", [ZeroDivisionError("oh")])

        world.courier.query_round = query_round  # type: ignore[method-assign]
        with pytest.raises(ExceptionGroup):
            await validator.rounds.run()

    session(world, act)


def test_no_challenge_without_config_and_rules(tmp_path: Path) -> None:
    world = make_world(tmp_path)

    async def act(validator: Validator) -> None:
        validator.journal.state.rules = None
        with pytest.raises(ChallengeError, match="stand in the ledger before the first challenge"):
            await validator.rounds.run()

    session(world, act)


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


# Retention.


def bodies(world: World) -> set[str]:
    return {path.name for path in (world.state_dir / "blobs").rglob("*") if path.is_file()}


def test_bodies_of_old_rounds_are_forgotten_leaves_never(tmp_path: Path) -> None:
    world = make_world(tmp_path, PERTURB_KEEP_BODIES_ROUNDS="2")
    entries = world.run(4)
    kept = {receipt.body for number in (2, 3) for receipt in receipts_of(entries, number)}
    assert bodies(world) == kept
    positions = [entry.position for entry in entries if isinstance(entry.leaf, ChallengeLeaf)]
    assert [len(world.arrivals(position)) for position in positions] == [0, 0, 3, 3]
    assert all(receipt.body for receipt in receipts_of(entries, 0))


def test_a_body_that_a_kept_answer_still_names_stays(tmp_path: Path) -> None:
    world = make_world(tmp_path, miners=1, PERTURB_KEEP_BODIES_ROUNDS="1")
    world.courier.answers = {1: lambda challenge: b"always the same junk"}
    world.run(3)
    assert len(bodies(world)) == 1


def test_lines_for_the_log(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.courier.answers = {1: good}
    interrupt(world, "after LedgerStore.note_arrival", 1)
    first, second, _ = receipts_of(world.run(1), 0)
    assert describe(first, "").startswith("Round 0 uid 1: score 0.8")
    assert f"{first.label_before} -> {first.label_after}, L-inf 1/255" in describe(first, "")
    assert describe(second, "why") == "Round 0 uid 2: score 0.0000 interrupted (why)"
    assert Reject(first.reject) is Reject.OK


def test_the_metagraph_is_recorded_when_it_changes(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.run(2)
    assert len(leaves(world, MetagraphLeaf)) == 1
    asyncio.run(world.chain.register(keypair(50).ss58_address, keypair(51).ss58_address))
    world.run(3)
    first, second = leaves(world, MetagraphLeaf)
    assert len(second.neurons) == len(first.neurons) + 1
    assert second.neurons[-1][1:] == [keypair(50).ss58_address, keypair(51).ss58_address, 0, "", 0]
