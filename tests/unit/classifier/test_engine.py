"""The float32 engine, on a small network whose weights were drawn once for the test and saved."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from perturbnet.classifier.architecture import REFERENCE_NAME, build_reference, load_network
from perturbnet.classifier.engine import Float32Engine, judge
from perturbnet.classifier.oracle import FloatOracle
from perturbnet.classifier.preprocessing import REFERENCE
from perturbnet.errors import ModelError

LABELS = ("a", "b", "crane", "crane")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(7)
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(build_reference(len(LABELS)).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def engine(weights: Path) -> Float32Engine:
    network = load_network(REFERENCE_NAME, len(LABELS), weights)
    return Float32Engine(network, REFERENCE, LABELS, model_name=REFERENCE_NAME, model_digest="00")


def pictures(*sizes: tuple[int, int]) -> list[np.ndarray]:
    random = np.random.default_rng(3)
    return [random.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in sizes]


def test_images_of_any_sizes_keep_their_order(engine: Float32Engine) -> None:
    images = pictures((120, 150), (100, 99), (120, 150), (60, 200))
    together = engine.classify(images)
    for image, answer in zip(images, together, strict=True):
        (alone,) = engine.classify([image])
        assert (answer.index, answer.text) == (alone.index, LABELS[alone.index])
        assert answer.margin == pytest.approx(alone.margin, abs=1e-4)


def test_more_images_than_one_pass_holds(engine: Float32Engine) -> None:
    (image,) = pictures((20, 20))
    assert len({answer.index for answer in engine.classify([image] * 33)}) == 1


def test_no_images(engine: Float32Engine) -> None:
    assert engine.classify([]) == []


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
    ],
)
def test_what_is_no_image_is_refused(engine: Float32Engine, image: np.ndarray) -> None:
    with pytest.raises(ModelError, match="expected uint8"):
        engine.classify([image])


def test_a_change_of_one_level_does_not_vanish(engine: Float32Engine) -> None:
    (image,) = pictures((120, 150))
    changed = image.copy()
    changed[60, 75, 1] ^= 1
    first, second = engine.classify([image, changed])
    assert first.logits_digest != second.logits_digest


def test_ties_go_to_the_lowest_index() -> None:
    assert judge(np.array([0.0, 2.0, 2.0, 1.0], np.float32), LABELS).index == 1


def test_the_digest_is_of_little_endian_float64_without_negative_zero() -> None:
    answer = judge(np.array([-0.0, 1.5, -2.0, 0.25], np.float32), LABELS)
    assert answer.logits_digest == hashlib.sha256(struct.pack("<4d", 0.0, 1.5, -2.0, 0.25)).hexdigest()
    assert answer.margin == 1.25
    assert answer.healthy


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_unhealthy(bad: float) -> None:
    answer = judge(np.array([1.0, bad, 0.5, 0.0], np.float32), LABELS)
    assert (answer.saturated, answer.healthy, answer.index) == (1, False, 0)


def test_all_numbers_bad() -> None:
    assert judge(np.full(4, np.nan, np.float32), LABELS).saturated == 4


def test_a_text_that_appears_twice_keeps_its_index() -> None:
    answer = judge(np.array([0.0, 0.0, 1.0, 2.0], np.float32), LABELS)
    assert (answer.index, answer.text) == (3, "crane")
    assert judge(np.array([0.0, 0.0, 2.0, 1.0], np.float32), LABELS).text == answer.text


# Weights.


def test_weights_that_lack_a_tensor_are_refused(weights: Path, tmp_path: Path) -> None:
    tensors = load_file(weights)
    del tensors["conv_stem.weight"]
    save_file(tensors, tmp_path / "short.safetensors")
    with pytest.raises(ModelError, match=r"conv_stem\.weight"):
        load_network(REFERENCE_NAME, len(LABELS), tmp_path / "short.safetensors")


def test_weights_of_another_shape_are_refused(weights: Path) -> None:
    with pytest.raises(ModelError, match="size mismatch"):
        load_network(REFERENCE_NAME, 5, weights)


@pytest.mark.parametrize("data", [b"", b"\x00" * 7, b"<html>429</html>" * 100])
def test_what_is_no_safetensors_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(ModelError, match="does not fit"):
        load_network(REFERENCE_NAME, len(LABELS), tmp_path / "model.safetensors")


def test_an_unknown_network(weights: Path) -> None:
    with pytest.raises(ModelError, match="expected one of"):
        load_network("resnet50", 4, weights)


def test_loading_is_exact_and_frozen(weights: Path) -> None:
    network = load_network(REFERENCE_NAME, len(LABELS), weights)
    stored = load_file(weights)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, stored[name])
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


# The oracle.


def test_gradients_agree_with_differences(engine: Float32Engine) -> None:
    """In float64, along a random direction: the margin changes as the gradient says."""
    (image,) = pictures((40, 50))
    oracle = FloatOracle(engine)
    labels = np.array([0])
    margins, gradient = oracle.margin_grad(image[None], labels, np.array([1]))
    assert margins.shape == (1,)
    assert gradient.shape == (1, 40, 50, 3)
    direction = np.random.default_rng(5).normal(size=image.shape)
    step = 1e-4
    network = engine.network.double()
    try:
        levels = torch.from_numpy(image[None].astype(np.float64))
        ends = [
            engine.forward(levels + sign * step * torch.from_numpy(direction)[None])[0] for sign in (1, -1)
        ]
    finally:
        network.float()
    slope = float((ends[0][0] - ends[0][1] - ends[1][0] + ends[1][1]) / (2 * step))
    assert slope == pytest.approx(float((gradient[0] * direction).sum()), rel=1e-2, abs=1e-5)


def test_cropped_pixels_have_no_gradient(engine: Float32Engine) -> None:
    _, gradient = FloatOracle(engine).margin_grad(pictures((120, 150))[0][None], np.array([0]))
    assert not gradient[:, :, :12].any()
    assert not gradient[:, :, -12:].any()
    assert gradient[:, :, 20:-20].any(axis=-1).mean() > 0.99


def test_a_class_of_the_same_text_is_no_rival(engine: Float32Engine) -> None:
    batch = np.stack(pictures((30, 30), (30, 30)))
    oracle = FloatOracle(engine)
    logits = oracle.logits(batch)
    margins, _ = oracle.margin_grad(batch, np.array([2, 3]))
    expected = [logits[0, 2] - logits[0, :2].max(), logits[1, 3] - logits[1, :2].max()]
    np.testing.assert_allclose(margins, expected, atol=1e-5)


def test_passes_are_counted(engine: Float32Engine) -> None:
    oracle = FloatOracle(engine)
    batch = np.stack(pictures((30, 30), (30, 30), (30, 30)))
    oracle.logits(batch)
    oracle.margin_grad(batch, np.zeros(3, np.int64))
    assert (oracle.forward_passes, oracle.backward_passes) == (6, 3)
    assert oracle.labels == LABELS
