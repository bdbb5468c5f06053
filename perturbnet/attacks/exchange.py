"""The exchange attack: the least level that flips the label, then as few changed values as that takes.

A score depends first on the largest step (level), then on the sum of squares (cost). Measured on networks
of this family, the margin over a fixed rival bends little along its gradient: the least level shows after a
few steps, and two different searches end within a tenth of a percent of one cost. So what counts is to be
there early, towards the right rival, and through the gates.

    1. logits; the gradients of the margin over the strongest rivals, in one batch
    2. floor: changes of the linear size and larger at the least level, dense ones at the next levels, in one
       batch: the first answer, and a guess at the level that will do
    3. level: momentum sign steps towards several rivals at once, at the guess, then down while the label
       falls, else up; a level that its steps cannot reach is left early
    4. thinning, by two rivals and then the better one: a direction (mean of the gradients at the boundary)
       and a price (margin per cost) give a change; a batch of prices finds the boundary, and the gradient
       there goes into the mean. Where the SSIM gate refuses what flips, values in flat places become dearer
       until it does not; where that fails, the next level
    5. the level below once more, where step 3 came near or the cost would fit in it
    6. the other rivals and, for each, the way from the clean image, thinned while they stay near the best
    7. exchange: at the best flip, steps that do least are taken back and fewer that do more are made;
       the number adapts; every candidate is judged in one batch

Steps 4, 6 and 7 are in `thinning`. Where a pass is so dear that only a few fit, the search is another:
`scarce`. It ends when nothing improves or the deadline comes; what is found is shown to the verifier as time
goes on (`finds`). Design: attack.md. Momentum: Dong et al. 2018, arXiv:1710.06081.
"""

from __future__ import annotations

import numpy as np

from perturbnet.attacks.finds import Finds, OutOfTime
from perturbnet.attacks.ground import Ground, price_for
from perturbnet.attacks.line import SearchLine
from perturbnet.attacks.protocol import AttackResult, AttackTask, Deadline, Floats, Oracle
from perturbnet.attacks.scarce import search_scarcely
from perturbnet.attacks.thinning import Thinner

RIVALS, CLIMBERS, PROBES = 5, 2, 2
FLOOR_SIZES = (1.0, 0.67, 0.4, 0.2)  # shares of the linear price
FLOOR_LEVELS = 4
OPTIMISM = 1.3  # what steps add to the drop of margin that one gradient gives
JITTER = 0.02  # so that two seeds make two images
STEPS, HOPE = 10, 4.0  # give a level up when as many times the last step's gain would not do
LONG_STEPS, LONG_HOPE, NEAR = 40, 20.0, 0.1  # near: share of the clean margin left
ROOMY, PATIENCE = 0.5, 6  # try the level below when the cost is a share of what it allows; for so many rounds


class Exchange:
    """See the module."""

    name = "exchange"

    def run(self, oracle: Oracle, task: AttackTask, deadline: Deadline) -> AttackResult:
        """The smallest accepted change found by the deadline, or none."""
        ground = Ground(task.clean, task.per_value)
        finds = Finds(oracle, task, deadline, ground)
        reason = "nothing improves any more"
        try:
            if task.levels and not finds.scarce:
                _Search(finds, ground, task).run()
            if task.levels and finds.scarce:
                search_scarcely(finds, ground, task)
        except OutOfTime:
            reason = "the deadline came"
        finds.conclude()
        if finds.best is None:
            return AttackResult(None, 0, f"no flip: {reason}")
        (level, _), margin, change = finds.best
        return AttackResult(ground.images(change[None])[0], level, reason, margin)


