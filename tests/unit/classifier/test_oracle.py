"""The oracle: several images share a pass and are answered as if alone; bfloat16 is near enough."""

from __future__ import annotations

import numpy as np
import pytest

from perturbnet.classifier import open_oracle
from perturbnet.classifier.canonical.profiles import open_gradient
from perturbnet.classifier.oracle import FloatOracle, MarginQuestion
from perturbnet.wire.images import Pixels
from tests.support.fakes import texture

TINY = 2e-4  # float32 in another batch, relative to the largest value


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> FloatOracle:
    return open_oracle("reference", cache_dir=tmp_path_factory.mktemp("cache"), device="cpu")


def pictures() -> list[Pixels]:
    """Three batches of three sizes."""
    return [
        np.stack([texture("a"), texture("b")]),
        texture("c", 100, 70)[None],
        np.stack([texture(name, 120, 150) for name in "def"]),
    ]


def test_batches_of_several_sizes_get_the_logits_they_get_alone(oracle: FloatOracle) -> None:
    before = oracle.forward_passes
    together = oracle.answer_logits(pictures())
    assert oracle.forward_passes - before == 6
    for batch, logits in zip(pictures(), together, strict=True):
        alone = oracle.logits(batch)
        assert logits.shape == alone.shape == (len(batch), len(oracle.labels))
        assert np.abs(logits - alone).max() <= TINY * np.abs(alone).max()


def test_questions_of_several_sizes_get_the_gradients_they_get_alone(oracle: FloatOracle) -> None:
    questions = [
        MarginQuestion(batch, np.arange(len(batch)), rivals)
        for batch, rivals in zip(pictures(), (None, np.array([4]), None), strict=True)
    ]
    before = oracle.backward_passes
    together = oracle.answer_margins(questions)
    assert oracle.backward_passes - before == 6
    for question, (margins, gradients) in zip(questions, together, strict=True):
        alone = oracle.margin_grad(question.batch, question.label_indices, question.rivals)
        assert gradients.shape == question.batch.shape
        for ours, theirs in zip((margins, gradients), alone, strict=True):
            assert np.abs(ours - theirs).max() <= TINY * np.abs(theirs).max()


def test_bfloat16_is_near_enough_to_search_with(
    oracle: FloatOracle, tmp_path_factory: pytest.TempPathFactory
) -> None:
    network = open_gradient("reference", cache_dir=tmp_path_factory.mktemp("cache"), device="cpu")
    coarse = FloatOracle(network, bfloat16=True)
    batch = pictures()[2]
    exact, near = oracle.logits(batch), coarse.logits(batch)
    assert near.dtype == np.float32
    assert 0 < np.abs(near - exact).max() < 0.1 * np.abs(exact).max()
    labels = exact.argmax(axis=1)
    _, ours = coarse.margin_grad(batch, labels)
    _, theirs = oracle.margin_grad(batch, labels)
    assert ours.dtype == np.float32
    agreeing = np.sign(ours) == np.sign(theirs)
    strong = np.abs(theirs) > np.quantile(np.abs(theirs), 0.8)
    assert agreeing[strong].mean() > 0.9


def test_bfloat16_is_for_cuda(oracle: FloatOracle) -> None:
    assert oracle.device == "cpu"
    assert not oracle.bfloat16
