"""The bits of the exact engine on a GPU, and the precision that miners search with there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from perturbnet.classifier import open_engine
from perturbnet.classifier.canonical.engine import CanonicalEngine
from perturbnet.classifier.canonical.profiles import open_gradient
from perturbnet.classifier.canonical.self_test import digest_golden
from perturbnet.classifier.oracle import FloatOracle
from tests.support.classifier.networks import draw_artefact, hostile_images
from tests.support.fakes import texture

pytestmark = pytest.mark.gpu

GPU = "cuda"


@pytest.mark.parametrize("pad", ["same", ""])
@pytest.mark.parametrize("together", [1, 3, 16])
def test_hostile_images_give_the_bits_of_the_cpu(together: int, pad: str) -> None:
    artefact, images = draw_artefact(pad=pad), list(hostile_images().values())
    there = CanonicalEngine(artefact, "00", device=GPU, together=together)
    here = CanonicalEngine(artefact, "00", compiled=True)
    assert there.classify(images) == here.classify(images)


def test_the_reference_network_attests(tmp_path: Path) -> None:
    engine = open_engine("reference", cache_dir=tmp_path, device=GPU)
    assert digest_golden(engine) == digest_golden(open_engine("reference", cache_dir=tmp_path, device="cpu"))


def test_bfloat16_is_near_enough_to_search_with(tmp_path: Path) -> None:
    exact, coarse = (
        FloatOracle(open_gradient("reference", cache_dir=tmp_path, device=device)) for device in ("cpu", GPU)
    )
    assert coarse.bfloat16
    batch = np.stack([texture(name, 120, 150) for name in "def"])
    labels = exact.logits(batch).argmax(axis=1)
    (_, near), (_, theirs) = coarse.margin_grad(batch, labels), exact.margin_grad(batch, labels)
    strong = np.abs(theirs) > np.quantile(np.abs(theirs), 0.8)
    assert (np.sign(near) == np.sign(theirs))[strong].mean() > 0.9
