"""What is left of a time-out to search in, once the time to send an answer is set aside.

A validator says how long it waits (`PERTURB_TIMEOUT_SECONDS`), each miner how much of that it keeps for
signing and the network (`PERTURB_ANSWER_RESERVE_SECONDS`). Where the second is no smaller than the first, a
search never begins and every answer is empty: nothing breaks, and nothing is earned.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from perturbnet.config import Settings

LITTLE_S = Decimal(1)


@dataclass(frozen=True)
class TimeToSearch:
    """A time-out and the reserve that a miner takes off it."""

    timeout_s: Decimal
    reserve_s: Decimal

    @classmethod
    def of(cls, settings: Settings) -> TimeToSearch:
        """As these settings have it; a validator's own time-out stands in its challenges."""
        return cls(settings.timeout_seconds, settings.answer_reserve_seconds)

    @property
    def left_s(self) -> Decimal:
        """To search in; not above 0 where no search begins."""
        return self.timeout_s - self.reserve_s

    @property
    def none(self) -> bool:
        """Whether every answer is empty."""
        return self.left_s <= 0

    @property
    def little(self) -> bool:
        """Whether hardly anything can be found in it."""
        return self.left_s < LITTLE_S

    def __str__(self) -> str:
        """In a sentence, with the numbers and the names to change."""
        kept = f"{self.reserve_s.normalize():f} s (PERTURB_ANSWER_RESERVE_SECONDS)"
        of = f"a time-out of {self.timeout_s.normalize():f} s (PERTURB_TIMEOUT_SECONDS)"
        if self.none:
            return f"of {of} a miner keeps {kept} to send: it never searches, and every answer is empty"
        return f"of {of} a miner keeps {kept} to send: {self.left_s.normalize():f} s to search"
