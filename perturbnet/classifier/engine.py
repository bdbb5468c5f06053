"""From pixels to labels: what an engine is, and the float32 one.

An engine's answer is data: class index and text, digest of the logits, margin, and a count of numbers that
are not to be trusted. Ties go to the lowest index. `Float32Engine` runs timm's network as it is; its last
bits depend on threads, batch size and machine, so it is for search, gradients and comparison, and for
verdicts only until the canonical engine takes over.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from perturbnet.classifier.preprocessing import Preprocessing, matrices
from perturbnet.errors import ModelError
from perturbnet.rules.classification import Classification
from perturbnet.wire.digests import sha256_hex
from perturbnet.wire.images import Pixels

if TYPE_CHECKING:
    import torch

_LEVELS = 255


class Float32Engine:
    """timm's network in float32 on one device, behind our own preprocessing; an `Engine`.

    Its last bits depend on the machine: `reproducible` is False.
    """

    name = "float32"
    reproducible = False
    together = 32  # bounds memory
    _precision = "float32"

    def __init__(
        self,
        network: torch.nn.Module,
        preprocessing: Preprocessing,
        labels: tuple[str, ...],
        *,
        model_name: str,
        model_digest: str,
        device: str = "cpu",
    ) -> None:
        """Take a network with its weights in place (`architecture.load_network`)."""
        import torch

        self.network = network.to(device, getattr(torch, self._precision))
        self.preprocessing = preprocessing
        self.labels = labels
        self.model_name = model_name
        self.model_digest = model_digest
        self.device = device

    def classify(self, images: Sequence[Pixels]) -> list[Classification]:
        """See `Engine.classify`. Images of one size share a pass.

        Raises:
            ModelError: an array that is not uint8 (H, W, 3).

        """
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for position, pixels in enumerate(images):
            _require_image(pixels)
            groups[pixels.shape].append(position)
        answers: dict[int, Classification] = {}
        for positions in groups.values():
            for start in range(0, len(positions), self.together):
                part = positions[start : start + self.together]
                logits = self.logits(np.stack([images[position] for position in part]))
                answers |= {at: judge(row, self.labels) for at, row in zip(part, logits, strict=True)}
        return [answers[position] for position in range(len(images))]

    def logits(self, batch: Pixels) -> NDArray[Any]:
        """Return logits (N, classes), of uint8 images (N, H, W, 3) of one size."""
        import torch

        with torch.inference_mode():
            levels = torch.tensor(batch, device=self.device)
            precision = getattr(torch, self._precision)
            answer: NDArray[Any] = self.forward(levels.to(precision)).cpu().numpy()
        return answer

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        """Return logits (N, classes) of levels 0 to 255, float32 (N, H, W, 3); gradients pass through."""
        return self.infer(self.prepare(levels))

    def prepare(self, levels: torch.Tensor) -> torch.Tensor:
        """Resize, crop and scale levels of one size to the network's input; differentiable."""
        return prepare(levels, self.preprocessing)

    def infer(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits (N, classes) of prepared inputs, which may come from images of several sizes."""
        return self.network(inputs)  # type: ignore[no-any-return]


class Float64Engine(Float32Engine):
    """The same in float64, for networks that cannot be compiled; closer, yet not the same bits everywhere."""

    name = "float64-plain"
    _precision = "float64"


def prepare(levels: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """Resize, crop and scale float levels (N, H, W, 3) to the network's input (N, 3, S, S).

    Differentiable, unrounded.
    """
    import torch

    _, height, width, _ = levels.shape
    rows, columns = (
        torch.as_tensor(np.array(side), dtype=levels.dtype, device=levels.device)
        for side in matrices(height, width, preprocessing.size)
    )
    resized = rows @ levels.permute(0, 3, 1, 2) @ columns.T
    scale, shift = 1 / (_LEVELS * preprocessing.std), preprocessing.mean / preprocessing.std
    return (resized * float(scale) - float(shift)).contiguous()


def judge(logits: NDArray[np.float32] | NDArray[np.float64], labels: Sequence[str]) -> Classification:
    """Turn one row of logits into an answer.

    Ties go to the lowest index; a logit that is not finite counts as saturated.
    """
    exact = logits.astype("<f8") + 0.0  # + 0.0 turns -0.0 into 0.0
    saturated = int(np.count_nonzero(~np.isfinite(exact)))
    usable = np.where(np.isfinite(exact), exact, -np.inf) if saturated else exact
    index = int(np.argmax(usable))
    margin = float(usable[index] - np.delete(usable, index).max()) if saturated == 0 else 0.0
    return Classification(index, labels[index], sha256_hex(exact.tobytes()), margin, saturated)


def _require_image(pixels: Pixels) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ModelError(f"an image is {pixels.dtype} {pixels.shape}; expected uint8 (H, W, 3)")
