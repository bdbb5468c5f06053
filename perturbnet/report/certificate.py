"""A certificate as a page, and what a report says of one.

Rules
- A certificate whose signature is not by the key that it names gets no page: a page makes it look true.
  Whether that key is the validator's, and the numbers the log's, `perturb certificate verify` says.
- The sentences are the certificate's own; none is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from perturbnet.certificate.envelope import Certificate
from perturbnet.errors import OutputError
from perturbnet.report.charts import BarChart, draw_bars
from perturbnet.report.distances import MOST_LEVELS, level_histogram
from perturbnet.report.meaning import EXCLUSIONS
from perturbnet.report.page import Report, key_figures, list_endings, render
from perturbnet.statistics.robustness import Statistics
from perturbnet.transparency.notes import VerifierKey


@dataclass(frozen=True)
class Beside:
    """A certificate beside a report: whether it is of the very leaves that the report is of."""

    certificate: Certificate
    same: bool


def render_certificate(certificate: Certificate) -> str:
    """The page.

    Raises:
        OutputError: its signature is not by the key that it names.

    """
    require_signature(certificate)
    predicate = certificate.predicate
    counts = predicate.statistics
    return render(
        "certificate.html",
        certificate=certificate,
        predicate=predicate,
        log=predicate.log,
        counts=counts,
        figures=key_figures(counts),
        smallest=_smallest(counts),
        endings=list_endings(counts.outcomes),
        exclusions=EXCLUSIONS,
    )


def require_signature(certificate: Certificate) -> None:
    """Refuse a certificate that its own key did not sign.

    Raises:
        OutputError: it did not.

    """
    log = certificate.predicate.log
    if not certificate.signed_by(VerifierKey(log.origin, bytes.fromhex(log.key))):
        raise OutputError(
            f"the certificate is not signed by the key that it names, {log.key}",
            hint="It was changed after it was signed, or somebody else made it. It gets no page.",
        )


def put_beside(certificate: Certificate, report: Report) -> Beside:
    """A certificate for a report's page.

    Raises:
        OutputError: its signature does not hold, it is of another model or log, or its numbers are not those
            of its leaves.

    """
    require_signature(certificate)
    predicate, counts = certificate.predicate, report.findings.statistics
    for what, found, expected in (
        ("model", certificate.subject, report.config.model_digest),
        ("log", predicate.log.origin, report.log.origin),
    ):
        if found != expected:
            raise OutputError(f"a certificate of another {what}: {found}, the report is of {expected}")
    stated = predicate.statistics
    same = (stated.since, stated.until) == (counts.since, counts.until)
    if same and stated != counts:
        raise OutputError(
            "the certificate states other numbers than these leaves give",
            hint="perturb certificate verify names them.",
        )
    return Beside(certificate, same)


def _smallest(counts: Statistics) -> BarChart | None:
    """Broken images by the smallest change that broke them."""
    histogram = level_histogram()
    for level, images in counts.smallest_linf_u8.items():
        if level.isdecimal() and 1 <= int(level) <= MOST_LEVELS:
            histogram.add(int(level), max(images, 0))
    return draw_bars(histogram, lambda value: f"{round(value)}", whole=True, noun="images")
