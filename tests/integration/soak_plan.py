"""How long the soak is and how hard, and what was seen in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from perturbnet.localnet.hostile import EXPECTED
from tests.integration.soak_miners import HONEST


@dataclass(frozen=True)
class Plan:
    """How long, and how hard."""

    folder: Path
    rounds: int = 750
    calm: int = 250
    miners: int = 20
    hostile: int = 8
    kill_every_s: float = 30.0
    faults: float = 0.05

    @property
    def rows(self) -> int:
        return self.rounds + 100

    @property
    def kinds(self) -> list[str]:
        bad = list(EXPECTED)
        return [HONEST] * (self.miners - self.hostile) + [bad[n % len(bad)] for n in range(self.hostile)]


@dataclass
class Outcome:
    """What was seen."""

    rounds: int = 0
    seconds: float = 0.0
    kills: int = 0
    killed_in_a_round: int = 0
    ended_by_the_chain: int = 0
    leaves: int = 0
    acknowledged: int = 0
    intents: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    submitted: int = 0
    codes: dict[str, int] = field(default_factory=dict)
    lives: int = 0
    resident_mb: float = 0.0  # after the last round
    mb_per_100_rounds_within_a_life: float = 0.0
    mb_per_100_rounds_from_life_to_life: float = 0.0
    longest_gap_s: float = 0.0
