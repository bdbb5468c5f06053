"""The report's numbers as JSON, for machines. Counts are whole; what is derived is rounded text."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import msgspec

from perturbnet.report.histograms import Histogram
from perturbnet.report.page import Report

QUANTILES = (0.05, 0.5, 0.95)


def encode_summary(report: Report) -> str:
    """Everything that the page shows but its pictures."""
    return json.dumps(summarise(report), indent=2, ensure_ascii=False)


def summarise(report: Report) -> dict[str, Any]:
    """The same as JSON values."""
    found = report.findings
    seen = found.distances
    histograms = {"linf_u8": seen.linf, "rmse_u8": seen.rmse, "changed": seen.changed, "ssim": seen.ssim}
    return {
        "log": asdict(report.log),
        "config": msgspec.to_builtins(report.config),
        "statistics": msgspec.to_builtins(found.statistics),
        "curve": [asdict(point) for point in found.curve.sampled()],
        "miners": [vars(one) | {"refusals": dict(one.refusals)} for one in found.standings.ranked_miners()],
        "classes": [
            vars(one) | {"taken_for": dict(one.taken_for)} for one in found.standings.ranked_classes()
        ],
        "distances": {name: _quantiles(one) for name, one in histograms.items()} | {"odd": seen.odd},
        "strongest": [
            {"leaf": one.attempt.position, "row": one.round.challenge.row, "score_ppb": one.score_ppb}
            for one in found.strongest.best()
        ],
        "pictures": len(report.gallery.plates),
        "made_ms": report.made_ms,
        "version": report.version,
    }


def _quantiles(histogram: Histogram) -> dict[str, str | int]:
    if not histogram.total:
        return {"count": 0}
    quantiles = {f"p{round(100 * share)}": f"{histogram.quantile(share):.6g}" for share in QUANTILES}
    return {"count": histogram.total, **quantiles}
