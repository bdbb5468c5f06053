"""Every way to cheat in a log, and the finding that names it: leaf, field, expected, got.

The operator here rewrites his own leaves and chains them anew, so that every hash fits: what catches him are
the rules. (That the hashes then no longer fit the anchors is shown in test_published.py.)
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from perturbnet.auditing.answers import FROM_ADDRESS, FROM_PIXELS, RoundCheck
from perturbnet.auditing.findings import AuditStep
from perturbnet.auditing.run import Scope
from perturbnet.errors import Reject
from perturbnet.ledger import Leaf
from perturbnet.ledger.leaves import (
    ConfigLeaf,
    EpochLeaf,
    MetagraphLeaf,
    ReceiptLeaf,
    RulesLeaf,
    SegmentLeaf,
    SkipLeaf,
    WeightsLeaf,
)
from perturbnet.wire.target import Target
from tests.golden import make_verdicts
from tests.support.auditing.honest import (
    HOTKEY,
    Honest,
    MemoryLog,
    a_challenge,
    first,
    named,
    only,
    renumbered,
    tampered,
)

# Receipts.


def test_a_wrong_score_is_named(honest: Honest) -> None:
    place = honest.receipts()[4]
    score = honest.leaves()[place].score_ppb  # type: ignore[attr-defined]
    report = honest.audit(tampered(honest, place, score_ppb=score - 1))
    found = first(report, AuditStep.ANSWERS)
    assert (found.leaf, found.field) == (place, "score_ppb")
    assert (found.expected, found.got) == (str(score), str(score - 1))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("linf_u8", 1_000),
        ("sum_sq", 1),
        ("changed", 1),
        ("ssim_ppb", 999_999_999),
        ("psnr_micro_db", 1),
        ("same_as", 4),
        ("adversarial_pixels", "a" * 64),
    ],
)
@pytest.mark.parametrize("model", [True, False])
def test_what_follows_from_the_pixels_is_checked_with_and_without_the_model(
    honest: Honest, field: str, value: object, model: bool
) -> None:
    place = honest.receipts()[5]
    report = honest.audit(tampered(honest, place, **{field: value}), model=model)
    assert (AuditStep.ANSWERS, place, field) in named(report)


@pytest.mark.parametrize(
    ("field", "value"),
    [("label_after", "toad"), ("index_after", 3), ("logits_after", "b" * 64), ("saturated", 7)],
)
def test_a_wrong_label_needs_the_model(honest: Honest, field: str, value: object) -> None:
    place = honest.receipts()[5]
    found = honest.audit(tampered(honest, place, **{field: value})).findings[0]
    assert (found.step, found.leaf, found.got) == (AuditStep.LABELS, place, str(value))


def test_a_success_called_unchanged_is_named(honest: Honest) -> None:
    """The lie is whole: label, logits and score fit each other, so only the model can tell."""
    place = honest.receipts()[1]
    leaf = honest.leaves()[place]
    assert isinstance(leaf, ReceiptLeaf)
    lie = {
        "reject": Reject.LABEL_UNCHANGED.value,
        "label_after": leaf.label_before,
        "index_after": leaf.index_before,
        "logits_after": leaf.logits_before,
        "score_ppb": 0,
    }
    same = [
        at
        for at in honest.receipts()
        if honest.leaves()[at].adversarial_pixels == leaf.adversarial_pixels  # type: ignore[attr-defined]
    ]
    leaves = honest.leaves()
    for at in same:
        leaves[at] = structs.replace(leaves[at], **lie)
    report = honest.audit(leaves)
    assert {(AuditStep.LABELS, at, name) for at in same for name in lie} <= named(report)


def test_a_signature_that_is_not_the_miners_is_named(honest: Honest) -> None:
    place = honest.receipts()[0]
    other = honest.leaves()[honest.receipts()[1]]
    assert isinstance(other, ReceiptLeaf)
    found = only(
        honest.audit(tampered(honest, place, signature=other.signature)),
        AuditStep.ANSWERS,
        place,
        "signature",
    )
    assert found.expected.startswith("one of 5")


def test_an_answer_without_a_signature_is_named(honest: Honest) -> None:
    place = honest.receipts()[0]
    only(honest.audit(tampered(honest, place, signature="")), AuditStep.ANSWERS, place, "signature")


def test_a_receipt_in_anothers_name_is_named(honest: Honest) -> None:
    place = honest.receipts()[0]
    assert (AuditStep.ANSWERS, place, "hotkey") in named(honest.audit(tampered(honest, place, hotkey=HOTKEY)))


def test_a_success_without_pixels_is_named(honest: Honest) -> None:
    place = honest.receipts()[0]
    report = honest.audit(tampered(honest, place, adversarial_pixels=""))
    assert (AuditStep.ANSWERS, place, "reject") in named(report)


def test_the_codes_that_need_pixels_are_those_that_verdicts_with_pixels_have() -> None:
    rows = json.loads((make_verdicts.FOLDER / "index.json").read_text())
    verdicts = [json.loads(row["verdict"]) for row in rows["cases"]]
    failed = {found["reject"] for found in verdicts if found["adversarial_pixels"]} - {Reject.OK.value}
    assert failed == {code.value for code in FROM_PIXELS}
    assert not failed & {found["reject"] for found in verdicts if not found["adversarial_pixels"]}


def as_if_without_pixels(leaf: ReceiptLeaf, reject: Reject) -> dict[str, Any]:
    """What a liar writes over a success: the code, and nothing of what was measured."""
    numbers = ("index_before", "index_after", "linf_u8", "changed", "sum_sq", "ssim_ppb", "psnr_micro_db")
    texts = ("adversarial_pixels", "delta", "label_before", "label_after", "logits_before", "logits_after")
    empty = dict.fromkeys(numbers, -1) | dict.fromkeys(texts, "") | {"saturated": -1, "same_as": -1}
    return {**empty, "reject": reject.value, "score_ppb": 0}


@pytest.mark.parametrize("reject", sorted(FROM_PIXELS))
def test_a_success_rewritten_into_a_failure_of_its_pixels_is_named(honest: Honest, reject: Reject) -> None:
    place = honest.receipts()[0]
    leaf = honest.leaves()[place]
    assert isinstance(leaf, ReceiptLeaf)
    found = only_answers(honest, place, as_if_without_pixels(leaf, reject))
    assert found == {"adversarial_pixels"}


@pytest.mark.parametrize("reject", sorted(FROM_ADDRESS))
def test_a_success_rewritten_into_a_miner_that_cannot_be_asked_is_named(
    honest: Honest, reject: Reject
) -> None:
    place = honest.receipts()[0]
    leaf = honest.leaves()[place]
    assert isinstance(leaf, ReceiptLeaf)
    unsigned = {"signature": "", "signed_pixels": "", "body": "", "nonce": ""}
    assert only_answers(honest, place, as_if_without_pixels(leaf, reject) | unsigned) == {"reject"}


@pytest.mark.parametrize(
    ("host", "local", "reject", "fits"),
    [
        (None, False, Reject.NOT_SERVING, True),
        ("8.8.8.8", False, Reject.NOT_SERVING, False),
        ("10.0.0.1", False, Reject.ADDRESS_REFUSED, True),
        ("10.0.0.1", False, Reject.NOT_SERVING, False),
        ("10.0.0.1", True, Reject.ADDRESS_REFUSED, False),
        ("no address", True, Reject.ADDRESS_REFUSED, True),
    ],
)
def test_who_cannot_be_asked_follows_from_what_is_announced(
    honest: Honest, host: str | None, local: bool, reject: Reject, fits: bool
) -> None:
    check = RoundCheck(MemoryLog(honest.entries, honest.blobs), honest.source.read, local=local)
    check._check_announced(3, reject, Target(1, "5F", host, 8091))
    assert (check.report.findings == []) is fits
    assert check.report.checked["codes that follow from the metagraph"] == 1


def only_answers(honest: Honest, place: int, lie: dict[str, Any]) -> set[str]:
    """The fields found wrong in one receipt, as an audit's part reads a log: without its history."""
    report = honest.audit(
        tampered(honest, place, **lie), scope=lambda size: replace(Scope.whole(size), history=False)
    )
    return {name for step, at, name in named(report) if step is AuditStep.ANSWERS and at == place}