class _Search:
    """One run; the steps have the module's numbers."""

    def __init__(self, finds: Finds, ground: Ground, task: AttackTask) -> None:
        self._finds, self._ground, self._task = finds, ground, task
        self._random = np.random.default_rng(task.seed)
        self._levels = list(task.levels)
        self._thinner = Thinner(finds, ground)
        self._reached: dict[int, float] = {}  # least margin seen, by level

    def run(self) -> None:
        """All steps."""
        lines = self._look()  # 1
        if not lines:
            return
        self._floor(lines)  # 2
        level = self._settle(lines, self._least_level(lines))  # 3, 4
        if level is None:
            return
        while self._descends(lines, level):  # 5
            level -= 1
        best = self._thinner.look_elsewhere(lines, level)  # 6
        self._thinner.exchange(level, best)  # 7

    def _look(self) -> list[SearchLine]:
        """Step 1; nothing where the first pass shows that passes are scarce."""
        logits = self._finds.logits(self._ground.nothing())[0]
        if self._finds.scarce:
            return []
        rivals = self._finds.rivals(logits)[: self._finds.afford("backward", RIVALS)]
        margins, gradients = self._finds.gradients(self._ground.nothing(len(rivals)), rivals)
        lines = []
        for rival, margin, gradient in zip(rivals, margins, gradients, strict=True):
            direction = self._jitter(gradient)
            lines.append(SearchLine(rival, direction, direction, {0: float(margin)}))
        return sorted(lines, key=lambda line: line.margins[0] / (float(np.abs(line.direction).sum()) + 1e-12))

    def _jitter(self, gradient: Floats) -> Floats:
        noise = self._random.standard_normal(gradient.size, np.float32)
        return gradient * (1 + np.float32(JITTER) * noise)

    def _floor(self, lines: list[SearchLine]) -> None:
        """Step 2; `_reached` holds a guess for every level."""
        levels = self._levels[:FLOOR_LEVELS]
        best = lines[0]
        best.price = price_for(best.direction, best.margins[0])
        rows = [(line, level) for level in levels for line in lines[:2]]
        rows += [(line, levels[len(levels) // 2]) for line in lines[2:]]
        changes = [self._ground.dense(line.direction, level) for line, level in rows]
        changes += [self._ground.fill(best.direction, best.price * share, levels[0]) for share in FLOOR_SIZES]
        kept = self._finds.afford("forward", len(changes))
        margins = self._finds.margins(np.stack(changes[:kept]))
        for (line, level), margin in zip(rows, margins, strict=False):
            line.margins[level] = float(margin)
            guess = line.margins[0] - OPTIMISM * (line.margins[0] - float(margin))
            self._reached[level] = min(self._reached.get(level, np.inf), guess)

    def _least_level(self, lines: list[SearchLine]) -> int:
        """Step 3: the least level whose steps flip, without regard to the gates; the last if none does."""
        guesses = [level for level in self._levels if self._reached.get(level, np.inf) < 0]
        at = self._levels.index(guesses[0]) if guesses else min(FLOOR_LEVELS, len(self._levels)) - 1
        if self._reach(lines, self._levels[at], STEPS, HOPE):
            while at and self._reach(lines, self._levels[at - 1], STEPS, HOPE):
                at -= 1
            return self._levels[at]
        for level in self._levels[at + 1 :]:
            if self._reach(lines, level, STEPS, HOPE):
                return level
        return self._levels[-1]

    def _settle(self, lines: list[SearchLine], lowest: int) -> int | None:
        """Step 4 from a level upwards, until what flips passes the gates."""
        for level in self._levels[self._levels.index(lowest) :]:
            if self._thinner.thin(lines, level):
                return level
        return None

    def _descends(self, lines: list[SearchLine], level: int) -> bool:
        """Step 5: whether the level below will do after all."""
        below = level - 1
        if below not in self._levels:
            return False
        useful = int(np.count_nonzero(lines[0].direction))
        if self._thinner.cost_at(level) < ROOMY * useful * below**2 and self._thinner.thin(
            lines, below, PATIENCE
        ):
            return True
        near = self._reached.get(below, np.inf) < NEAR * lines[0].margins[0]
        return near and self._reach(lines, below, LONG_STEPS, LONG_HOPE) and self._thinner.thin(lines, below)

    def _reach(self, lines: list[SearchLine], level: int, steps: int, hope: float) -> bool:
        """Momentum sign steps at a level; whether any rival's margin fell below 0."""
        for step in range(steps):
            climbing = self._climbers(lines, level)
            changes = np.stack([self._ground.dense(line.direction, level) for line in climbing])
            margins, gradients = self._finds.gradients(changes, [line.rival for line in climbing])
            for line, margin, gradient in zip(climbing, margins, gradients, strict=True):
                line.step_to(level, float(margin), gradient)
            least = float(margins.min())
            self._reached[level] = least if step == 0 else min(self._reached[level], least)
            if least < 0:
                self._finds.show_in_turn()
                return True
            if step >= PROBES and not any(line.hopeful(level, hope) for line in climbing):
                return False
        return False

    def _climbers(self, lines: list[SearchLine], level: int) -> list[SearchLine]:
        """The nearest rivals, and those of which little is known: one gradient alone often misleads."""
        nearest = sorted(lines, key=lambda line: line.expect(level))[:CLIMBERS]
        unknown = [line for line in lines if line.steps < PROBES and line not in nearest]
        return (nearest + unknown)[: self._finds.afford("backward", len(lines))]
