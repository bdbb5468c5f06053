"""Every pass is counted and paid for, and libraries see the network the verifier judges by."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from perturbnet.attack_comparison.metering import Meter, MeteredOracle, MeteredTask, VirtualCosts
from perturbnet.attacks import Deadline
from perturbnet.attacks.exchange import Exchange
from perturbnet.wire.images import Pixels
from tests.support.fakes import texture

COSTS = VirtualCosts(forward_s=1.0, backward_s=10.0, verification_s=100.0, similarity_s=1000.0)


class Means:
    """Logits are the means of three thirds of the image."""

    labels = ("left", "middle", "right")
    device = "cpu"

    def prepare(self, levels: torch.Tensor) -> torch.Tensor:
        return levels

    def infer(self, inputs: torch.Tensor) -> torch.Tensor:
        thirds = inputs.chunk(3, dim=2)
        return torch.stack([third.mean(dim=(1, 2, 3)) for third in thirds], dim=1)


def test_passes_cost_what_is_stated() -> None:
    meter = Meter(virtual=True, costs=COSTS)
    oracle = MeteredOracle(Means(), meter)
    batch = np.stack([texture("a", 32, 36), texture("b", 32, 36)])
    oracle.logits(batch)
    assert meter.clock.monotonic_s() == 2
    oracle.margin_grad(batch, np.array([0, 1]))
    assert meter.clock.monotonic_s() == 2 + 22
    assert (oracle.forward_passes, oracle.backward_passes) == (4, 2)
    meter.count(verifications=1, similarities=1)
    assert meter.clock.monotonic_s() == 24 + 1100


def test_a_librarys_pass_costs_the_same_and_sees_the_same() -> None:
    meter = Meter(virtual=True, costs=COSTS)
    oracle = MeteredOracle(Means(), meter)
    image = texture("c", 32, 36)
    expected = oracle.logits(image[None])
    unit = torch.from_numpy(image / np.float32(255)).permute(2, 0, 1)[None].requires_grad_()
    logits = oracle.forward(unit)
    assert logits.detach().numpy() == pytest.approx(expected, rel=1e-5)
    assert meter.clock.monotonic_s() == 2
    torch.autograd.backward(logits[0, 0])
    assert meter.clock.monotonic_s() == 12
    with torch.no_grad():
        oracle.forward(unit)
    assert (meter.forward, meter.backward) == (3, 1)


def test_ssim_costs_time() -> None:
    meter = Meter(virtual=True, costs=COSTS)
    clean = texture("d")
    task = MeteredTask(clean, 0, [1], lambda _: True, meter=meter)
    assert task.similarity(clean) == 1.0
    assert meter.clock.monotonic_s() == 1000


def search(clean: Pixels) -> list[float]:
    """When the exchange attack asked for a verdict, on a virtual clock."""
    meter = Meter(virtual=True)
    oracle = MeteredOracle(Means(), meter)
    label = int(oracle.logits(clean[None])[0].argmax())
    asked: list[float] = []

    def accepts(pixels: Pixels) -> bool:
        asked.append(meter.clock.monotonic_s())
        return int(oracle.logits(pixels[None])[0].argmax()) != label

    task = MeteredTask(clean, label, range(1, 30), accepts)
    Exchange().run(oracle, task, Deadline(meter.clock, 5.0))
    return asked


def test_a_search_is_the_same_on_a_virtual_clock() -> None:
    clean = texture("even", 32, 36)
    first = search(clean)
    assert first
    assert search(clean) == first