def test_an_answer_that_is_not_published_is_counted_and_not_believed_silently(honest: Honest) -> None:
    place = honest.receipts()[0]
    report = honest.audit(tampered(honest, place, delta="c" * 64))
    assert report.findings == []
    assert report.unchecked["receipts whose answer is not published any more"] == 1


def test_a_delta_of_another_answer_is_named(honest: Honest) -> None:
    first, other = honest.receipts()[0], honest.receipts()[-1]
    delta = honest.leaves()[other].delta  # type: ignore[attr-defined]
    assert {AuditStep.ANSWERS} == {
        found.step for found in honest.audit(tampered(honest, first, delta=delta)).findings
    }


# Challenges.


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"epsilon": "0.1999"}, "epsilon"),
        ({"epsilon": "none"}, "epsilon, rules"),
        ({"block": 0}, "block"),
        ({"attempt": 5}, "attempt"),
        ({"task_id": "9-9"}, "task_id"),
        ({"freshness": {}}, "freshness"),
        ({"asked": [1, 2, 3, 4]}, "asked"),
        ({"selection_seed": "0" * 64}, "selection_seed"),
        ({"selection_seed": "none"}, "selection_seed, rules"),
        ({"row": 5}, "row"),
        ({"source_label": "toad"}, "source_label"),
        ({"clean_pixels": "d" * 64}, "clean_pixels"),
    ],
)
def test_a_challenge_that_does_not_follow_is_named(
    honest: Honest, values: dict[str, Any], field: str
) -> None:
    place, _ = a_challenge(honest)
    assert (place, field) in {
        (leaf, name) for _, leaf, name in named(honest.audit(tampered(honest, place, **values)))
    }


