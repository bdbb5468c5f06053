"""The network that is shipped: what it is pinned as, what it can, and what the design asks of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from perturbnet.classifier import Float32Engine, open_engine
from perturbnet.classifier.oracle import FloatOracle
from perturbnet.classifier.weights import reference_weights
from perturbnet.datasets.reference import load_photographs
from perturbnet.datasets.rendering import CLASSES, ROWS, render
from perturbnet.runtime.artifacts import read_pins, sha256_file

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Float32Engine:
    return open_engine("reference", cache_dir=tmp_path_factory.mktemp("cache"), device="cpu", kind="float32")


def drawn(rows: range) -> tuple[list[np.ndarray], list[int]]:
    pictures = [render("test", row, load_photographs()) for row in rows]
    return [pixels for pixels, _ in pictures], [label for _, label in pictures]


def share_right(engine: Float32Engine, rows: range) -> float:
    images, labels = drawn(rows)
    answers = engine.classify(images)
    return sum(answer.index == label for answer, label in zip(answers, labels, strict=True)) / len(labels)


def test_the_shipped_weights_are_the_pinned_ones() -> None:
    path, sha256 = reference_weights()
    assert sha256_file(path) == sha256
    assert path.stat().st_size < 2_000_000


def test_everything_shipped_is_small() -> None:
    shipped = (ROOT / "perturbnet" / "data").rglob("*")
    assert sum(file.stat().st_size for file in shipped if file.is_file()) < 6_000_000


def test_every_photograph_has_its_licence() -> None:
    folder = ROOT / "perturbnet" / "data" / "photographs"
    named = {line.split()[0] for line in (folder / "LICENSES").read_text().splitlines() if ".png " in line}
    assert named == {file.name for file in folder.glob("*.png")}


def test_it_knows_what_it_sees(engine: Float32Engine) -> None:
    assert engine.labels == CLASSES
    assert share_right(engine, range(72)) >= 0.9


def test_most_pictures_fall_within_two_levels(engine: Float32Engine) -> None:
    """A plain descent of the margin, 12 steps; not the best attack there is."""
    images, labels = drawn(range(60))
    clean, true = np.stack(images), np.array(labels)
    oracle = FloatOracle(engine)
    right = oracle.logits(clean).argmax(axis=1) == true
    offset = np.zeros(clean.shape)
    fell = np.zeros(len(clean), dtype=bool)
    for _ in range(12):
        moved = np.clip(clean + np.rint(offset), 0, 255).astype(np.uint8)
        margins, gradient = oracle.margin_grad(moved, true)
        fell |= margins < 0
        offset = np.clip(offset - np.sign(gradient) / 2, -2, 2)
    assert (fell & right).sum() >= 0.7 * right.sum()


def test_the_committed_figures_are_of_this_network_and_good_enough(engine: Float32Engine) -> None:
    figures = json.loads((ROOT / "recipes" / "reference" / "figures.json").read_text())
    assert figures["model_digest"] == engine.model_digest
    assert figures["test"]["images"] == ROWS["test"]
    assert figures["test"]["accuracy"] >= 0.9
    assert figures["test"]["fgsm_one_level_success"] <= 0.6
    assert figures["test"]["pgd_ascending_success"] >= 0.95
    assert figures["weights_bytes"] == read_pins("reference.json")["network"]["size"]


@pytest.mark.slow
def test_accuracy_on_the_whole_test_split(engine: Float32Engine) -> None:
    assert share_right(engine, range(ROWS["test"])) >= 0.9
