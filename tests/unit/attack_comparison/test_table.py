"""Scores read from traces, intervals, strata, and the picture."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

from perturbnet.attack_comparison.picture import draw, times
from perturbnet.attack_comparison.table import bootstrap, curve, point_at, read_score, tabulate, to_markdown
from perturbnet.attack_comparison.values import compare_values, values_markdown


def trial(attack: str, image: int, *points: tuple[float, int, int, float], **fields: Any) -> dict[str, Any]:
    """`points`: seconds, level, changed values, score."""
    return {
        "attack": attack,
        "image": image,
        "margin": float(image),
        "trace": [[at, level, changed, changed, round(score * 1e9)] for at, level, changed, score in points],
        "verdict": "ok" if points else None,
        "late": False,
        "forward": 10,
        "backward": 4,
        "verifications": 2,
        "ended_s": 3.0,
        "wall_s": 1.0,
        **fields,
    }


TRIALS = [
    trial("ours", 0, (0.5, 2, 900, 0.7), (1.5, 1, 400, 0.9)),
    trial("theirs", 0, (1.9, 1, 800, 0.8)),
    trial("ours", 1, (0.2, 1, 100, 0.95)),
    trial("theirs", 1),
    trial("ours", 2, (0.4, 1, 300, 0.92)),
    trial("theirs", 2, (0.3, 2, 900, 0.6), late=True, verdict="ssim_low"),
]


def test_a_score_is_the_last_accepted_by_then() -> None:
    assert [read_score(TRIALS[0], at) for at in (0.4, 0.5, 1.4, 1.5, 99)] == [0, 0.7, 0.7, 0.9, 0.9]
    assert point_at(TRIALS[3], 10) is None
    assert curve(TRIALS, "ours", [0.3, 2]) == pytest.approx([0.95 / 3, (0.9 + 0.95 + 0.92) / 3])


def test_the_table() -> None:
    table = tabulate(TRIALS, [1, 2], "ours")
    ours, theirs = table["strata"]["all"]
    assert ours["scores"]["1"]["mean"] == pytest.approx((0.7 + 0.95 + 0.92) / 3)
    assert theirs["scores"]["2"]["behind"]["mean"] == pytest.approx((0.1 + 0.95 + 0.32) / 3)
    assert "behind" not in ours["scores"]["2"]
    assert (ours["success"], theirs["success"]) == (1.0, pytest.approx(2 / 3))
    assert theirs["one_level"] == pytest.approx(1 / 3)
    assert theirs["changed_ratio"] == 2.0  # image 2 is left out: another level
    assert theirs["squares_ratio"] == 2.0
    assert (theirs["late"], theirs["answers"], theirs["valid_answers"]) == (1, 2, 1)
    assert table["median_margin"] == 1.0
    assert [len(rows) for rows in table["strata"].values()] == [2, 2, 2]
    assert table["strata"]["harder"][0]["images"] == 1


def test_an_attack_that_ran_on_fewer_images_is_paired_by_image() -> None:
    table = tabulate(TRIALS[:5], [2], "ours")
    theirs = table["strata"]["all"][1]
    assert theirs["images"] == 2
    assert theirs["scores"]["2"]["behind"]["mean"] == pytest.approx((0.1 + 0.95) / 2)


def test_markdown_shows_every_attack_in_every_stratum() -> None:
    text = to_markdown(tabulate(TRIALS, [1, 2], "ours"))
    assert text.count("| ours |") == text.count("| theirs |") == 3
    assert "harder half, clean margin above 1.00" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1


def test_intervals_hold_the_mean_and_are_the_same_every_time() -> None:
    values = np.random.default_rng(1).normal(0.5, 0.1, 60)
    low, high = bootstrap(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(4 * 0.1 / 60**0.5, rel=0.25)
    assert bootstrap(values) == (low, high)


def test_the_picture_is_svg_with_a_line_for_each_attack() -> None:
    moments = times(18)
    assert [moments[0], moments[-1]] == pytest.approx([0.1, 18])
    curves = {name: curve(TRIALS, name, moments) for name in ("ours", "theirs")}
    root = ET.fromstring(draw(curves, moments, "Scores & budgets"))
    texts = ["".join(found.itertext()) for found in root.iter("{http://www.w3.org/2000/svg}text")]
    assert any(text.startswith("ours") for text in texts)
    assert any(text.startswith("theirs") for text in texts)
    assert sum(found.get("fill") == "none" for found in root.iter("{http://www.w3.org/2000/svg}path")) == 2


def test_values_are_compared_apart_by_level() -> None:
    rows = {(row["attack"], row["group"]): row for row in compare_values(TRIALS, 2, "ours")}
    same, another = rows["theirs", "k = 1"], rows["theirs", "another k"]
    assert (same["images"], same["changed_ratio"], same["fewer"]) == (1, 2.0, 1)
    assert (another["images"], another["changed_ratio"], another["fewer"]) == (1, 3.0, 1)
    assert rows["theirs", "any level"]["changed_ratio"] == 2.5
    assert rows["theirs", "same k, 2 or more"]["changed_ratio"] is None
    shown = values_markdown(list(rows.values()), "ours")
    assert "| theirs | k = 1 | 1 | 2.000 | 2.000 | 1 of 1 |" in shown
    assert "2 or more" not in shown
