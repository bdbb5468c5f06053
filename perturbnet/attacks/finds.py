"""What a search has found: flips by its own arithmetic, of which the best are shown to the verifier in time.

Rules
- The verifier's word costs about a canonical pass. Until it has said yes once, every new best is shown at
  once; after that at once only what is much smaller (of a lower level, where passes are scarce), the rest
  when no more than a tenth of the time has gone into showing, or at the end.
- A flip that the verifier refuses for want of margin raises the margin that the next one must have; a dense
  change may be refused by SSIM or PSNR instead, which a smaller one passes.
- Time is looked at before each pass: one that would not end by the deadline, with a verification behind it,
  is not begun. What a pass costs is what the last ones of its kind cost, by image; at first what the task
  says. As long as there is no answer there is nothing to lose, and less is kept in hand.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from perturbnet.attacks.gates import Gates
from perturbnet.attacks.ground import Change, Ground, squares
from perturbnet.attacks.protocol import AttackTask, Deadline, Floats, Oracle
from perturbnet.wire.images import Pixels

SHARE_FOR_SHOWING = 0.1
MUCH = 0.85  # of the accepted cost: less is shown at once
SHARE_OF_ONE_BATCH = 0.08  # of the time left: how much one batch of candidates may take
FIRST_MARGIN = -1e-4  # the search's arithmetic errs in the sixth digit
CAUTION, NOTHING_TO_LOSE = 1.3, 1.05  # ahead of a pass: with an answer, without one
GRADIENT = 3.0  # of a forward pass, until one was measured
PLENTY = 24  # gradients that a whole search takes at least


class OutOfTime(Exception):
    """The next pass would not end in time."""


class Finds:
    """The oracle, the verifier and the clock of one search; remembers what they said."""

    def __init__(self, oracle: Oracle, task: AttackTask, deadline: Deadline, ground: Ground) -> None:
        """Begin: nothing found."""
        self._oracle, self._task, self._deadline, self._ground = oracle, task, deadline, ground
        self._started_s = deadline.clock.monotonic_s()
        self._total_s = deadline.remaining_s
        self._costs_s = {
            "forward": task.forward_cost_s,
            "backward": task.gradient_cost_s,
            "show": task.accept_cost_s,
        }
        self._shown_s = 0.0
        self._wanted = FIRST_MARGIN
        self._waiting: tuple[tuple[int, int], float, Change] | None = None
        self._refused_size: tuple[int, int] | None = None
        self.gates = Gates(task)
        self.blocked = 0  # flips that the gates would refuse
        self.best: tuple[tuple[int, int], float, Change] | None = None
        texts = np.array(list(oracle.labels))
        self._rivals_mask = texts != texts[task.label_index]

    @property
    def size(self) -> tuple[int, int] | None:
        """(level, cost) of the smallest flip so far that was not refused."""
        known = [found[0] for found in (self.best, self._waiting) if found is not None]
        return min(known, default=None)

    @property
    def change(self) -> Change | None:
        """That flip."""
        known = [found for found in (self.best, self._waiting) if found is not None]
        return min(known, key=lambda found: found[0])[2] if known else None

    def afford(self, kind: str, wanted: int) -> int:
        """How many images of this kind of pass one batch may hold: at least 1, at most `wanted`."""
        if self._deadline.passed:
            raise OutOfTime
        each_s = self._costs_s[kind]
        room_s = self._deadline.remaining_s * SHARE_OF_ONE_BATCH
        return wanted if each_s * wanted <= room_s else max(1, int(room_s / each_s))

    @property
    def scarce(self) -> bool:
        """Whether so few passes fit that each must be chosen by itself."""
        each_s = self._costs_s["backward"] or GRADIENT * self._costs_s["forward"]
        return each_s * PLENTY > self._total_s

    def fits(self, *kinds: str) -> bool:
        """Whether an image of each of these passes, and a verification, would end in time."""
        ahead_s = sum(self._costs_s[kind] for kind in kinds) + self._costs_s["show"]
        return self._deadline.remaining_s > ahead_s * (NOTHING_TO_LOSE if self.best is None else CAUTION)

    def logits(self, changes: NDArray[np.int16]) -> Floats:
        """Logits (N, classes) of changes (N, values)."""
        self._require("forward", len(changes))
        started_s = self._deadline.clock.monotonic_s()
        logits = self._oracle.logits(self._ground.images(changes))
        self._measure("forward", started_s, len(changes))
        return logits

    def margins(self, changes: NDArray[np.int16]) -> Floats:
        """Margins (N,) over the best rival; flips among the changes are remembered."""
        logits = self.logits(changes)
        margins: Floats = logits[:, self._task.label_index] - logits[:, self._rivals_mask].max(axis=1)
        for row in sorted(range(len(changes)), key=lambda row: self._ground.cost(changes[row])):
            self._remember(changes[row], float(margins[row]))
        self.show_in_turn()
        return margins

    def gradients(
        self, changes: NDArray[np.int16], rivals: Sequence[int] | None = None
    ) -> tuple[Floats, Floats]:
        """Margins (N,) over the given rivals, or over the best, and their gradients (N, values) per level."""
        self._require("backward", len(changes))
        started_s = self._deadline.clock.monotonic_s()
        label = np.full(len(changes), self._task.label_index, np.int64)
        named = None if rivals is None else np.array(rivals, np.int64)
        margins, gradients = self._oracle.margin_grad(self._ground.images(changes), label, named)
        self._measure("backward", started_s, len(changes))
        for change, margin in zip(changes, margins, strict=True):  # below one rival is a flip too
            self._remember(change, float(margin))
        return margins, gradients.reshape(len(changes), -1)

    def dearness(self, caution: float) -> Floats | None:
        """Factors of the cost (values,) that keep clear of the SSIM gate, None where no caution is needed."""
        if not caution:
            return None
        return (1 + np.float32(caution) * self.gates.weights) / np.float32(1 + caution)

    def passes(self, change: Change) -> bool:
        """Whether the SSIM and PSNR gates let a change pass."""
        return self.gates.pass_cost(squares(change)) and self.gates.pass_picture(self._pixels(change))

    def rivals(self, logits: Floats) -> list[int]:
        """Classes of another text, the strongest first."""
        order = np.argsort(-logits, kind="stable")
        return [int(index) for index in order if self._rivals_mask[index]]

    def show(self) -> bool:
        """Ask the verifier about the best that waits, if there is one; whether the best is accepted now."""
        if self._waiting is None:
            return self.best is not None
        size, margin, change = self._waiting
        self._waiting = None
        started_s = self._deadline.clock.monotonic_s()
        accepted = self._task.accepts(self._pixels(change))
        spent_s = self._deadline.clock.monotonic_s() - started_s
        self._shown_s += spent_s
        self._costs_s["show"] = max(self._costs_s["show"], spent_s)
        if accepted:
            self.best = size, margin, change
        else:
            self._refused_size = size
            self._wanted = min(self._wanted, 2 * margin) if margin > -0.05 else self._wanted
        return accepted

    def conclude(self) -> None:
        """Show the best that waits, if the verifier would say so in time."""
        if self._deadline.remaining_s > self._costs_s["show"]:
            self.show()

    def _pixels(self, change: Change) -> Pixels:
        pixels: Pixels = self._ground.images(change[None])[0]
        return pixels

    def _remember(self, change: Change, margin: float) -> None:
        if margin > self._wanted:
            return
        size = int(np.abs(change).max()), self._ground.cost(change)
        known = self.size
        if (known is not None and size >= known) or size == self._refused_size:
            return
        if self.passes(change):
            self._waiting = size, margin, change.copy()
        else:
            self.blocked += 1

    def show_in_turn(self) -> None:
        """Show the best that waits when it is due."""
        if self._waiting is None:
            return
        elapsed_s = self._deadline.clock.monotonic_s() - self._started_s
        due = self._shown_s + self._costs_s["show"] <= SHARE_FOR_SHOWING * elapsed_s
        if due or self.best is None or self._much_smaller(self._waiting[0], self.best[0]):
            self.show()

    def _much_smaller(self, size: tuple[int, int], known: tuple[int, int]) -> bool:
        return size[0] < known[0] or (size[1] < MUCH * known[1] and not self.scarce)

    def _require(self, kind: str, images: int) -> None:
        if not self.fits(*[kind] * images):
            raise OutOfTime

    def _measure(self, kind: str, started_s: float, images: int) -> None:
        each_s = (self._deadline.clock.monotonic_s() - started_s) / images
        self._costs_s[kind] = max(each_s, 0.8 * self._costs_s[kind])
