"""Fewer and smaller changes at a level that flips: thinning, looking elsewhere, exchange.

Steps 4, 6 and 7 of `exchange`; what they lower is the cost (`ground`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from perturbnet.attacks.finds import Finds
from perturbnet.attacks.ground import Ground, price_for
from perturbnet.attacks.line import WIDEST, SearchLine

MEMORY = 0.7  # of the mean of directions
EVENNESSES = (0.0, 1.0)
DUEL_MARGIN = 1.05
THINNING_ROUNDS, DUEL_ROUNDS, THINNING_STALLS, BLOCKED_ROUNDS = 60, 3, 8, 20
PRICES = 4
DEARER = 2.0
LITTLE = 1 - 1e-4  # of the cost: an exchange that leaves more has stalled
EXCHANGE_STALLS, EXCHANGE_SHARES = 6, (1.0, 0.5, 0.25, 0.1)
NEARNESS = ((4, np.inf), (7, 1.5), (12, 1.1), (THINNING_ROUNDS, 1.02))  # of the best cost, by rounds
PURSUIT_STALLS = 5
LEAST_GAIN = 2e-4  # of the cost: less is a stall


class Thinner:
    """The steps, on one search's finds."""

    def __init__(self, finds: Finds, ground: Ground) -> None:
        """Nothing is asked yet."""
        self._finds, self._ground = finds, ground

    def thin(self, lines: list[SearchLine], level: int, patience: int = BLOCKED_ROUNDS) -> bool:
        """Step 4; lines end best first. Whether a flip at this level passes the gates."""
        lines.sort(key=lambda line: (line.cost, line.expect(level)))
        for line in lines:
            line.width, line.cost, line.caution = WIDEST, np.inf, 0.0
            line.price = line.price or price_for(line.direction, 0.5 * line.margins[0])
        entered = duel = self._pair_up(lines, level)
        stalls, last = 0, np.inf
        for number in range(THINNING_ROUNDS):
            for line in duel:
                self._find_boundary(line, level)
            duel = self._outrun(duel, number + 1)
            now = self.cost_at(level)
            stalls = 0 if now < last * (1 - LEAST_GAIN) else stalls + 1
            last = min(last, now)
            if stalls >= (THINNING_STALLS if np.isfinite(now) else patience):
                break
        best_last = sorted(entered, key=lambda line: line.cost, reverse=True)
        lines[:] = {line.rival: line for line in [*lines, *best_last]}.values()
        lines.sort(key=lambda line: line.cost)
        return bool(np.isfinite(self.cost_at(level)))

    def _pair_up(self, lines: list[SearchLine], level: int) -> list[SearchLine]:
        """The best two rivals; above one level each evenly and all or nothing."""
        duel = lines[: min(2, self._finds.afford("backward", 2))]
        return [replace(line, evenness=evenness) for line in duel for evenness in self._evennesses(level)]

    def _evennesses(self, level: int) -> tuple[float, ...]:
        return EVENNESSES if level > 1 and not self._ground.per_value else (1.0,)

    def look_elsewhere(self, lines: list[SearchLine], level: int) -> SearchLine:
        """Step 6; the line of the best flip."""
        best = lines[0]
        for line in list(lines):
            for direction in (line.start, line.direction):
                for evenness in self._evennesses(level):
                    if line is lines[0] and direction is line.direction and evenness == line.evenness:
                        continue
                    other = replace(line, direction=direction, evenness=evenness, caution=lines[0].caution)
                    other.price = price_for(direction, 0.5 * line.margins[0])
                    best = other if self._pursue(other, level) else best
        return best

    def _pursue(self, line: SearchLine, level: int) -> bool:
        """Thin by one line for as long as it stays near the best; whether it became the best."""
        line.width, line.cost = WIDEST, np.inf
        found, stalls = self.cost_at(level), 0
        for number in range(THINNING_ROUNDS):
            before = line.cost
            self._find_boundary(line, level)
            stalls = 0 if line.cost < before * (1 - LEAST_GAIN) else stalls + 1
            allowed = next(share for rounds, share in NEARNESS if number < rounds)
            if stalls >= PURSUIT_STALLS or line.cost > allowed * found:
                break
        return self.cost_at(level) < found

    def _outrun(self, duel: list[SearchLine], rounds: int) -> list[SearchLine]:
        """Those that still have a chance: near the cheaper one at first, then that one alone."""
        if rounds < DUEL_ROUNDS:
            return duel
        duel = sorted(duel, key=lambda line: line.cost)
        near = [line for line in duel if line.cost <= DUEL_MARGIN * duel[0].cost]
        return near if rounds < 2 * DUEL_ROUNDS else near[:1]

    def cost_at(self, level: int) -> float:
        """What the best flip costs if it stands at this level or below, else infinity."""
        size = self._finds.size
        return size[1] if size is not None and size[0] <= level else np.inf

    def _find_boundary(self, line: SearchLine, level: int) -> None:
        """One batch of prices around the last; then the gradient at the cheapest flip joins the mean."""
        count = self._finds.afford("forward", PRICES)
        prices = line.price * np.geomspace(line.width, 1 / line.width, count) if count > 1 else [line.price]
        dearness = self._finds.dearness(line.caution)
        changes = np.stack(
            [
                self._ground.fill(line.direction, price, level, evenness=line.evenness, dearness=dearness)
                for price in prices
            ]
        )
        blocked = self._finds.blocked
        margins = self._finds.margins(changes)
        flips = np.flatnonzero(margins < 0)
        at = int(flips[0]) if flips.size else len(prices) - 1
        if flips.size:
            line.cost = min(line.cost, self._ground.cost(changes[at]))
        line.aim(np.asarray(prices), margins)
        self._heed_gates(line, self._finds.blocked > blocked)
        _, gradients = self._finds.gradients(changes[at : at + 1], [line.rival])
        line.learn(gradients[0], MEMORY)

    def _heed_gates(self, line: SearchLine, blocked: bool) -> None:  # noqa: FBT001 - what was just seen
        if blocked:
            line.caution = max(0.5, line.caution * DEARER)
            line.width = max(line.width, 1.2)
        elif line.caution:
            line.caution *= 0.95

    def exchange(self, level: int, line: SearchLine) -> None:
        """Step 7."""
        stalls, moves, direction = 0, 0.0, None
        while stalls < EXCHANGE_STALLS:
            change, before = self._finds.change, self._finds.size
            if change is None:
                return
            margins, gradients = self._finds.gradients(change[None])
            direction = gradients[0] if direction is None else 0.5 * direction + 0.5 * gradients[0]
            moves = moves or np.count_nonzero(change) * 0.05
            counts = sorted({max(1, int(moves * share)) for share in EXCHANGE_SHARES}, reverse=True)
            counts = counts[: self._finds.afford("forward", len(counts))]
            slack, dearness = -float(margins[0]), self._finds.dearness(line.caution)
            swaps = [
                self._ground.swap(change, direction, count, slack=slack, level=level, dearness=dearness)
                for count in counts
            ]
            self._finds.margins(np.stack(swaps))
            size = self._finds.size
            moves = max(1.0, moves * (1.5 if size != before else 0.4))
            gained = size is not None and before is not None and size < (before[0], before[1] * LITTLE)
            stalls = 0 if gained else stalls + 1
