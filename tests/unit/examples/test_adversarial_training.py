"""The training example in small: what is loaded, what training sees and keeps, what the command refuses."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

import perturbnet
from examples import adversarial_training as example
from perturbnet.adversarial_dataset.loading import Example
from perturbnet.attack_comparison.robust_accuracy import RobustAccuracy
from perturbnet.classifier.architecture import build_reference
from perturbnet.classifier.labels import REFERENCE_LABELS
from tests.support.fakes import texture

RECIPE = example.Recipe(epochs=2, batch=4)


def make_pairs(number: int = 8) -> example.Pairs:
    draws = torch.Generator().manual_seed(1)
    clean = torch.rand(number, 3, 32, 32, generator=draws)
    change = 0.01 * torch.randn(clean.shape, generator=draws)
    return example.Pairs(clean, clean + change, torch.arange(number) % 10, tuple(range(number)))


def trained(recipe: example.Recipe, pairs: example.Pairs, seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    network = build_reference(len(REFERENCE_LABELS))
    example.fine_tune(network, pairs, recipe, seed, lambda: None)
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def differ(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> set[str]:
    return {name for name in one if not torch.equal(one[name], other[name])}


class TestTraining:
    def test_weights_move_and_the_statistics_of_batch_norm_do_not(self) -> None:
        torch.manual_seed(5)
        fresh = build_reference(len(REFERENCE_LABELS)).state_dict()
        moved = differ(fresh, trained(RECIPE, make_pairs()))
        assert "classifier.weight" in moved
        assert not [name for name in moved if "running" in name or "num_batches" in name]

    def test_a_seed_fixes_it_and_another_changes_it(self) -> None:
        once = trained(RECIPE, make_pairs())
        assert not differ(once, trained(RECIPE, make_pairs()))
        assert differ(once, trained(RECIPE, make_pairs(), seed=1))

    def test_the_control_sees_no_adversarial_image(self) -> None:
        pairs, control = make_pairs(), replace(RECIPE, strength=0.0)
        spoiled = replace(pairs, adversarial=torch.full_like(pairs.adversarial, torch.nan))
        assert not differ(trained(control, pairs), trained(control, spoiled))
        assert differ(trained(RECIPE, pairs), trained(control, pairs))

    def test_it_learns_the_adversarial_images(self) -> None:
        pairs = make_pairs()
        torch.manual_seed(5)
        network = build_reference(len(REFERENCE_LABELS)).eval()
        losses = []
        for _ in range(2):
            with torch.inference_mode():
                logits = network(pairs.adversarial)
            losses.append(float(torch.nn.functional.cross_entropy(logits, pairs.labels)))
            example.fine_tune(network, pairs, replace(RECIPE, epochs=8), 0, lambda: None)
        assert losses[1] < losses[0]

    def test_a_step_has_the_stated_strength_and_weight(self) -> None:
        pairs, recipe = make_pairs(), replace(RECIPE, strength=3.0, weight=0.25)
        draws = torch.Generator().manual_seed(2)
        inputs, labels, weights = example._mix(pairs, torch.tensor([6, 1]), recipe, draws)
        assert labels.tolist() == [6, 1, 6, 1]
        assert weights.tolist() == [1, 1, 0.25, 0.25]
        change = (pairs.adversarial - pairs.clean)[[6, 1]]
        factors = (inputs[2:] - inputs[:2]).flatten(1).norm(dim=1) / change.flatten(1).norm(dim=1)
        assert ((factors > 1) & (factors < 3)).all()
        assert factors[0] != pytest.approx(float(factors[1]), rel=1e-3)


class Exported(Sequence[Example]):
    """What `load_adversarial` gives, in memory; the network erred on the second picture."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: Any) -> Any:
        clean = texture(str(index), 40, 50)
        return Example(clean, clean ^ np.uint8(1), 0)

    def row(self, index: int) -> dict[str, Any]:
        return {"row": 10 * index, "source_label": REFERENCE_LABELS[index], "label": 0}


def test_pairs_have_the_true_class_and_the_source_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perturbnet, "load_adversarial", lambda *_, **__: Exported())
    pairs = example.load_pairs(tmp_path, tmp_path, "train")
    assert pairs.labels.tolist() == [0, 1, 2]
    assert pairs.rows == (0, 10, 20)
    assert pairs.clean.shape == pairs.adversarial.shape == (3, 3, 96, 96)
    assert (pairs.clean != pairs.adversarial).flatten(1).any(dim=1).all()
    assert len(example.load_pairs(tmp_path, tmp_path, "train", most=2).labels) == 2


def test_a_trained_file_is_kept_only_for_the_same_recipe(tmp_path: Path) -> None:
    file = tmp_path / "seed-0.safetensors"
    assert not example._holds(file, {"recipe": "one"})
    file.write_bytes(save({"one": torch.zeros(1)}, metadata={"recipe": "one"}))
    assert example._holds(file, {"recipe": "one"})
    assert not example._holds(file, {"recipe": "two"})


def test_the_score_counts_every_image() -> None:
    standings = [RobustAccuracy(0, 0, {}, 0), RobustAccuracy(1, 1, {"pgd": 1}, 900_000_000)]
    assert example.mean_score(standings) == 0.45


def test_no_export_is_one_sentence_and_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing, out = tmp_path / "missing", tmp_path / "out"
    monkeypatch.setattr(example, "examination", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["adversarial_training.py", str(missing), "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        example.main()
    assert ended.value.code not in (0, None)
    assert str(missing) in capsys.readouterr().err


def test_the_command_line_has_the_recipes_numbers() -> None:
    options: argparse.Namespace = example.read_options(["EXPORT"])
    numbers = options.epochs, options.rate, options.strength, options.weight, options.batch
    assert example.Recipe(*numbers) == example.Recipe()
    assert (options.on, options.level, options.seeds) == ("test", 1, [0, 1, 2])
