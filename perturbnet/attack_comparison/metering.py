"""Time and passes of a trial: a clock that may be virtual, and a model whose every pass is paid for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from perturbnet.attacks.protocol import AttackTask, Floats
from perturbnet.classifier.oracle import Differentiable, FloatOracle
from perturbnet.runtime.clock import Clock, SystemClock
from perturbnet.wire.images import Pixels

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class VirtualCosts:
    """Seconds that each act takes on the virtual clock; a gradient is one forward and one backward pass."""

    forward_s: float = 0.006
    backward_s: float = 0.012
    verification_s: float = 0.025
    similarity_s: float = 0.006


@dataclass
class VirtualClock:
    """Time that passes only when somebody pays."""

    now_s: float = 0.0

    def monotonic_s(self) -> float:
        """See `Clock`."""
        return self.now_s

    def time_ns(self) -> int:
        """See `Clock`."""
        return int(self.now_s * 1e9)

    async def sleep(self, seconds: float) -> None:
        """See `Clock`."""
        self.now_s += seconds

    def pay(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds


@dataclass
class Meter:
    """The clock of one trial and what was done in it, in images."""

    virtual: bool
    costs: VirtualCosts = field(default_factory=VirtualCosts)
    forward: int = 0
    backward: int = 0
    verifications: int = 0
    clock: Clock = field(init=False)

    def __post_init__(self) -> None:
        """Start the clock."""
        self.clock = VirtualClock() if self.virtual else SystemClock()

    def count(
        self, forward: int = 0, backward: int = 0, verifications: int = 0, similarities: int = 0
    ) -> None:
        """Count, and let virtual time pass."""
        self.forward += forward
        self.backward += backward
        self.verifications += verifications
        if isinstance(self.clock, VirtualClock):
            costs = self.costs
            self.clock.pay(
                forward * costs.forward_s
                + backward * costs.backward_s
                + verifications * costs.verification_s
                + similarities * costs.similarity_s
            )


class MeteredOracle:
    """An oracle, and for libraries a torch module, whose passes are counted and paid for."""

    def __init__(self, network: Differentiable, meter: Meter) -> None:
        """Ask `network`."""
        self.network, self.meter = network, meter
        self._oracle = FloatOracle(network)

    @property
    def labels(self) -> Sequence[str]:
        """See `Oracle`."""
        return self._oracle.labels

    @property
    def forward_passes(self) -> int:
        """See `Oracle`."""
        return self.meter.forward

    @property
    def backward_passes(self) -> int:
        """See `Oracle`."""
        return self.meter.backward

    def logits(self, batch: Pixels) -> Floats:
        """See `Oracle`."""
        self.meter.count(forward=len(batch))
        return self._oracle.logits(batch)

    def margin_grad(
        self, batch: Pixels, label_indices: NDArray[np.int64], rivals: NDArray[np.int64] | None = None
    ) -> tuple[Floats, Floats]:
        """See `Oracle`."""
        self.meter.count(forward=len(batch), backward=len(batch))
        return self._oracle.margin_grad(batch, label_indices, rivals)

    def forward(self, unit_images: torch.Tensor) -> torch.Tensor:
        """Logits of float images (N, 3, H, W) in 0 to 1, as libraries want them; gradients pass through."""
        self.meter.count(forward=len(unit_images))
        if unit_images.requires_grad:
            unit_images.register_hook(self._paid_backward(len(unit_images)))  # type: ignore[no-untyped-call]
        return self.network.infer(self.network.prepare((unit_images * 255).permute(0, 2, 3, 1)))

    def _paid_backward(self, images: int) -> Callable[[Any], None]:
        def pay(_gradient: object) -> None:
            self.meter.count(backward=images)

        return pay


@dataclass(frozen=True)
class MeteredTask(AttackTask):
    """A task whose SSIM costs time."""

    meter: Meter | None = None

    def similarity(self, pixels: Pixels) -> float:
        """See `AttackTask`."""
        if self.meter is not None:
            self.meter.count(similarities=1)
        return super().similarity(pixels)
