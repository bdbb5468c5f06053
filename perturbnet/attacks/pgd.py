"""Ascending PGD: try the smallest L-inf step, then the next. The baseline, simple on purpose.

For k = 1, 2, … levels: projected gradient descent on the margin of the label over its best rival inside the
cube of ±k levels, with momentum, from a random start (the seed makes two miners differ), every iterate
rounded to whole levels before it is judged. From an iterate that flips the label the weakest changes are
taken back as long as the verifier accepts it, or until it does (SSIM, PSNR).

Source: PGD, Madry et al. 2018, arXiv:1706.06083; momentum, Dong et al. 2018, arXiv:1710.06081.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from perturbnet.attacks.protocol import AttackResult, AttackTask, Deadline, Oracle
from perturbnet.wire.images import Pixels

STEPS = 16
MOMENTUM = 0.75
KEPT_SHARES = (1.0, 0.6, 0.4, 0.25, 0.15, 0.08)


class AscendingPgd:
    """See the module."""

    name = "pgd"

    def run(self, oracle: Oracle, task: AttackTask, deadline: Deadline) -> AttackResult:
        """The first accepted image, or none."""
        for level in task.levels:
            for candidate, strength in _flips(oracle, task, level, deadline):
                accepted = _least_visible(task, candidate, strength, deadline)
                if accepted is not None:
                    return AttackResult(accepted, _linf(task.clean, accepted), f"flipped at {level}/255")
            if deadline.passed:
                return AttackResult(None, 0, f"out of time at {level}/255")
        return AttackResult(None, 0, "no flip at any level")


def _flips(
    oracle: Oracle, task: AttackTask, level: int, deadline: Deadline
) -> Iterator[tuple[Pixels, NDArray[np.float32]]]:
    """Iterates that cross the boundary, each with the importance of every changed value."""
    generator = np.random.default_rng([task.seed, level])
    delta = generator.uniform(-level, level, task.clean.shape).astype(np.float32)
    direction = np.zeros_like(delta)
    for _ in range(STEPS):
        if deadline.passed:
            return
        candidate = _apply(task.clean, delta)
        margins, gradients = oracle.margin_grad(candidate[None], np.array([task.label_index]))
        gradient = gradients[0]
        if margins[0] < 0:
            yield candidate, np.abs(gradient)
        direction = MOMENTUM * direction + gradient / (np.abs(gradient).mean() + 1e-12)
        delta = np.clip(delta - level * np.sign(direction), -level, level)


def _least_visible(
    task: AttackTask, candidate: Pixels, strength: NDArray[np.float32], deadline: Deadline
) -> Pixels | None:
    """The candidate without as many of its weakest changes as the verifier lets go, or None."""
    order = np.argsort(strength, axis=None)
    best = None
    for share in KEPT_SHARES:
        thinned = candidate.copy()
        weakest = order[: int(order.size * (1 - share))]
        thinned.reshape(-1)[weakest] = task.clean.reshape(-1)[weakest]
        if task.accepts(thinned):
            best = thinned
        elif best is not None:
            break
        if deadline.passed:
            break
    return best


def _apply(clean: Pixels, delta: NDArray[np.float32]) -> Pixels:
    return np.clip(clean + np.rint(delta).astype(np.int16), 0, 255).astype(np.uint8)


def _linf(clean: Pixels, adversarial: Pixels) -> int:
    return int(np.abs(adversarial.astype(np.int16) - clean).max())
