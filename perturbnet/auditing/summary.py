"""An audit's report as a person reads it: what holds, what was found, what is the validator's word."""

from __future__ import annotations

from collections import Counter

from perturbnet.auditing.findings import AuditReport, AuditStep
from perturbnet.auditing.parts import AuditPart

MAX_SHOWN = 20
_TITLES = {
    AuditStep.SIGNATURE: "the log's head is signed by a key of the hotkey",
    AuditStep.ANCHORS: "every anchor on chain pins a beginning of this log",
    AuditStep.LEAVES: "every leaf is in the tree and readable",
    AuditStep.SEQUENCE: "every leaf can follow the ones before it",
    AuditStep.DRAWS: "rows and seeds follow from the keys",
    AuditStep.CHALLENGES: "epsilon, miners and images follow from draw and block",
    AuditStep.ANSWERS: "signatures, distortion and scores recomputed",
    AuditStep.LABELS: "labels and logits recomputed",
    AuditStep.WEIGHTS: "weights follow from the histories",
}
# What a step has looked at; where that is nothing, it does not say that it holds.
_COUNTED = {
    AuditStep.SIGNATURE: "signatures of the checkpoint",
    AuditStep.ANCHORS: "anchors",
    AuditStep.LEAVES: "leaves",
    AuditStep.SEQUENCE: "leaves",
    AuditStep.DRAWS: "draws",
    AuditStep.CHALLENGES: "challenges",
    AuditStep.ANSWERS: "receipts recomputed",
    AuditStep.LABELS: "labels recomputed",
    AuditStep.WEIGHTS: "weight vectors",
}


def summarise(part: AuditPart) -> list[str]:
    """The lines to print."""
    report = part.report
    found = Counter(finding.step for finding in report.findings)
    lines = [f"{part.plan.origin}: {part.plan.size:,} leaves, root {part.plan.root[:16]}…", ""]
    for step, title in _TITLES.items():
        lines.append(f"{step}. {_verdict(step, part, found[step]):<12} {title}")
    lines += _counts("Recomputed", report.checked)
    lines += _counts("Attested, not verified: the validator's word", report.attested)
    lines += _counts("Not looked at", report.unchecked)
    lines += _findings(report)
    count = len(report.findings)
    verdict = "Nothing found" if not count else "1 finding" if count == 1 else f"{count} findings"
    return [*lines, "", f"{verdict} in {part.seconds:.0f} s"]


def _verdict(step: AuditStep, part: AuditPart, found: int) -> str:
    if found:
        return f"{found} found"
    scope = part.scope
    rounds = {AuditStep.ANSWERS, AuditStep.LABELS}
    if step in rounds and scope.start >= scope.stop:
        return "other part"
    if step not in rounds and not scope.history:
        return "other part"
    return "holds" if part.report.checked[_COUNTED[step]] else "not checked"


def _counts(title: str, counts: Counter[str]) -> list[str]:
    shown = [(name, count) for name, count in sorted(counts.items()) if count]
    return ["", f"{title}:", *(f"  {count:>10,}  {name}" for name, count in shown)] if shown else []


def _findings(report: AuditReport) -> list[str]:
    ordered = sorted(report.findings, key=lambda finding: (finding.step, finding.leaf, finding.field))
    lines = [f"  step {finding.step}: {finding.sentence()}" for finding in ordered[:MAX_SHOWN]]
    if len(ordered) > MAX_SHOWN:
        lines.append(f"  … and {len(ordered) - MAX_SHOWN} more; --json FILE has them all")
    return ["", "Findings:", *lines] if lines else []
