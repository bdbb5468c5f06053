"""From a library's float image to uint8 images that may pass: rounded, scaled to whole levels, thinned.

A public attack minimises a norm of floats; the network judges whole levels. For every level allowed the float
change is scaled so that its largest value is that level and rounded; its sign pattern at that level is a
second candidate. All are tried in one batch, and those that flip are shown to the verifier, smallest first.
"""

from __future__ import annotations

import numpy as np

from perturbnet.attacks import AttackTask, Deadline, Oracle
from perturbnet.attacks.ground import Change, Ground, squares
from perturbnet.attacks.protocol import Floats

NOTHING = 1e-4  # levels: what a library left unchanged
ELIMINATED = (0.5, 0.35, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005)  # shares of the changed values taken back at once


def show_quantised(oracle: Oracle, task: AttackTask, change: Floats) -> Change | None:
    """Show whole-level forms of a float change (values,) in levels; the smallest accepted, or None."""
    ground = Ground(task.clean)
    largest = float(np.abs(change).max())
    if largest <= NOTHING:
        return None
    forms = [np.rint(change)]
    for level in task.levels:
        forms.append(np.rint(change * (level / largest)))
        forms.append(level * np.sign(np.where(np.abs(change) > NOTHING, change, 0)))
    most = task.levels[-1]
    whole = [np.clip(form, -most, most).astype(np.int16) for form in forms]
    inside = np.stack([np.clip(form, -ground.flat, 255 - ground.flat).astype(np.int16) for form in whole])
    inside = inside[np.abs(inside).max(axis=1) > 0]
    flips = oracle.logits(ground.images(inside)).argmax(axis=1) != task.label_index
    for form in sorted(inside[flips], key=lambda form: (int(np.abs(form).max()), squares(form))):
        if task.accepts(ground.images(form[None])[0]):
            accepted: Change = form
            return accepted
    return None


def eliminate(oracle: Oracle, task: AttackTask, change: Change, deadline: Deadline) -> Change:
    """Take changed values back, those that do least first, for as long as the label stays down.

    What public miners are described to do after a dense attack: rank by gradient times change, try shares of
    the changed values in one batch, keep the most that still flips, and rank anew.
    """
    ground = Ground(task.clean)
    label = np.array([task.label_index])
    while not deadline.passed:
        _, gradients = oracle.margin_grad(ground.images(change[None]), label)
        worth = -gradients.reshape(-1) * change
        changed = np.flatnonzero(change)
        order = changed[np.argsort(worth[changed])]
        candidates = np.repeat(change[None], len(ELIMINATED), axis=0)
        for row, share in enumerate(ELIMINATED):
            candidates[row, order[: max(1, int(share * order.size))]] = 0
        flips = oracle.logits(ground.images(candidates)).argmax(axis=1) != task.label_index
        kept = [
            row for row in np.flatnonzero(flips) if task.accepts(ground.images(candidates[row][None])[0])
        ][:1]
        if not kept:
            return change
        change = candidates[kept[0]]
    return change
