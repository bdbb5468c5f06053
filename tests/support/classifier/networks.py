"""Small networks with every part of the family, weights drawn from a seed; and images that are hostile."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.efficientnet import EfficientNet
from torch import nn

from perturbnet.classifier.canonical.artefact import Artefact
from perturbnet.classifier.canonical.compiler import compile_network

LABELS = tuple("abcde")
SIZE = 33
STAGES = [
    ["cn_r1_k3_s1_e1_c8_skip"],
    ["er_r2_k3_s2_e2_c8"],
    ["ir_r2_k5_s2_e2_c16_se0.25"],
]


def draw_network(
    seed: int = 0, *, pad: str = "same", stages: list[list[str]] | None = None, **more: Any
) -> Any:
    """An EfficientNetV2 in evaluation mode whose batch norms do something."""
    options: dict[str, Any] = {"norm_layer": partial(nn.BatchNorm2d, eps=1e-3), "act_layer": nn.SiLU, **more}
    network = EfficientNet(
        decode_arch_def(stages or STAGES),  # type: ignore[no-untyped-call]
        num_classes=5,
        num_features=24,
        stem_size=8,
        pad_type=pad,
        **options,
    )
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                _fill(module.weight, generator, 2.0 ** -(module.weight[0].numel().bit_length() // 2))
                if module.bias is not None:
                    _fill(module.bias, generator, 0.125)
            if isinstance(module, nn.BatchNorm2d):
                _fill(module.weight, generator, 0.25, 1.0)
                _fill(module.bias, generator, 0.25)
                statistics = dict(module.named_buffers())
                _fill(statistics["running_mean"], generator, 0.125)
                _fill(statistics["running_var"], generator, 0.25, 0.75)
    return network.eval()


def _fill(tensor: torch.Tensor, generator: np.random.Generator, scale: float, middle: float = 0.0) -> None:
    """Dyadic numbers within two scales of the middle, from integers: the same on every machine."""
    drawn = generator.integers(-(2**20), 2**20, tuple(tensor.shape)) * 2.0**-19 * scale + middle
    tensor.copy_(torch.from_numpy(drawn))


def draw_artefact(seed: int = 0, *, size: int = SIZE, **more: Any) -> Artefact:
    return compile_network(draw_network(seed, **more), name="small", labels=LABELS, size=size)


def noise(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def hostile_images() -> dict[str, np.ndarray]:
    y, x = np.mgrid[0:47, 0:61]
    stripes = np.repeat((255 * (x & 1))[:, :, None], 3, axis=2)
    board = np.repeat((255 * (x + y & 1))[:, :, None], 3, axis=2)
    spike = np.zeros((40, 40, 3))
    spike[20, 20, 1] = 255
    found = {
        "black": np.zeros((33, 33, 3)),
        "white": np.full((50, 33, 3), 255),
        "grey": np.full((33, 40, 3), 127),
        "one pixel": np.full((1, 1, 3), 200),
        "one row": noise(1, 1, 90),
        "one column": noise(2, 90, 1),
        "stripes": stripes,
        "checkerboard": board,
        "spike": spike,
        "noise, odd": noise(3, 131, 77),
        "extreme noise": 255 * (noise(4, 60, 45) >> 7),
        "adversarial": np.clip(noise(5, 33, 33).astype(int) // 2 + 60 + 8 * (board[:33, :33] > 0), 0, 255),
    }
    return {name: np.ascontiguousarray(image.astype(np.uint8)) for name, image in found.items()}
