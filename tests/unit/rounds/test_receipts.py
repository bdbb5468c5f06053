"""From answers to receipts: whole bodies and bare pixels give the same; what is lost stands as recorded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from perturbnet.errors import Reject
from perturbnet.ledger import ArrivalRow, OpenRound
from perturbnet.ledger.leaves import ChallengeLeaf
from perturbnet.rounds.receipts import NO_ONE, Judged, build_task, judge_answers, read_answer, write_receipts
from perturbnet.rounds.terms import Terms
from perturbnet.rules.verification import Image, Verdict, Verification
from perturbnet.wire.images import Pixels, pixel_digest
from perturbnet.wire.messages import body_digest
from perturbnet.wire.target import Target
from tests.support.fakes import NETUID, RULES, BlockEngine, flip, keypair, response_body, sign_answer, texture
from tests.support.ledger.samples import plain

CLEAN = texture("receipts")
ENGINE = BlockEngine()
LEAF: ChallengeLeaf = plain(
    ChallengeLeaf, task_id="0-1", epsilon="0.08", asked=[1, 2, 3], true_label=ENGINE.classify([CLEAN])[0].text
)
OPENED = OpenRound(4, "c" * 64, LEAF)
TARGETS = tuple(Target(uid, keypair(uid + 1).ss58_address, None, 0) for uid in (1, 2, 3))
TERMS = Terms(NETUID, keypair(1).ss58_address, RULES, "record", "blocks", "d", TARGETS)
TASK = build_task(OPENED, TERMS, CLEAN)


def row(uid: int, reject: Reject = Reject.OK, data: bytes = b"", signature: str = "") -> ArrivalRow:
    hotkey, digest = TARGETS[uid - 1].hotkey, body_digest(data) if data else ""
    return ArrivalRow(4, uid, hotkey, reject.value, digest, "7", signature, 900)


def sent(uid: int, data: bytes) -> tuple[ArrivalRow, Image | Verdict]:
    """A body that arrived, with the miner's signature over it, read."""
    noted = row(uid, data=data, signature=sign_answer(uid, data, OPENED.hash, nonce="7"))
    return noted, read_answer(Verification(TASK, ENGINE), noted, data)


def image(uid: int, pixels: Pixels) -> tuple[ArrivalRow, Image | Verdict]:
    return sent(uid, body(pixels))


def judge(*answers: tuple[ArrivalRow, Image | Verdict], duplicates: str = "record") -> list[Judged]:
    return judge_answers(Verification(TASK, ENGINE), answers, duplicates=duplicates)


def body(pixels: Pixels) -> bytes:
    return response_body("0-1", "c" * 64, pixels)


def test_pixels_alone_give_the_verdict_of_the_whole_body() -> None:
    pixels = flip(ENGINE, CLEAN)
    whole, bare = judge(image(1, pixels)), judge((row(1), Image.of(pixels, pixel_digest(pixels))))
    assert whole[0].verdict == bare[0].verdict
    assert whole[0].verdict.reject is Reject.OK
    assert whole[0].score_ppb == bare[0].score_ppb > 0
    assert np.array_equal(whole[0].pixels, pixels)  # type: ignore[arg-type]


def test_pixels_that_fail_a_gate_are_kept_too() -> None:
    judged = judge(image(1, CLEAN))[0]
    assert judged.verdict.reject is Reject.LINF_LOW
    assert judged.pixels is not None


def test_what_never_became_pixels_has_none() -> None:
    late = row(2, Reject.TIMEOUT)
    judged = judge(sent(1, b"{"), (late, read_answer(Verification(TASK, ENGINE), late, b"")))
    assert [item.verdict.reject for item in judged] == [Reject.BAD_MESSAGE, Reject.TIMEOUT]
    assert [item.pixels for item in judged] == [None, None]


def test_an_answer_that_is_not_kept_stands_as_recorded() -> None:
    there = judge(image(1, flip(ENGINE, CLEAN)))[0]
    again = judge((row(1), there.verdict))[0]
    assert (again.verdict, again.score_ppb) == (there.verdict, there.score_ppb)


def test_recorded_answers_count_as_duplicates() -> None:
    pixels = flip(ENGINE, CLEAN)
    verdict = judge(image(1, pixels))[0].verdict
    judged = judge((row(1), verdict), image(2, pixels), duplicates="zero")
    assert [item.score_ppb for item in judged] == [0, 0]


def test_a_receipt_holds_a_signature_that_was_verified_and_no_other() -> None:
    pixels = flip(ENGINE, CLEAN)
    good, found = image(1, pixels)
    stolen = replace(good, uid=2, hotkey=TARGETS[1].hotkey)
    nothing = response_body("0-1", "c" * 64, pixels, perturbed_image_b64=None, pixels_sha256=None)
    answers = [(good, found), (stolen, read_answer(Verification(TASK, ENGINE), stolen, body(pixels)))]
    receipts = write_receipts(OPENED, TERMS, judge(*answers, sent(3, nothing)), block=9)
    assert [receipt.reject for receipt in receipts] == ["ok", "bad_signature", "no_image"]
    assert [receipt.signed_pixels for receipt in receipts] == [pixel_digest(pixels), "", ""]
    assert [bool(receipt.signature) for receipt in receipts] == [True, False, True]
    assert receipts[1].body == receipts[0].body


def test_an_answer_that_an_older_version_noted_is_read_from_its_body() -> None:
    """It wrote the code beside the body; the body says the same."""
    noted, _ = image(1, flip(ENGINE, CLEAN))
    old = replace(noted, reject=Reject.BAD_SIGNATURE.value, signature="")
    found = read_answer(Verification(TASK, ENGINE), old, body(flip(ENGINE, CLEAN)))
    assert isinstance(found, Verdict)
    assert (found.reject, found.signed_pixels) == (Reject.BAD_SIGNATURE, None)


def test_everyone_who_was_asked_gets_a_receipt_in_the_order_of_asking() -> None:
    pixels = flip(ENGINE, CLEAN)
    judged = judge(image(3, pixels), image(1, pixels))
    receipts = write_receipts(OPENED, TERMS, [replace(item, delta="e" * 64) for item in judged], block=9)
    assert [receipt.uid for receipt in receipts] == [1, 2, 3]
    assert [receipt.reject for receipt in receipts] == ["ok", "interrupted", "ok"]
    assert [receipt.same_as for receipt in receipts] == [NO_ONE, NO_ONE, 1]
    assert [receipt.delta for receipt in receipts] == ["e" * 64, "", "e" * 64]
    assert receipts[0].adversarial_pixels == pixel_digest(pixels)
