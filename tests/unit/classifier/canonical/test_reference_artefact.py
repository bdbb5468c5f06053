"""The artefact that is shipped: compiled from the pinned weights, to the byte; every engine agrees on it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from perturbnet.classifier import open_engine
from perturbnet.classifier.canonical.obligations import budgets
from perturbnet.classifier.canonical.profiles import compile_profile, find_artefact
from perturbnet.classifier.canonical.self_test import digest_golden
from perturbnet.datasets.reference import load_photographs
from perturbnet.datasets.rendering import render
from tests.support.classifier.networks import hostile_images


def test_the_pinned_weights_compile_to_the_shipped_file(tmp_path: Path) -> None:
    """When this fails after training anew: `python recipes/reference/compile.py`."""
    shipped, pin = find_artefact("reference", tmp_path)
    compiled = compile_profile("reference", cache_dir=tmp_path).encode()
    assert hashlib.sha256(compiled).hexdigest() == pin.sha256
    assert shipped.encode() == compiled


def test_every_sum_is_within_its_budget(tmp_path: Path) -> None:
    found = list(budgets(find_artefact("reference", tmp_path)[0]))
    assert len(found) == 30
    assert max(budget.sum_bits for budget in found) <= 53
    assert all(budget.cap is None or budget.cap >= 22 for budget in found)


def test_both_engines_open_and_agree(tmp_path: Path) -> None:
    """Opening is a self-test against the pinned logits; then rendered pictures and hostile ones."""
    first, second = (
        open_engine("reference", cache_dir=tmp_path, device="cpu", kind=kind)
        for kind in ("float64", "integer")
    )
    assert digest_golden(first) == list(find_artefact("reference", tmp_path)[1].golden)
    photographs = load_photographs()
    images = [render("test", row, photographs)[0] for row in range(4)] + list(hostile_images().values())
    assert first.classify(images) == second.classify(images)
