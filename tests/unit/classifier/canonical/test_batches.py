"""Images that share a pass share no number; and a pass never waits for the device in between."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from perturbnet.classifier.canonical.engine import CanonicalEngine
from perturbnet.classifier.canonical.portable import ACCELERATOR, CACHE, Blocks, PortableArithmetic, blocks_of
from tests.support.classifier.networks import draw_artefact, hostile_images, noise

CPU = torch.device("cpu")
WAITS = ("item", "_local_scalar_dense")  # the one within inference mode, the other outside
TINY = Blocks(chunk=7, product=50, channels=3)
BETWEEN = Blocks(chunk=1 << 12, product=1 << 12, channels=8)


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch gives it no types
    """Counts what torch is asked to do."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # its signature in torch
        self.found[function.__name__.split(".")[0]] += 1
        return function(*args, **(kwargs or {}))


def engine_with(blocks: Blocks, *, seed: int = 0, pad: str = "same") -> CanonicalEngine:
    engine = CanonicalEngine(draw_artefact(seed, pad=pad), "00", compiled=False)
    engine._arithmetic = PortableArithmetic(CPU, blocks)
    return engine


@pytest.fixture(scope="module")
def alone() -> dict[str, str]:
    """Each hostile image's logits, by the compiled loops, which take one image at a time."""
    engine = CanonicalEngine(draw_artefact(), "00", compiled=True)
    assert engine.together == 1
    return {name: engine.classify([image])[0].logits_digest for name, image in hostile_images().items()}


@pytest.mark.parametrize("together", [1, 2, 3, 16])
@pytest.mark.parametrize(
    "blocks", [CACHE, ACCELERATOR, BETWEEN, TINY], ids=["cache", "large", "between", "tiny"]
)
def test_no_company_changes_a_bit(alone: dict[str, str], blocks: Blocks, together: int) -> None:
    """Black beside noise beside one white pixel: exponents differ from image to image in every tensor."""
    engine = engine_with(blocks)
    engine.together = together
    names = list(hostile_images())
    random.Random(together).shuffle(names)
    found = engine.classify([hostile_images()[name] for name in names])
    assert {name: word.logits_digest for name, word in zip(names, found, strict=True)} == alone


@pytest.mark.parametrize("pad", ["same", ""])
def test_an_image_many_times_in_one_pass(pad: str) -> None:
    engine, image = engine_with(BETWEEN, seed=3, pad=pad), noise(3, 50, 40)
    expected = CanonicalEngine(draw_artefact(3, pad=pad), "00", compiled=True).classify([image])
    assert engine.classify([image, 255 - image, image])[::2] == expected * 2


def test_no_image_is_no_pass() -> None:
    assert engine_with(CACHE).classify([]) == []


def test_a_pass_waits_once_and_is_not_longer_for_more_images() -> None:
    """On a GPU a wait and the begin of an operation cost more than most operations."""
    engine, images = engine_with(ACCELERATOR), [noise(seed, 40, 40) for seed in range(8)]
    engine._check_late = True  # as on a GPU
    engine.classify(images[:1])  # buffers are made
    counts = []
    for number in (1, 8):
        with Operations() as operations:
            engine.classify(images[:number])
        counts.append(operations.found)
    one, eight = counts
    for found in counts:
        assert sum(found[name] for name in WAITS) == 1
    one, eight = counts
    for name in ("baddbmm", "index_select", "addcmul_", "amax", "frexp"):
        assert eight[name] == one[name] > 0


@pytest.mark.parametrize("values", [1, 10, 64, 1000])
def test_blocks_cover_everything_once(values: int) -> None:
    for images, positions, per_position in [(1, 1, 1), (3, 10, 4), (5, 7, 30), (16, 9, 2)]:
        seen = np.zeros((images, positions), dtype=int)
        for part in blocks_of(images, positions, per_position, values):
            seen[part] += 1
            count = seen[part].size
            assert count * per_position <= max(values, per_position)
            assert part[0].stop - part[0].start == 1 or part[1] == slice(0, positions)
        assert (seen == 1).all()