def test_another_freshness_than_the_draws_is_named(honest: Honest) -> None:
    place, leaf = a_challenge(honest)
    report = honest.audit(tampered(honest, place, freshness={**leaf.freshness, "seed": "1" * 64}))
    assert {(AuditStep.DRAWS, place, "freshness.seed"), (AuditStep.CHALLENGES, place, "freshness")} <= named(
        report
    )


def test_a_wrong_clean_label_is_named_by_the_model(honest: Honest) -> None:
    place, _ = a_challenge(honest)
    report = honest.audit(tampered(honest, place, clean_logits="e" * 64))
    assert (AuditStep.LABELS, place, "clean_logits") in named(report)


def test_a_row_skipped_without_a_reason_is_named(honest: Honest) -> None:
    """The row that does not decode for the validator decodes for everybody else."""
    place = honest.places(SkipLeaf)[0]
    honest = replace(honest, source=type(honest.source)(honest.source.identity.rows))
    only(honest.audit(), AuditStep.CHALLENGES, place, "reason")


def test_a_skip_of_a_row_that_does_not_exist_is_named(honest: Honest) -> None:
    place = honest.places(SkipLeaf)[0]
    found = named(honest.audit(tampered(honest, place, row=-1)))
    assert found == {(AuditStep.DRAWS, place, "row"), (AuditStep.CHALLENGES, place, "reason")}


# Epochs, keys, configuration.


def test_a_key_that_was_not_committed_to_is_named(honest: Honest) -> None:
    place = honest.places(SegmentLeaf)[0]
    found = honest.audit(tampered(honest, place, key="0" * 64)).findings[0]
    assert (found.step, found.leaf, found.field) == (AuditStep.DRAWS, place, "key")


def test_a_key_that_is_never_published_is_named(honest: Honest) -> None:
    place = honest.places(SegmentLeaf)[0]
    leaves = honest.leaves()
    del leaves[place]
    report = honest.audit(renumbered(leaves, place))
    assert (AuditStep.DRAWS, honest.places(EpochLeaf)[1] - 1, "segment") in named(report)


@pytest.mark.parametrize(
    ("kind", "values", "field"),
    [
        (ConfigLeaf, {"validator": "5Another"}, "validator"),
        (ConfigLeaf, {"netuid": 99}, "netuid"),
        (ConfigLeaf, {"model_digest": "0" * 64}, "model_digest"),
        (ConfigLeaf, {"dataset": {"repository": "another"}}, "dataset"),
        (MetagraphLeaf, {"netuid": 99}, "netuid"),
        (RulesLeaf, {"gates": {}}, "gates"),
        (RulesLeaf, {"selection": {}}, "selection"),
        (EpochLeaf, {"segment_draws": 1}, "segment_draws"),
        (EpochLeaf, {"rows": 5}, "rows"),
    ],
)
def test_what_a_log_stands_on_is_compared(
    honest: Honest, kind: type[Leaf], values: dict[str, Any], field: str
) -> None:
    place = honest.places(kind)[0]
    found = {(leaf, name) for _, leaf, name in named(honest.audit(tampered(honest, place, **values)))}
    assert (place, field) in found


# Weights.


def test_wrong_weights_are_named(honest: Honest) -> None:
    place = honest.places(WeightsLeaf)[-1]
    leaf = honest.leaves()[place]
    assert isinstance(leaf, WeightsLeaf)
    report = honest.audit(tampered(honest, place, shares_ppb=[[3, 10**9]]))
    found = only(report, AuditStep.WEIGHTS, place, "shares_ppb")
    assert (found.expected, found.got) == (str(leaf.shares_ppb), "[[3, 1000000000]]")
