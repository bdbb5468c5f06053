"""FGSM at every level, the least first. Goodfellow et al. 2015, arXiv:1412.6572."""

from __future__ import annotations

import numpy as np

from perturbnet.attacks import AttackResult, AttackTask, Deadline, Oracle


class Fgsm:
    """One gradient of the margin over the best rival; its sign, at 1, 2, … levels, until one is accepted."""

    name = "fgsm"

    def run(self, oracle: Oracle, task: AttackTask, deadline: Deadline) -> AttackResult:
        """The first accepted image, or none."""
        _, gradients = oracle.margin_grad(task.clean[None], np.array([task.label_index]))
        step = np.sign(gradients[0]).astype(np.int16)
        for level in task.levels:
            if deadline.passed:
                return AttackResult(None, 0, "out of time")
            image = np.clip(task.clean - level * step, 0, 255).astype(np.uint8)
            if oracle.logits(image[None])[0].argmax() != task.label_index and task.accepts(image):
                return AttackResult(image, level, f"flipped at {level}/255")
        return AttackResult(None, 0, "no flip at any level")
