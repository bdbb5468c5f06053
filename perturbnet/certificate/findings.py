"""What a verification says: a line for each thing it looked at, and what follows from all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any


class VerificationStep(IntEnum):
    """The numbers of `verification`'s docstring."""

    FORM = 1
    SIGNATURE = 2
    SUBJECT = 3
    ARITHMETIC = 4
    DELEGATION = 5
    LOG = 6
    EVIDENCE = 7
    LEAF = 8
    ANCHOR = 9


class StepOutcome(StrEnum):
    """What became of a step."""

    CHECKED = "checked"
    REFUSED = "refused"
    UNCHECKED = "not checked"


@dataclass(frozen=True)
class StepResult:
    """One thing that was looked at."""

    step: VerificationStep
    outcome: StepOutcome
    text: str


@dataclass
class VerificationReport:
    """All lines, in order; `status` is verified, refused, or incomplete where a step could not be made."""

    lines: list[StepResult] = field(default_factory=list)

    @property
    def status(self) -> str:
        """Verified only if every step was checked and none refused."""
        if any(line.outcome is StepOutcome.REFUSED for line in self.lines):
            return "refused"
        checked = {line.step for line in self.lines if line.outcome is StepOutcome.CHECKED}
        return "verified" if checked == set(VerificationStep) else "incomplete"

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        lines = [
            {
                "step": int(line.step),
                "name": line.step.name.lower(),
                "outcome": line.outcome,
                "text": line.text,
            }
            for line in self.lines
        ]
        return {"status": self.status, "steps": lines}
