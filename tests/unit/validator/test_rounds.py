"""Rounds: the normal way, everybody failing, nobody there, state that fails, and what is forgotten."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perturbnet.errors import (
    LedgerError,
    Reject,
)
from perturbnet.ledger import BlobStore, fold
from perturbnet.ledger.leaves import (
    ChallengeLeaf,
    EpochLeaf,
    MetagraphLeaf,
    ReceiptLeaf,
)
from perturbnet.rounds.acknowledgements import describe, read_terms
from perturbnet.rounds.receipts import build_task
from perturbnet.rules import verification
from perturbnet.rules.freshness import Freshness, apply_freshness
from perturbnet.rules.scoring import score_verdict
from perturbnet.rules.verification import verify
from perturbnet.wire.images import decode_base64, decode_png, pixel_digest
from perturbnet.wire.messages import response_limit_bytes
from tests.support.fakes import BlockEngine, MemorySource, keypair
from tests.support.validator.world import (
    Validator,
    World,
    copycat,
    good,
    interrupt,
    junk,
    leaves,
    make_world,
    receipts_of,
    run_once,
    session,
    silent,
)

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


def test_a_body_is_parsed_once_and_its_pixels_are_hashed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()

    def counted(name: str) -> Any:
        original = getattr(verification, name)

        def count(*args: Any, **options: Any) -> Any:
            calls[name] += 1
            return original(*args, **options)

        return count

    for name in ("parse", "decode_png", "pixel_digest", "measure"):
        monkeypatch.setattr(verification, name, counted(name))
    world = make_world(tmp_path, miners=4)
    world.courier.answers = {1: good, 2: good, 3: copycat, 4: junk}  # 1 and 2 send the same pixels
    assert run_once(world) is not None
    assert calls == {"parse": 4, "decode_png": 3, "pixel_digest": 3, "measure": 2}


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
    terms = read_terms(journal, leaf)
    journal.close()
    opened = type("Opened", (), {"leaf": leaf, "hash": challenge.hash})()
    task = build_task(opened, terms, clean)
    body = BlobStore(world.state_dir / "blobs").get(receipts[0].body)
    verdict = verify(task, body, BlockEngine())
    receipt = receipts[0]
    names = ("linf_u8", "changed", "sum_sq", "ssim_ppb", "psnr_micro_db", "label_after", "logits_after")
    assert [getattr(verdict, name) for name in names] == [getattr(receipt, name) for name in names]
    assert receipt.score_ppb == score_verdict(
        verdict, epsilon=leaf.epsilon, rules=terms.rules, response_ms=receipt.response_ms
    )
    assert state.counted_rounds == 1


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
    for module in ("perturbnet.rounds.draws", "perturbnet.rules.traversal"):
        monkeypatch.setattr(f"{module}.SEGMENT_DRAWS", 2)
    world = make_world(tmp_path, miners=1)
    for _ in range(2):
        run_once(world)
    kinds = [entry.leaf.kind for entry in world.entries()]
    assert kinds[-5:] == ["challenge", "receipt", "challenge", "receipt", "segment"]


# No round, or not all that came.


def test_nobody_to_ask_draws_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = make_world(tmp_path, miners=0)
    assert run_once(world) is None
    assert world.source.reads == []
    assert leaves(world, EpochLeaf) == []
    assert "Nobody to ask" in caplog.text


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
