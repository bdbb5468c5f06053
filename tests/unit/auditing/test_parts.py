"""Parts on their way through files: they add up to one report, or are refused by name."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from perturbnet.auditing.findings import AuditReport, AuditStep, Finding
from perturbnet.auditing.parts import AuditPart, AuditPlan, merge, read_part, read_plan
from perturbnet.auditing.run import Scope
from perturbnet.auditing.summary import summarise
from perturbnet.errors import AuditError
from perturbnet.transparency.bundle import open_bundle
from tests.support.auditing.honest import Honest
from tests.support.auditing.published import publish, publish_honest

PLAN = AuditPlan("log/a", 100, "ab" * 32)


def part(scope: Scope, *findings: Finding, plan: AuditPlan = PLAN) -> AuditPart:
    report = AuditReport(list(findings))
    report.checked["leaves"] = scope.stop - scope.start
    return AuditPart(plan, scope, report, model=True, seconds=1.5)


def parts() -> list[AuditPart]:
    return [part(Scope.log(100)), *(part(Scope.part(100, number, 3)) for number in (1, 2, 3))]


def test_parts_cover_every_leaf_once() -> None:
    for size, of in ((100, 3), (5, 8), (1, 1), (719, 16)):
        edges = [(scope.start, scope.stop) for scope in (Scope.part(size, n, of) for n in range(1, of + 1))]
        assert edges[0][0] == 0
        assert edges[-1][1] == size
        assert all(left[1] == right[0] for left, right in itertools.pairwise(edges))


def test_a_part_comes_back_from_its_file() -> None:
    finding = Finding(AuditStep.ANSWERS, 7, "score_ppb", "1", "2")
    there = part(Scope.part(100, 1, 2), finding)
    back = read_part(there.encode())
    assert back == there


def test_merging_adds_counts_and_findings() -> None:
    some = parts()
    some[2].report.findings.append(Finding(AuditStep.ANSWERS, 40, "score_ppb", "1", "2"))
    whole = merge(list(reversed(some)))
    assert whole.report.checked["leaves"] == 100
    assert [finding.leaf for finding in whole.report.findings] == [40]
    assert whole.scope == Scope.whole(100)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda some: some[1:], "0 parts with the log's history"),
        (lambda some: [*some, some[0]], "2 parts with the log's history"),
        (lambda some: some[:-1], "leaves 66 to 100 are in no part"),
        (lambda some: [some[0], some[2], some[3]], "leaves 0 to 33"),
        (lambda some: [*some, some[1]], "in no part, or in two"),
        (lambda some: [*some[:-1], replace(some[-1], plan=replace(PLAN, root="cd" * 32))], "different plans"),
        (lambda _some: [], "no parts"),
    ],
)
def test_what_does_not_add_up_is_refused(change: object, said: str) -> None:
    assert callable(change)
    with pytest.raises(AuditError, match=said):
        merge(change(parts()))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', "null", '{"version": 1, "plan": 3}'])
def test_what_is_no_report_or_plan_is_refused(text: str) -> None:
    with pytest.raises(AuditError):
        read_part(text)
    with pytest.raises(AuditError):
        read_plan(text)


def test_a_plan_holds_for_a_log_that_grew_and_for_no_other(honest: Honest, folder: Path) -> None:
    with open_bundle(publish(honest.leaves()[:30], folder / "log", honest.blobs.folder)) as bundle:
        plan = AuditPlan.of(bundle)
    with open_bundle(publish_honest(honest, folder / "log")) as bundle:
        plan.check(bundle)
        assert bundle.size > plan.size
    shorter = publish(honest.leaves()[:29], folder / "log", honest.blobs.folder)
    with open_bundle(shorter) as bundle, pytest.raises(AuditError, match="30 leaves, the log has 29"):
        plan.check(bundle)
    other = [honest.leaves()[0], *reversed(honest.leaves()[1:])]
    another = publish(other, folder / "log", honest.blobs.folder)
    with open_bundle(another) as bundle, pytest.raises(AuditError, match="with the root"):
        plan.check(bundle)


def test_the_summary_says_what_is_attested_and_not_verified(honest: Honest) -> None:
    report = honest.audit()
    lines = "\n".join(summarise(AuditPart(PLAN, Scope.whole(100), report, model=True)))
    assert "Attested, not verified: the validator's word:" in lines
    assert "no image: timeout" in lines
    assert "8. holds        labels and logits recomputed" in lines
    assert "Nothing found" in lines
    bad = AuditReport([Finding(AuditStep.LABELS, n, "label_after", "a" * 300, "b") for n in range(30)])
    lines = "\n".join(summarise(AuditPart(PLAN, Scope.whole(100), bad, model=True)))
    assert "8. 30 found" in lines
    assert "… and 10 more" in lines
    assert "30 findings in 0 s" in lines


def test_the_summary_of_a_part_does_not_claim_the_rest(honest: Honest) -> None:
    log = AuditPart(PLAN, Scope.log(100), honest.audit(scope=Scope.log), model=False)
    lines = "\n".join(summarise(log))
    assert "7. other part" in lines
    assert "8. other part" in lines
    assert "9. holds" in lines
    rounds = AuditPart(PLAN, Scope.part(100, 1, 1), honest.audit(model=False), model=False)
    lines = "\n".join(summarise(rounds))
    assert "4. other part" in lines
    assert "8. not checked" in lines
