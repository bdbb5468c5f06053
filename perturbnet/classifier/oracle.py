"""What an attack may ask the network: logits and gradients with respect to pixel levels, counted.

Gradients pass through the pinned resize and crop, so pixels that are cropped away have gradient 0. The oracle
searches; it
never decides: what it finds is verified by the engine of the verdict.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from perturbnet.classifier.engine import Pixels

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float32]


class Differentiable(Protocol):
    """A float32 network behind its preprocessing: `Float32Engine`, or an artefact's `GradientNetwork`."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Class texts by index."""
        ...

    @property
    def device(self) -> str:
        """Where it runs."""
        ...

    def logits(self, batch: Pixels) -> Floats:
        """Return float32 logits (N, classes) of uint8 images (N, H, W, 3)."""
        ...

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        """Return logits of float32 levels (N, H, W, 3); gradients pass through."""
        ...


class FloatOracle:
    """Logits and margin gradients of a float engine; counts images passed forward and backward."""

    def __init__(self, engine: Differentiable) -> None:
        """Ask `engine`; its weights need no gradients."""
        self._engine = engine
        self.forward_passes = 0
        self.backward_passes = 0

    @property
    def labels(self) -> tuple[str, ...]:
        """Class texts by index."""
        return self._engine.labels

    def logits(self, batch: Pixels) -> Floats:
        """Return float32 logits (N, classes) of uint8 images (N, H, W, 3)."""
        self.forward_passes += len(batch)
        return self._engine.logits(batch)

    def margin_grad(
        self, batch: Pixels, label_indices: NDArray[np.int64], rivals: NDArray[np.int64] | None = None
    ) -> tuple[Floats, Floats]:
        """Return margins (N,) and their gradients (N, H, W, 3) per level.

        The margin of image i is z_y - z_t with y = `label_indices[i]` and t = `rivals[i]`, or without rivals
        the largest logit among classes with another text than y's: a class of the same text is no rival.
        """
        import torch

        levels = torch.tensor(batch, device=self._engine.device).float().requires_grad_()
        logits = self._engine.forward(levels)
        true = torch.as_tensor(label_indices, device=logits.device).long()
        rival = self._strongest(logits.detach(), true) if rivals is None else torch.as_tensor(rivals)
        both = torch.stack([true, rival.to(logits.device).long()], dim=1)
        pair = logits.gather(1, both)
        margins = pair[:, 0] - pair[:, 1]
        (gradient,) = torch.autograd.grad(margins.sum(), levels)
        self.forward_passes += len(batch)
        self.backward_passes += len(batch)
        return margins.detach().cpu().numpy(), gradient.cpu().numpy()

    def _strongest(self, logits: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
        """Index of the largest logit among classes whose text differs from the true one's."""
        import torch

        texts = np.unique(np.array(self.labels), return_inverse=True)[1]
        codes = torch.as_tensor(texts, device=logits.device)
        same = codes[None, :] == codes[true][:, None]
        return logits.masked_fill(same, -torch.inf).argmax(dim=1)
