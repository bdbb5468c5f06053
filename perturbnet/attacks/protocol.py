"""What an attack is: a search for the smallest change that flips a label, under a deadline it must keep.

Rules (design: attack.md, "Interface")
- Candidates are uint8 from the first: `clean + 1/255` in float is not `(u + 1)/255`.
- `Oracle` is the model as a searcher may use it (float arithmetic); `AttackTask.accepts` is the verifier's
  own verdict on a final image and decides.
- An attack returns the best accepted image it has when the deadline comes, or none; it never raises for lack
  of one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from perturbnet.clock import Clock

Pixels = NDArray[np.uint8]


class Oracle(Protocol):
    """The classifier for a searcher: logits and gradients on uint8 images of one size, (N, H, W, 3)."""

    forward_passes: int
    backward_passes: int

    def logits(self, batch: Pixels) -> NDArray[np.float32]:
        """(N, classes) float32."""

    def margin_grad(
        self, batch: Pixels, label_indices: NDArray[np.int64], rivals: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Margins (N,) of the label over its best or given rival; gradients (N, H, W, 3) per level."""


@dataclass(frozen=True)
class Deadline:
    """A moment on a clock."""

    clock: Clock
    at_s: float

    @property
    def remaining_s(self) -> float:
        """Seconds left; negative when it has passed."""
        return self.at_s - self.clock.monotonic_s()

    @property
    def passed(self) -> bool:
        """Whether it is over."""
        return self.remaining_s <= 0


@dataclass(frozen=True)
class AttackTask:
    """One image to attack.

    `levels` are the L-inf steps the rules allow, in units of 1/255, smallest first. `accepts` says whether
    the network would pay for an image. `seed` makes two miners' searches differ.
    """

    clean: Pixels
    label_index: int
    levels: Sequence[int]
    accepts: Callable[[Pixels], bool]
    seed: int = 0


@dataclass(frozen=True)
class AttackResult:
    """What an attack found: an accepted image, or None and why."""

    adversarial: Pixels | None
    linf_u8: int
    reason: str


class Attack(Protocol):
    """A named search."""

    name: str

    def run(self, oracle: Oracle, task: AttackTask, deadline: Deadline) -> AttackResult:
        """Search until something is accepted or the deadline passes."""
