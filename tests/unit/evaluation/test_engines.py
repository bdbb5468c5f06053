"""Judge and searcher: canonical where it compiles, else float64, one image at a time."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from perturbnet.classifier.oracle import FloatOracle
from perturbnet.classifier.weights import reference_weights
from perturbnet.errors import DigestMismatch, ModelError
from perturbnet.evaluation.engines import PlainClassification, PlainEngine, open_network
from perturbnet.evaluation.networks import Choices, Network, describe_network
from perturbnet.evaluation.weights_files import HubAccess, find_weights
from perturbnet.rules.classification import CANONICAL, Engine
from perturbnet.runtime.artifacts import read_pins
from tests.support.evaluation.pictures import write_weights
from tests.support.fakes import texture

PLAIN = ("test_resnet", "test_vit", "test_convnext")
COMPILABLE = Choices(size=64, kernel="bicubic", crop_pct="1", mean=("0.5",) * 3, std=("0.5",) * 3)


def network_of(folder: Path, name: str, choices: Choices | None = None) -> Network:
    path = write_weights(folder / f"{name}.safetensors", name)
    return describe_network(find_weights(str(path), None, HubAccess()), choices or Choices(size=64), [])


def open_one(folder: Path, name: str, choices: Choices | None = None) -> PlainClassification:
    return open_network(network_of(folder, name, choices), folder, device="cpu")


@pytest.mark.parametrize("name", PLAIN)
def test_families_that_do_not_compile_run_in_float64(tmp_path: Path, name: str) -> None:
    network = network_of(tmp_path, name)
    judged = open_network(network, tmp_path, device="cpu")
    assert not judged.reproducible
    assert "is not timm's EfficientNet" in judged.reason
    assert judged.engine.name not in CANONICAL
    assert judged.engine.model_digest == network.digest()
    pixels = texture("a", 50, 70)
    with torch.inference_mode():
        inputs = network.transform.apply(torch.tensor(pixels[None]).double())
        expected = network.load().double()(inputs)[0]
    found = judged.engine.classify([pixels])[0]
    assert found.index == int(expected.argmax())
    assert math.isclose(found.margin, float(expected.sort().values[-1] - expected.sort().values[-2]))


@pytest.mark.parametrize("name", PLAIN)
def test_a_batch_cannot_matter(tmp_path: Path, name: str) -> None:
    engine = open_one(tmp_path, name).engine
    images = [texture(str(seed), 40 + seed, 60) for seed in range(3)]
    together = engine.classify([*images, *images])
    assert together == [engine.classify([pixels])[0] for pixels in images] * 2


@pytest.mark.parametrize("name", PLAIN)
def test_searchers_get_gradients_of_the_same_network(tmp_path: Path, name: str) -> None:
    judged = open_one(tmp_path, name)
    oracle, pixels = FloatOracle(judged.search), texture("g", 64, 64)
    index = judged.engine.classify([pixels])[0].index
    margins, gradients = oracle.margin_grad(pixels[None], np.array([index]))
    assert math.isclose(
        float(margins[0]), judged.engine.classify([pixels])[0].margin, rel_tol=1e-3, abs_tol=1e-4
    )
    assert gradients.shape == (1, 64, 64, 3)
    assert np.isfinite(gradients).all()
    assert np.abs(gradients).max() > 0


def test_an_efficientnet_compiles_and_is_read_again(tmp_path: Path) -> None:
    first, second = (open_one(tmp_path, "test_efficientnet", COMPILABLE) for _ in range(2))
    assert first.reproducible
    assert first.engine.name in CANONICAL
    assert first.engine.model_digest == second.engine.model_digest
    pixels = texture("b", 50, 70)
    assert first.engine.classify([pixels]) == second.engine.classify([pixels])
    plain = open_network(
        network_of(tmp_path, "test_efficientnet", COMPILABLE), tmp_path, device="cpu", compiled=False
    )
    assert "--float64" in plain.reason
    exact, close = (judged.engine.classify([pixels])[0].margin for judged in (first, plain))
    assert math.isclose(exact, close, rel_tol=1e-3)


def test_an_efficientnet_whose_preprocessing_cannot_be_compiled_says_so(tmp_path: Path) -> None:
    judged = open_one(tmp_path, "test_efficientnet")
    assert not judged.reproducible
    assert "--crop-pct 1" in judged.reason


def test_a_damaged_artefact_is_refused(tmp_path: Path) -> None:
    open_one(tmp_path, "test_efficientnet", COMPILABLE)
    path = next(tmp_path.glob("network-*.model"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises((DigestMismatch, ModelError)):
        open_one(tmp_path, "test_efficientnet", COMPILABLE)


def test_the_reference_weights_compile_to_the_networks_own_artefact(tmp_path: Path) -> None:
    weights = find_weights(str(reference_weights()[0]), "perturb_efficientnetv2_reference", HubAccess())
    judged = open_network(describe_network(weights, Choices(), []), tmp_path, device="cpu")
    assert judged.engine.model_digest == read_pins("reference.json")["artefact"]["sha256"]


def test_the_name_names_weights_labels_and_preprocessing(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\n")
    networks = [
        network_of(tmp_path, "test_resnet"),
        network_of(tmp_path, "test_vit"),
        network_of(tmp_path, "test_resnet", Choices(size=65)),
        network_of(tmp_path, "test_resnet", Choices(size=64, labels=str(tmp_path / "labels.txt"))),
    ]
    assert len({network.digest() for network in networks}) == len(networks)


def test_what_is_no_image_and_what_is_no_network_are_refused(tmp_path: Path) -> None:
    engine: Engine = open_one(tmp_path, "test_resnet").engine
    assert isinstance(engine, PlainEngine)
    with pytest.raises(ModelError, match="expected uint8"):
        engine.classify([np.zeros((4, 4, 3), np.float32)])
    with pytest.raises(ModelError, match="cannot be run"):
        open_one(tmp_path, "test_vit", Choices(size=61))
