"""What each miner did, and how each class stood: counts in bounded room.

Rules
- Names come from the log and are a stranger's: they are cut to MOST_LETTERS, and of more than MOST_NAMES the
  later ones are counted together.
- A score counts as 0 where the answer was refused. What the validator itself cut off does not count.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from perturbnet.ledger.progress import NEVER_COUNTED
from perturbnet.rounds.attempts import Attempt, ImageAttempts
from perturbnet.wire.units import PPB

MOST_NAMES = 4096
MOST_TARGETS = 32  # classes that one class is mistaken for
MOST_LETTERS = 120
FEWEST_ROUNDS = 3  # a class with fewer says little
OTHERS = "all others"


@dataclass
class MinerTally:
    """One miner: how often asked, accepted, accepted as the only one; its scores; why it was refused."""

    uid: int
    hotkey: str
    asked: int = 0
    accepted: int = 0
    alone: int = 0
    score_ppb: int = 0
    levels: int = 0  # of all accepted answers together
    refusals: Counter[str] = field(default_factory=Counter)

    def mean_score(self) -> float:
        """Over all answers, refused ones as 0; between 0 and 1."""
        return self.score_ppb / self.asked / PPB if self.asked else 0.0

    def mean_levels(self) -> float | None:
        """Mean L-inf of the accepted answers in levels of 255; None without any."""
        return self.levels / self.accepted if self.accepted else None


@dataclass
class ClassTally:
    """One class, as the model names it: its rounds, those in which it was broken, the best scores' sum."""

    label: str
    rounds: int = 0
    broken: int = 0
    best_ppb: int = 0
    taken_for: Counter[str] = field(default_factory=Counter)

    def fragility(self) -> float:
        """The mean of each round's best score, 0 where nobody succeeded; near 1 a touch is enough."""
        return self.best_ppb / self.rounds / PPB if self.rounds else 0.0


@dataclass
class Standings:
    """Folds rounds that count into miners and classes."""

    miners: dict[str, MinerTally] = field(default_factory=dict)
    classes: dict[str, ClassTally] = field(default_factory=dict)

    def add(self, found: ImageAttempts) -> None:
        """Take one round."""
        won = [attempt for attempt in found.attempts if attempt.accepted]
        for attempt in found.attempts:
            self._add_attempt(attempt, alone=won == [attempt])
        self._add_class(found, won)

    def ranked_miners(self) -> list[MinerTally]:
        """The best mean score first."""
        asked = [miner for miner in self.miners.values() if miner.asked]
        return sorted(asked, key=lambda miner: (-miner.mean_score(), miner.uid, miner.hotkey))

    def ranked_classes(self) -> list[ClassTally]:
        """The most fragile first; classes with too few rounds after all others."""
        return sorted(
            self.classes.values(),
            key=lambda one: (one.rounds < FEWEST_ROUNDS, -one.fragility(), -one.rounds, one.label),
        )

    def _add_attempt(self, attempt: Attempt, *, alone: bool) -> None:
        leaf = attempt.leaf
        if leaf.reject in NEVER_COUNTED:
            return
        name = leaf.hotkey[:MOST_LETTERS]
        if name not in self.miners and len(self.miners) >= MOST_NAMES:
            name = OTHERS
        miner = self.miners.setdefault(name, MinerTally(-1 if name == OTHERS else leaf.uid, name))
        miner.asked += 1
        miner.alone += alone
        if attempt.accepted:
            miner.accepted += 1
            miner.levels += min(max(leaf.linf_u8, 0), 255)
            miner.score_ppb += clamp_score(leaf.score_ppb)
        else:
            miner.refusals[leaf.reject] += 1

    def _add_class(self, found: ImageAttempts, won: list[Attempt]) -> None:
        label = found.challenge.true_label[:MOST_LETTERS]
        if label not in self.classes and len(self.classes) >= MOST_NAMES:
            label = OTHERS
        one = self.classes.setdefault(label, ClassTally(label))
        one.rounds += 1
        if not won:
            return
        best = max(won, key=lambda attempt: attempt.leaf.score_ppb)
        one.broken += 1
        one.best_ppb += clamp_score(best.leaf.score_ppb)
        target = best.leaf.label_after[:MOST_LETTERS]
        if target in one.taken_for or len(one.taken_for) < MOST_TARGETS:
            one.taken_for[target] += 1


def clamp_score(score_ppb: int) -> int:
    """A score between 0 and 1, in parts per 10^9, whatever a stranger wrote."""
    return min(max(score_ppb, 0), PPB)
