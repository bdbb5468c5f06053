"""From findings to one HTML file that needs nothing else.

Rules
- Every value is escaped, and freed of characters that hide or reorder text: names come from a stranger's log.
- No script, no request: the policy in the page allows its own style sheet, by its digest, and data URIs.
- No style stands in an attribute; what depends on numbers is an SVG's geometry.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from jinja2 import Environment

from perturbnet.certificate.wording import caveats
from perturbnet.display.markup import open_templates
from perturbnet.errors import Reject
from perturbnet.ledger.leaves import ConfigLeaf
from perturbnet.report.charts import Series, draw_bars, draw_curves, percent
from perturbnet.report.distances import measure
from perturbnet.report.facts import LogFacts
from perturbnet.report.folding import Findings
from perturbnet.report.gallery import Gallery
from perturbnet.report.meaning import ENDINGS, EXCLUSIONS
from perturbnet.rules.classification import CANONICAL
from perturbnet.statistics.robustness import Rate, Statistics

SHOWN_MINERS = 20
SHOWN_CLASSES = 16
MOST_LETTERS = 120


@dataclass(frozen=True)
class Report:
    """All of one report: the log, the model's config, what was found, the pictures, when it was made."""

    log: LogFacts
    config: ConfigLeaf
    findings: Findings
    gallery: Gallery
    made_ms: int
    version: str

    @property
    def attacks(self) -> dict[int, str]:
        """The names of an offline evaluation's attacks by their uids: "1 exchange, 2 pgd" in its config."""
        named = self.config.environment.get("attacks", "") if self.log.offline else ""
        pairs = [pair.partition(" ") for pair in named.split(", ")[:SHOWN_MINERS]]
        return {int(uid): name[:MOST_LETTERS] for uid, _, name in pairs if uid.isdecimal() and len(uid) < 10}

    @property
    def exact(self) -> bool:
        """Whether labels can be recomputed bit for bit."""
        return self.config.engine in CANONICAL


@dataclass(frozen=True)
class Figure:
    """A key number: successes of trials, with both intervals; `share` is None where there were no trials."""

    name: str
    successes: int
    trials: int
    share: float | None
    exact: tuple[float, float]
    anytime: tuple[float, float]
    words: str


def render_report(report: Report, beside: object = None) -> str:
    """The page; `beside` is a certificate that it names (`certificate.put_beside`)."""
    found = report.findings
    stability = [Series("stability", lambda point: (point.images - point.broken, point.images))]
    accuracy = [
        Series("robust accuracy", lambda point: (point.robust, point.labelled)),
        Series("clean accuracy", lambda point: (point.correct, point.labelled), banded=False),
    ]
    return render(
        "report.html",
        report=report,
        log=report.log,
        config=report.config,
        found=found,
        counts=found.statistics,
        rules=found.last.terms.rules if found.last else None,
        figures=key_figures(found.statistics),
        stability=draw_curves(found.curve.sampled(), stability),
        accuracy=draw_curves(found.curve.sampled(), accuracy),
        distances=_distances(found),
        gallery=report.gallery,
        miners=found.standings.ranked_miners(),
        shown_miners=SHOWN_MINERS,
        classes=found.standings.ranked_classes(),
        shown_classes=SHOWN_CLASSES,
        exclusions=EXCLUSIONS,
        beside=beside,
        caveats=caveats(
            reproducible=report.exact,
            offline=report.log.offline,
            labelled=found.statistics.labelled > 0,
            changed=False,
        ),
        endings=list_endings(found.statistics.outcomes),
    )


def key_figures(found: Statistics) -> list[Figure]:
    """Stability, and robust and clean accuracy where the images have labels."""
    stands = "distinct images were never broken: the model kept its own answer against every attempt"
    figures = [_figure("Prediction stability", found.stability, stands)]
    if found.labelled:
        robust = "labelled images were named right and never broken"
        clean = "labelled images were named right before anybody changed them"
        figures.append(_figure("Robust accuracy", found.robust_accuracy, robust))
        figures.append(_figure("Clean accuracy", found.clean_accuracy, clean))
    return figures


def render(template: str, **values: object) -> str:
    """A page of this room's templates, with its style and the policy that allows only that."""
    environment = _environment()
    style = environment.get_template("style.css").render()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    return environment.get_template(template).render(values | {"style": style, "policy": policy})


def _figure(name: str, rate: Rate, words: str) -> Figure:
    return Figure(
        name,
        rate.successes,
        rate.trials,
        float(rate.share) if rate.share else None,
        (float(rate.exact.lower), float(rate.exact.upper)),
        (float(rate.anytime.lower), float(rate.anytime.upper)),
        words,
    )


def _distances(found: Findings) -> list[tuple[str, str, object]]:
    """Name, explanation and chart of each distribution."""
    seen = found.distances
    return [
        (
            "Greatest change",
            "L∞: levels of 255 at the value that was changed most",
            draw_bars(seen.linf, lambda value: f"{round(value)}", whole=True),
        ),
        (
            "Mean change",
            "RMSE: root mean square over all values, in levels of 255",
            draw_bars(seen.rmse, lambda value: f"{value:.3g}"),
        ),
        (
            "Values changed",
            "share of all colour values that differ at all",
            draw_bars(seen.changed, lambda value: f"{100 * value:.3g} %"),
        ),
        (
            "Likeness",
            "SSIM: structural similarity to the clean image; 1 is identical",
            draw_bars(seen.ssim, lambda value: f"{value:.5g}"),
        ),
    ]


def list_endings(outcomes: Mapping[str, int]) -> list[tuple[str, str, int, float]]:
    """Code, meaning, count and share of each way an attempt ended, the accepted first."""
    total = sum(outcomes.values()) or 1
    order = sorted(outcomes.items(), key=lambda item: (item[0] != Reject.OK, -item[1], item[0]))
    return [(code, ENDINGS.get(code, ""), count, count / total) for code, count in order]


@cache
def _environment() -> Environment:
    return open_templates(
        "perturbnet.report",
        {"percent": percent, "day": _day, "minute": _minute, "measure": measure},
    )


def _day(time_ms: int) -> str:
    return _date(time_ms, "%-d %B %Y")


def _minute(time_ms: int) -> str:
    return _date(time_ms, "%-d %B %Y, %H:%M UTC")


def _date(time_ms: int, form: str) -> str:
    """A wall time; a stranger may have written anything."""
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime(form)
    except (ValueError, OverflowError, OSError):
        return "no time"
