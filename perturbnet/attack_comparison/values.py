"""Who changes fewer values: pairs of answers to one image, apart by the levels they stand at.

At one level, fewer values and fewer squares are one aim. From two levels on they are not: a value moved by
all of k costs k² and does the work of nearly k values moved by one. A count says nothing without its level.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from perturbnet.attack_comparison.table import CHANGED, SQUARES, Trial, pair, point_at

LEVEL = 1  # of a point: see `trials.run_trial`
GROUPS: dict[str, Callable[[float, float], bool]] = {
    "any level": lambda _one, _our: True,
    "k = 1": lambda one, our: one == our == 1,
    "same k, 2 or more": lambda one, our: one == our > 1,
    "another k": lambda one, our: one != our,
}


def compare_values(trials: Sequence[Trial], budget_s: float, ours: str) -> list[dict[str, Any]]:
    """A row for each opponent and group of images: median ratios to ours, and how often ours is fewer."""
    reference = [trial for trial in trials if trial["attack"] == ours]
    rows = []
    for name in dict.fromkeys(trial["attack"] for trial in trials if trial["attack"] != ours):
        pairs = pair([trial for trial in trials if trial["attack"] == name], reference)
        points = [(point_at(one, budget_s), point_at(our, budget_s)) for one, our in pairs]
        for group, belongs in GROUPS.items():
            chosen = [(one, our) for one, our in points if one and our and belongs(one[LEVEL], our[LEVEL])]
            rows.append({"attack": name, "group": group, **_compare(chosen)})
    return rows


def _compare(pairs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> dict[str, Any]:
    if not pairs:
        return {"images": 0, "changed_ratio": None, "squares_ratio": None, "fewer": 0}
    return {
        "images": len(pairs),
        "changed_ratio": float(np.median([one[CHANGED] / our[CHANGED] for one, our in pairs])),
        "squares_ratio": float(np.median([one[SQUARES] / our[SQUARES] for one, our in pairs])),
        "fewer": sum(our[CHANGED] < one[CHANGED] for one, our in pairs),
    }


def values_markdown(rows: Sequence[Mapping[str, Any]], ours: str) -> str:
    """The rows for people."""
    head = ["attack", "where both answer", "images", "changed values", "squares", f"{ours} has fewer"]
    lines = [f"### Theirs over {ours}'s, median over images", "", f"| {' | '.join(head)} |"]
    lines.append("|" + " --- |" * len(head))
    for row in rows:
        if row["images"]:
            images, ratios = row["images"], f"{row['changed_ratio']:.3f} | {row['squares_ratio']:.3f}"
            fewer = f"{row['fewer']} of {images}"
            lines.append(f"| {row['attack']} | {row['group']} | {images} | {ratios} | {fewer} |")
    return "\n".join(lines) + "\n"
