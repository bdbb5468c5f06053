"""From trials to a table: scores at time budgets, and how sure they are.

Intervals are percentile bootstraps over images (95 %, 4,000 resamplings from a fixed seed). Differences are
paired: the same images for both attacks, because images differ far more than attacks do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perturbnet.wire.units import from_ppb

RESAMPLINGS = 4000
CHANGED, SQUARES = 2, 3  # of a point: see `trials.run_trial`
Trial = Mapping[str, Any]


def read_score(trial: Trial, budget_s: float) -> float:
    """The score of the best answer accepted by then; 0 where there was none."""
    point = point_at(trial, budget_s)
    return 0.0 if point is None else from_ppb(int(point[4]))


def point_at(trial: Trial, budget_s: float) -> Sequence[float] | None:
    """The trace's last point at or before a budget."""
    reached = [point for point in trial["trace"] if point[0] <= budget_s]
    return reached[-1] if reached else None


def tabulate(trials: Sequence[Trial], budgets_s: Sequence[float], ours: str) -> dict[str, Any]:
    """Rows by stratum: all images, and the easier and harder half by clean margin."""
    margins = {trial["image"]: trial["margin"] for trial in trials}
    median = float(np.median(list(margins.values())))
    harder = {image for image, margin in margins.items() if margin > median}
    strata = {"all": set(margins), "easier": set(margins) - harder, "harder": harder}
    return {
        "budgets_s": list(budgets_s),
        "ours": ours,
        "images": len(margins),
        "median_margin": median,
        "strata": {
            name: _stratum([trial for trial in trials if trial["image"] in images], budgets_s, ours)
            for name, images in strata.items()
        },
    }


def _stratum(trials: Sequence[Trial], budgets_s: Sequence[float], ours: str) -> list[dict[str, Any]]:
    names = list(dict.fromkeys(trial["attack"] for trial in trials))
    by_name = {
        name: sorted((one for one in trials if one["attack"] == name), key=lambda one: one["image"])
        for name in names
    }
    reference = by_name.get(ours)
    return [_row(name, by_name[name], reference, budgets_s) for name in names]


def _row(
    name: str, trials: Sequence[Trial], ours: Sequence[Trial] | None, budgets_s: Sequence[float]
) -> dict[str, Any]:
    last_s = budgets_s[-1]
    ends = [point_at(trial, last_s) for trial in trials]
    found = [end for end in ends if end is not None]
    row: dict[str, Any] = {
        "attack": name,
        "images": len(trials),
        "scores": {str(budget): _scores(trials, ours, name, budget) for budget in budgets_s},
        "success": len(found) / len(trials),
        "one_level": sum(end[1] == 1 for end in found) / len(trials),
        "mean_level": float(np.mean([end[1] for end in found])) if found else None,
        "changed_mean": float(np.mean([end[2] for end in found])) if found else None,
        "changed_median": float(np.median([end[2] for end in found])) if found else None,
        "forward": float(np.mean([trial["forward"] for trial in trials])),
        "backward": float(np.mean([trial["backward"] for trial in trials])),
        "verifications": float(np.mean([trial["verifications"] for trial in trials])),
        "ended_s": float(np.mean([trial["ended_s"] for trial in trials])),
        "wall_s": float(np.mean([trial["wall_s"] for trial in trials])),
        "late": sum(bool(trial["late"]) for trial in trials),
        "answers": sum(trial["verdict"] is not None for trial in trials),
        "valid_answers": sum(trial["verdict"] == "ok" for trial in trials),
    }
    if ours is not None:
        row["changed_ratio"] = _median_ratio(trials, ours, last_s, CHANGED)
        row["squares_ratio"] = _median_ratio(trials, ours, last_s, SQUARES)
    return row


def _scores(
    trials: Sequence[Trial], ours: Sequence[Trial] | None, name: str, budget: float
) -> dict[str, Any]:
    mine = np.array([read_score(trial, budget) for trial in trials])
    found: dict[str, Any] = {"mean": float(mine.mean()), "interval": bootstrap(mine)}
    if ours is not None and ours[0]["attack"] != name:
        pairs = pair(trials, ours)
        ahead = np.array([read_score(our, budget) - read_score(one, budget) for one, our in pairs])
        found["behind"] = {"mean": float(ahead.mean()), "interval": bootstrap(ahead)}
    return found


def _median_ratio(
    trials: Sequence[Trial], ours: Sequence[Trial], budget_s: float, field: int
) -> float | None:
    """Median over images of (this attack's number / ours), where both stand at the same level."""
    pairs = [(point_at(one, budget_s), point_at(our, budget_s)) for one, our in pair(trials, ours)]
    ratios = [one[field] / our[field] for one, our in pairs if one and our and one[1] == our[1]]
    return float(np.median(ratios)) if ratios else None


def pair(trials: Sequence[Trial], ours: Sequence[Trial]) -> list[tuple[Trial, Trial]]:
    """Trials of one image, this attack's and ours."""
    by_image = {trial["image"]: trial for trial in ours}
    return [(one, by_image[one["image"]]) for one in trials if one["image"] in by_image]


def bootstrap(values: NDArray[np.float64]) -> tuple[float, float]:
    """Ends of the 95 % percentile interval of the mean."""
    picks = np.random.default_rng(0).integers(0, len(values), (RESAMPLINGS, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def curve(trials: Sequence[Trial], attack: str, times_s: Sequence[float]) -> list[float]:
    """Mean score over images at each time."""
    own = [trial for trial in trials if trial["attack"] == attack]
    return [float(np.mean([read_score(trial, at) for trial in own])) for at in times_s]


def to_markdown(table: Mapping[str, Any]) -> str:
    """The table for people: one section for each stratum."""
    budgets = table["budgets_s"]
    parts = []
    for name, rows in table["strata"].items():
        shown = f"harder half, clean margin above {table['median_margin']:.2f}" if name == "harder" else name
        head = ["attack", *(f"score at {budget:g} s" for budget in budgets), f"behind at {budgets[-1]:g} s"]
        head += [
            "success",
            "k = 1",
            "mean k",
            "changed: mean",
            "median",
            "ratio",
            "squares: ratio",
            "forward",
            "backward",
        ]
        head += ["verified", "ends, s", "wall, s", "late", "valid"]
        lines = [f"### {shown} ({rows[0]['images']} images)", "", f"| {' | '.join(head)} |"]
        lines.append("|" + " --- |" * len(head))
        lines += [f"| {' | '.join(_cells(row, budgets))} |" for row in rows]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _cells(row: Mapping[str, Any], budgets: Sequence[float]) -> list[str]:
    scores = [row["scores"][str(budget)] for budget in budgets]
    behind = scores[-1].get("behind")
    gap = (
        "–"
        if behind is None
        else f"{behind['mean']:.4f} [{behind['interval'][0]:.4f}, {behind['interval'][1]:.4f}]"
    )
    return [
        row["attack"],
        *(f"{score['mean']:.4f}" for score in scores),
        gap,
        f"{row['success']:.3f}",
        f"{row['one_level']:.3f}",
        _number(row["mean_level"], ".2f"),
        _number(row["changed_mean"], ",.0f"),
        _number(row["changed_median"], ",.0f"),
        _number(row.get("changed_ratio"), ".3f"),
        _number(row.get("squares_ratio"), ".3f"),
        f"{row['forward']:,.0f}",
        f"{row['backward']:,.0f}",
        f"{row['verifications']:.1f}",
        f"{row['ended_s']:.2f}",
        f"{row['wall_s']:.1f}",
        str(row["late"]),
        f"{row['valid_answers']} of {row['answers']}",
    ]


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
