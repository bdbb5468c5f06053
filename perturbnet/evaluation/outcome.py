"""What an evaluation came to, in words and as JSON. The numbers are those of certificate and report.

They are counted from the published log by `outputs.statistics`, so whoever has the bundle counts them again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from perturbnet.auditing.findings import AuditReport
from perturbnet.certificate import findings
from perturbnet.evaluation import certifying
from perturbnet.evaluation.checking import check_bundle
from perturbnet.evaluation.run import PreparedEvaluation
from perturbnet.evaluation.tally import tally_entries
from perturbnet.report import (
    ReportOptions,
    given,
    make_report,
    render_certificate,
    write_page,
    write_report,
)
from perturbnet.runtime.progress import Stages
from perturbnet.statistics.robustness import Rate, Statistics, count_log
from perturbnet.transparency.bundle import open_bundle

SHOWN_REFUSALS = 10
REPORT_FILE = "report.html"
CERTIFICATE_PAGE = "certificate.html"


@dataclass(frozen=True)
class EvaluationOutcome:
    """Statistics of the log, what its audit found, and where everything lies."""

    plan: dict[str, str | int]
    plan_digest: str
    hotkey: str
    reproducible: bool
    refused: int
    skipped: int
    mean_score: float
    leaves: int
    statistics: Statistics
    audit: AuditReport
    certificate: findings.VerificationReport | None = (
        None  # how its verification went; None where there is none
    )
    files: dict[str, Path] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the log's audit found nothing, and the certificate verifies if there is one."""
        return not self.audit.findings and self.certificate_status in {"", "verified"}

    @property
    def certificate_status(self) -> str:
        """Verified, refused, or incomplete; empty where there is none."""
        return self.certificate.status if self.certificate else ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "plan": self.plan,
            "plan_digest": self.plan_digest,
            "hotkey": self.hotkey,
            "reproducible": self.reproducible,
            "refused": self.refused,
            "skipped": self.skipped,
            "mean_score": self.mean_score,
            "leaves": self.leaves,
            "statistics": msgspec.to_builtins(self.statistics),
            "audit": self.audit.to_json(),
            "certificate": self.certificate.to_json() if self.certificate else None,
            "files": {name: str(path) for name, path in self.files.items()},
        }

    def lines(self) -> list[str]:
        """For people."""
        found = self.statistics
        codes = ", ".join(f"{code} {count}" for code, count in found.outcomes.items())
        reached = ", ".join(f"{level}/255: {count}" for level, count in found.smallest_linf_u8.items())
        lines = [
            "",
            f"Stability        {_show(found.stability)}: images that no attack changed",
            f"Answers          {codes}; mean score {self.mean_score:.4f}",
            f"Broken at L-inf  {reached or 'none'}",
        ]
        if found.labelled:
            lines += [
                f"Clean accuracy   {_show(found.clean_accuracy)}",
                f"Robust accuracy  {_show(found.robust_accuracy)}: correct, and never broken",
            ]
        lines.append(f"Audit            {self._audit()}")
        if self.certificate is not None:
            lines.append(f"Certificate      {self._certified(self.certificate)}")
        return [*lines, *(f"{name:<16} {path}" for name, path in self.files.items())]

    def _audit(self) -> str:
        findings, checked = self.audit.findings, self.audit.checked
        told = f"{checked['leaves']} leaves and {checked['labels recomputed']} answers recomputed"
        if findings:
            return f"{len(findings)} findings, the first: {findings[0].sentence()}; {told}"
        return f"nothing found: {told}; no anchor, this was offline"

    def _certified(self, report: findings.VerificationReport) -> str:
        refused = [line for line in report.lines if line.outcome is findings.StepOutcome.REFUSED]
        last = report.lines[-1]
        shown = refused[0] if refused else last
        return f"{report.status}; step {int(shown.step)}, {shown.step.name.lower()}: {shown.text}"


def conclude(prepared: PreparedEvaluation, progress: Stages) -> EvaluationOutcome:
    """Check and count what was published; `progress` is told (what, done, of).

    Raises:
        LedgerError: there is no published log, or a file of it is damaged.
        DigestMismatch: an image is not the one that was recorded.

    """
    engine = prepared.judged.engine
    with open_bundle(prepared.bundle) as bundle:
        tally = tally_entries(bundle.entries())
        found = certifying.verify(prepared.request.out, bundle, engine.model_digest)
        certified = found[1].predicate.statistics.until if found and found[1] else None
        return EvaluationOutcome(
            plan=dict(prepared.plan.facts),
            plan_digest=prepared.plan.digest,
            hotkey=bundle.authority().hotkey,
            reproducible=prepared.judged.reproducible,
            refused=len(prepared.images.images.refusals),
            skipped=tally.skipped,
            mean_score=round(tally.mean_score, 9),
            leaves=bundle.size,
            statistics=count_log(bundle, engine.model_digest, until=certified),
            audit=check_bundle(bundle, prepared.images, engine, prepared.plan.digest, progress),
            certificate=found[0] if found else None,
            files={"Log": prepared.bundle},
        )


def write_products(prepared: PreparedEvaluation) -> dict[str, Path]:
    """Write the pages for people: the report on the leaves that the certificate is about, and that one.

    Returns what lies beside the log, by name.

    Raises:
        LedgerError: there is no published log, or a file of it is damaged.
        OutputError: there is no certificate, or a file cannot be written.

    """
    out = prepared.request.out
    signed, shown, page = out / certifying.CERTIFICATE_FILE, out / CERTIFICATE_PAGE, out / REPORT_FILE
    certificate = certifying.read(out)
    until = certificate.predicate.statistics.until
    with open_bundle(prepared.bundle) as bundle:
        made = make_report(bundle, ReportOptions(until=until), open_pictures=given(prepared.images))
    write_report(page, made, certificate)
    write_page(shown, render_certificate(certificate))
    return {"Signed": signed, "For people": shown, "Report": page}


def introduce(prepared: PreparedEvaluation) -> list[str]:
    """What is about to be judged, and by whom."""
    facts, images = prepared.plan.facts, prepared.images.images
    made = "compiled: every number can be recomputed bit for bit on any machine"
    if not prepared.judged.reproducible:
        made = f"float64, not bit-reproducible on other machines ({prepared.judged.reason})"
    classes = f"{images.labelled} with a class" if images.labelled else "without classes"
    lines = [
        f"Model   {facts['architecture']}, {facts['classes']} classes, weights {facts['weights']}",
        f"Judge   {made}",
        f"Input   {facts['preprocessing']}",
        f"Images  {len(images.pictures)}, {classes}; {len(images.refusals)} refused",
        f"Attack  {facts['attacks']}; {facts['budget_s']} s an image, clock {facts['clock']}",
    ]
    shown = [f"  refused {each.path}: {each.reason}" for each in images.refusals[:SHOWN_REFUSALS]]
    more = len(images.refusals) - len(shown)
    return [*lines, *shown, *([f"  and {more} more, see images.json"] if more else [])]


def _show(rate: Rate) -> str:
    if not rate.trials:
        return "–"
    bounds = rate.exact
    percent = float(bounds.level) * 100
    return f"{rate.successes}/{rate.trials} = {rate.share} ({percent:g} %: {bounds.lower} to {bounds.upper})"
