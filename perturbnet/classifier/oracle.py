"""What an attack may ask the network: logits and gradients with respect to pixel levels, counted.

Rules
- Gradients pass through the pinned resize and crop, so pixels that are cropped away have gradient 0.
- The oracle searches; it never decides: what it finds is verified by the engine of the verdict.
- Several images' questions share a pass (`answer_logits`, `answer_margins`), whatever their sizes: each is
  resized by itself, and the network sees one batch.
- On CUDA the network computes in bfloat16 but for its last layer; on a CPU, where that is slower, in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from perturbnet.wire.images import Pixels

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


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

    def prepare(self, levels: torch.Tensor) -> torch.Tensor:
        """Return the network's input for float32 levels (N, H, W, 3) of one size; gradients pass through."""
        ...

    def infer(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits (N, classes) of such inputs; gradients pass through."""
        ...


@dataclass(frozen=True, slots=True)
class MarginQuestion:
    """Images (N, H, W, 3) whose margins are asked for: of `label_indices` (N) over `rivals` (N).

    Without rivals, over the largest logit among classes of another text: the same text is no rival.
    """

    batch: Pixels
    label_indices: Integers
    rivals: Integers | None = None


class FloatOracle:
    """Logits and margin gradients of a float engine; counts images passed forward and backward."""

    def __init__(self, engine: Differentiable, *, bfloat16: bool | None = None) -> None:
        """Ask `engine`; its weights need no gradients. `bfloat16` None leaves it to the device."""
        self._engine = engine
        self.bfloat16 = engine.device.startswith("cuda") if bfloat16 is None else bfloat16
        self.forward_passes = 0
        self.backward_passes = 0

    @property
    def labels(self) -> tuple[str, ...]:
        """Class texts by index."""
        return self._engine.labels

    @property
    def device(self) -> str:
        """Where it runs."""
        return self._engine.device

    def logits(self, batch: Pixels) -> Floats:
        """Return float32 logits (N, classes) of uint8 images (N, H, W, 3)."""
        return self.answer_logits([batch])[0]

    def margin_grad(
        self, batch: Pixels, label_indices: Integers, rivals: Integers | None = None
    ) -> tuple[Floats, Floats]:
        """Return margins (N,) and their gradients (N, H, W, 3) per level; see `MarginQuestion`."""
        return self.answer_margins([MarginQuestion(batch, label_indices, rivals)])[0]

    def answer_logits(self, batches: Sequence[Pixels]) -> list[Floats]:
        """Logits of several batches, each of its own size, in one pass of the network."""
        import torch

        with torch.inference_mode():
            logits = self._infer([self._levels(batch) for batch in batches]).cpu().numpy()
        self.forward_passes += len(logits)
        return _split(logits, [len(batch) for batch in batches])

    def answer_margins(self, questions: Sequence[MarginQuestion]) -> list[tuple[Floats, Floats]]:
        """Margins and gradients of several questions in one pass forward and one backward."""
        import torch

        levels = [self._levels(question.batch).requires_grad_() for question in questions]
        logits = self._infer(levels)
        margins = logits.gather(1, self._pairs(questions, logits.detach())) @ logits.new_tensor([1.0, -1.0])
        gradients = torch.autograd.grad(margins.sum(), levels)
        self.forward_passes += len(margins)
        self.backward_passes += len(margins)
        parts = _split(margins.detach().cpu().numpy(), [len(question.batch) for question in questions])
        return list(zip(parts, (gradient.cpu().numpy() for gradient in gradients), strict=True))

    def _levels(self, batch: Pixels) -> torch.Tensor:
        import torch

        return torch.tensor(batch, device=self._engine.device).float()

    def _infer(self, levels: Sequence[torch.Tensor]) -> torch.Tensor:
        """One pass; float32 logits, whatever the network's precision."""
        import torch

        inputs = torch.cat([self._engine.prepare(part) for part in levels])
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.bfloat16):
            return self._engine.infer(inputs).float()

    def _pairs(self, questions: Sequence[MarginQuestion], logits: torch.Tensor) -> torch.Tensor:
        """Class indices (N, 2): the true one and its rival."""
        import torch

        pairs, start = [], 0
        for question in questions:
            rows = logits[start : start + len(question.batch)]
            start += len(rows)
            true = torch.as_tensor(question.label_indices, device=rows.device).long()
            given = question.rivals
            rival = self._strongest(rows, true) if given is None else torch.as_tensor(given)
            pairs.append(torch.stack([true, rival.to(rows.device).long()], dim=1))
        return torch.cat(pairs)

    def _strongest(self, logits: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
        """Index of the largest logit among classes whose text differs from the true one's."""
        import torch

        texts = np.unique(np.array(self.labels), return_inverse=True)[1]
        codes = torch.as_tensor(texts, device=logits.device)
        same = codes[None, :] == codes[true][:, None]
        return logits.masked_fill(same, -torch.inf).argmax(dim=1)


def _split(rows: Floats, sizes: Sequence[int]) -> list[Floats]:
    return np.split(rows, np.cumsum(sizes)[:-1])
