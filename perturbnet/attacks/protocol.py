"""What an attack is: a search for the smallest change that flips a label, under a deadline it must keep.

Rules (docs/attacks.md)
- Candidates are uint8 from the first: `clean + 1/255` in float is not `(u + 1)/255`.
- `Oracle` is the model as a searcher may use it (fast arithmetic, which may err); `AttackTask.accepts` is the
  verifier's own verdict on a final image and decides.
- An attack returns the best accepted image it has when the deadline comes, or none; it never raises for lack
  of one. What it asked `accepts` about is not lost when it overruns: `Bank` keeps the best.
- A change is smaller when its largest step is (`linf_u8`), then when its squares' sum is (`sum_sq`): with
  the network's weights every answer at k levels earns more than any at k + 1. A caller to whom the number of
  changed values matters too says what one costs (`per_value`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from perturbnet.rules.distortion import ssim
from perturbnet.runtime.clock import Clock
from perturbnet.wire.images import Pixels

Floats = NDArray[np.float32]
FEWEST_VALUES = 10**4  # `AttackTask.per_value`: more than any sum of squares can weigh against a value


class Oracle(Protocol):
    """The classifier for a searcher: logits and gradients on uint8 images of one size, (N, H, W, 3).

    A call may block while others' images share its pass. Counters count images, this caller's only.
    """

    @property
    def forward_passes(self) -> int:
        """Images passed forward."""
        ...

    @property
    def backward_passes(self) -> int:
        """Images passed backward."""
        ...

    @property
    def labels(self) -> Sequence[str]:
        """Class texts by index; a class with the true label's text is no rival."""
        ...

    def logits(self, batch: Pixels) -> Floats:
        """(N, classes) float32."""
        ...

    def margin_grad(
        self, batch: Pixels, label_indices: NDArray[np.int64], rivals: NDArray[np.int64] | None = None
    ) -> tuple[Floats, Floats]:
        """Margins (N,) of the label over its best or given rival; gradients (N, H, W, 3) per level."""
        ...


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Deadline:
    """A moment on a clock, or earlier: when `cancelled` says that nobody waits for the answer any more."""

    clock: Clock
    at_s: float
    cancelled: Callable[[], bool] = _never

    @property
    def remaining_s(self) -> float:
        """Seconds left; negative when it has passed, minus infinity when the work is cancelled."""
        return float("-inf") if self.cancelled() else self.at_s - self.clock.monotonic_s()

    @property
    def passed(self) -> bool:
        """Whether it is over."""
        return self.remaining_s <= 0


@dataclass(frozen=True)
class AttackTask:
    """One image to attack.

    `levels` are the L-inf steps the rules allow, in units of 1/255, smallest first. `accepts` says whether
    the network would pay for an image; it costs about as much as a canonical pass. `seed` makes two miners'
    searches differ. `accept_cost_s` is what `accepts` took at warm-up, `forward_cost_s` and `gradient_cost_s`
    what one image through the oracle did; 0 when unknown.
    `min_ssim` and `min_psnr_db` are the gates that `accepts` will apply, so that a search can keep clear of
    them; 0 for one that is not known. `per_value` is what a changed value costs beside its square: 0 for the
    score, `FEWEST_VALUES` for as few values as the least level takes.
    """

    clean: Pixels
    label_index: int
    levels: Sequence[int]
    accepts: Callable[[Pixels], bool]
    seed: int = 0
    accept_cost_s: float = 0.0
    min_ssim: float = 0.0
    min_psnr_db: float = 0.0
    forward_cost_s: float = 0.0
    gradient_cost_s: float = 0.0
    per_value: int = 0

    def similarity(self, pixels: Pixels) -> float:
        """SSIM of an image with the clean one, as the verifier computes it."""
        return ssim(self.clean, pixels)


@dataclass(frozen=True)
class AttackResult:
    """What an attack found: an accepted image, or None and why.

    `margin` is what the search's own arithmetic says of the image: logits of the label over its best rival,
    below 0 for a flip.
    """

    adversarial: Pixels | None
    linf_u8: int
    reason: str
    margin: float | None = None


class Attack(Protocol):
    """A named search."""

    name: str

    def run(self, oracle: Oracle, task: AttackTask, deadline: Deadline) -> AttackResult:
        """Search until something is accepted or the deadline passes."""


@dataclass(frozen=True)
class Accepted:
    """An accepted image and when it was: seconds on the bank's clock."""

    pixels: Pixels
    linf_u8: int
    changed: int
    sum_sq: int
    at_s: float
    per_value: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Smaller is better: with `per_value` 0 it earns more."""
        return self.linf_u8, self.sum_sq + self.per_value * self.changed


@dataclass
class Bank:
    """An `accepts` that remembers: the best accepted image, whatever becomes of the search that found it.

    `accepted` holds every improvement in the order of time, so it is the anytime trace of a search, and its
    last is `best`, which another thread may read at any moment.
    """

    clean: Pixels
    judge: Callable[[Pixels], bool]
    clock: Clock
    per_value: int = 0
    accepted: list[Accepted] = field(default_factory=list)
    asked: int = 0

    @property
    def best(self) -> Accepted | None:
        """The smallest accepted so far."""
        return self.accepted[-1] if self.accepted else None

    def __call__(self, pixels: Pixels) -> bool:
        """Ask the judge; keep the image if it is accepted and smaller than all before."""
        self.asked += 1
        if not self.judge(pixels):
            return False
        found = self._weigh(pixels)
        if self.best is None or found.size < self.best.size:
            self.accepted.append(found)
        return True

    def _weigh(self, pixels: Pixels) -> Accepted:
        delta = pixels.astype(np.int64) - self.clean
        return Accepted(
            pixels=pixels.copy(),
            linf_u8=int(np.abs(delta).max()),
            changed=int(np.count_nonzero(delta)),
            sum_sq=int((delta * delta).sum()),
            at_s=self.clock.monotonic_s(),
            per_value=self.per_value,
        )
