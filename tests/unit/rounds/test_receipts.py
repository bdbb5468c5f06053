"""From answers to receipts: whole bodies and bare pixels give the same; what is lost stands as recorded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from perturbnet.errors import Reject
from perturbnet.ledger import ArrivalRow, OpenRound
from perturbnet.ledger.leaves import ChallengeLeaf
from perturbnet.rounds.receipts import NO_ONE, Answer, Judged, build_task, judge_answers, write_receipts
from perturbnet.rounds.terms import Terms
from perturbnet.rules.verification import Verdict
from perturbnet.wire.images import Pixels, pixel_digest
from perturbnet.wire.target import Target
from tests.support.fakes import RULES, BlockEngine, flip, response_body, texture
from tests.support.ledger.samples import plain

CLEAN = texture("receipts")
ENGINE = BlockEngine()
LEAF: ChallengeLeaf = plain(
    ChallengeLeaf, task_id="0-1", epsilon="0.08", asked=[1, 2, 3], true_label=ENGINE.classify([CLEAN])[0].text
)
OPENED = OpenRound(4, "c" * 64, LEAF)
TASK = build_task(OPENED, RULES, CLEAN)
TERMS = Terms(RULES, "record", "blocks", "d", tuple(Target(uid, f"hot{uid}", None, 0) for uid in (1, 2, 3)))


def row(uid: int, reject: Reject = Reject.OK) -> ArrivalRow:
    return ArrivalRow(4, uid, f"hot{uid}", reject.value, "", "7", "", "", 900)


def judge(*answers: Answer, duplicates: str = "record") -> list[Judged]:
    return judge_answers(TASK, answers, ENGINE, duplicates=duplicates)


def body(pixels: Pixels) -> bytes:
    return response_body("0-1", "c" * 64, pixels)


def test_pixels_alone_give_the_verdict_of_the_whole_body() -> None:
    pixels = flip(ENGINE, CLEAN)
    whole, bare = judge(Answer(row(1), body=body(pixels))), judge(Answer(row(1), pixels=pixels))
    assert whole[0].verdict == bare[0].verdict
    assert whole[0].verdict.reject is Reject.OK
    assert whole[0].score_ppb == bare[0].score_ppb > 0
    assert np.array_equal(whole[0].pixels, pixels)  # type: ignore[arg-type]


def test_pixels_that_fail_a_gate_are_kept_too() -> None:
    judged = judge(Answer(row(1), body=body(CLEAN)))[0]
    assert judged.verdict.reject is Reject.LINF_LOW
    assert judged.pixels is not None


def test_what_never_became_pixels_has_none() -> None:
    judged = judge(Answer(row(1), body=b"{"), Answer(row(2, Reject.TIMEOUT)))
    assert [item.verdict.reject for item in judged] == [Reject.BAD_MESSAGE, Reject.TIMEOUT]
    assert [item.pixels for item in judged] == [None, None]


def test_an_answer_that_is_not_kept_stands_as_recorded() -> None:
    pixels = flip(ENGINE, CLEAN)
    there = judge(Answer(row(1), body=body(pixels)))[0]
    again = judge(Answer(row(1), recorded=there.verdict))[0]
    assert (again.verdict, again.score_ppb) == (there.verdict, there.score_ppb)
    assert judge(Answer(row(1)))[0].verdict == Verdict(Reject.INTERRUPTED)


def test_recorded_answers_count_as_duplicates() -> None:
    pixels = flip(ENGINE, CLEAN)
    verdict = judge(Answer(row(1), body=body(pixels)))[0].verdict
    judged = judge(Answer(row(1), recorded=verdict), Answer(row(2), pixels=pixels), duplicates="zero")
    assert [item.score_ppb for item in judged] == [0, 0]


def test_everyone_who_was_asked_gets_a_receipt_in_the_order_of_asking() -> None:
    pixels = flip(ENGINE, CLEAN)
    judged = judge(Answer(row(3), pixels=pixels), Answer(row(1), pixels=pixels))
    receipts = write_receipts(OPENED, TERMS, [replace(item, delta="e" * 64) for item in judged], block=9)
    assert [receipt.uid for receipt in receipts] == [1, 2, 3]
    assert [receipt.reject for receipt in receipts] == ["ok", "interrupted", "ok"]
    assert [receipt.same_as for receipt in receipts] == [NO_ONE, NO_ONE, 1]
    assert [receipt.delta for receipt in receipts] == ["e" * 64, "", "e" * 64]
    assert receipts[0].adversarial_pixels == pixel_digest(pixels)
