"""The artefact's own network in float32, with gradients: what attacks search with.

It computes the same function as the canonical engines, through the same integer resize and crop, but in float
arithmetic and without rounding between layers, so its logits differ in the sixth digit and it never decides a
verdict. Because it reads the artefact, a miner needs neither timm nor float weights, and searches on exactly
the network it is judged by.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from perturbnet.classifier.canonical.artefact import Act, Artefact, Layer, Op, ProgramStep
from perturbnet.classifier.canonical.resampling import coefficients
from perturbnet.wire.images import Pixels

Tensor = torch.Tensor


class GradientNetwork:
    """Logits of uint8 images, differentiable with respect to their levels."""

    def __init__(self, artefact: Artefact, *, device: str = "cpu") -> None:
        """Hold the weights as float32 on `device`."""
        self.labels = artefact.labels
        self.device = device
        self._size, self._bits = artefact.size, artefact.coefficient_bits
        self._steps = artefact.steps
        self._layers = [_tensors(layer, device) for layer in artefact.layers]

    def logits(self, batch: Pixels) -> NDArray[np.float32]:
        """Return float32 logits (N, classes) of uint8 images (N, H, W, 3) of one size."""
        with torch.inference_mode():
            levels = torch.tensor(batch, device=self.device).float()
            answer: NDArray[np.float32] = self.forward(levels).cpu().numpy()
        return answer

    def forward(self, levels: Tensor) -> Tensor:
        """Return logits (N, classes) of levels 0 to 255, float32 (N, H, W, 3)."""
        return self.infer(self.prepare(levels))

    def infer(self, inputs: Tensor) -> Tensor:
        """Return logits (N, classes) of prepared inputs, which may come from images of several sizes."""
        values = kept = inputs
        *steps, last = self._steps
        for step in steps:
            if step.keeps:
                kept = values
            values = self._step(values, step)
            if step.adds:
                values = values + kept
        with torch.autocast(values.device.type, enabled=False):  # bfloat16's logits would be 1/32 apart
            return self._step(values.float(), last).flatten(1)

    def prepare(self, levels: Tensor) -> Tensor:
        """Resize, crop and scale levels of one size to X = 2v - 255, (N, 3, S, S); differentiable."""
        _, height, width, _ = levels.shape
        sides = coefficients(height, width, self._size, self._bits)
        rows, columns = (
            torch.tensor(np.ldexp(side, -self._bits), dtype=levels.dtype, device=levels.device)
            for side in sides
        )
        resized = rows @ levels.permute(0, 3, 1, 2) @ columns.T
        return (resized * 2.0 - 255.0).contiguous(memory_format=torch.channels_last)

    def _step(self, values: Tensor, step: ProgramStep) -> Tensor:
        if step.op == Op.POOL:
            return values.mean(dim=(2, 3), keepdim=True)
        if step.op == Op.GATE:
            squeezed = functional.silu(self._point(values.mean(dim=(2, 3), keepdim=True), step.layer))
            return values * torch.sigmoid(self._point(squeezed, step.layer + 1))
        weights, bias = self._layers[step.layer]
        padded = functional.pad(values, _padding(step)) if step.kernel > 1 else values
        groups = step.cin if step.depthwise else 1
        sums = functional.conv2d(padded, weights, bias, stride=step.stride, groups=groups)
        return functional.silu(sums) if step.act == Act.SILU else sums

    def _point(self, values: Tensor, layer: int) -> Tensor:
        weights, bias = self._layers[layer]
        return functional.conv2d(values, weights, bias)


def _tensors(layer: Layer, device: str) -> tuple[Tensor, Tensor]:
    """Weights (cout, cin, k, k) or (c, 1, k, k), and bias (cout), float32."""
    real = np.ldexp(layer.weights.astype(np.float32), -layer.exponents)
    order = (3, 2, 0, 1) if real.ndim == 4 else (2, 0, 1)
    weights = torch.tensor(real.transpose(order)).to(device)
    if real.ndim == 3:
        weights = weights[:, None]
    bias = torch.tensor(layer.bias.astype(np.float32)).to(device)
    return weights.contiguous(memory_format=torch.channels_last), bias


def _padding(step: ProgramStep) -> tuple[int, int, int, int]:
    """Zeros left, right, above and below, as far as the kernel reaches."""
    down = (step.out_height - 1) * step.stride + step.kernel - step.height - step.pad_top
    across = (step.out_width - 1) * step.stride + step.kernel - step.width - step.pad_left
    return step.pad_left, max(across, 0), step.pad_top, max(down, 0)
