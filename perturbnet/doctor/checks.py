"""What a check is, and what it may find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from perturbnet.doctor.patient import Patient
from perturbnet.errors import PerturbError

Role = Literal["validator", "miner"]


class CheckOutcome(StrEnum):
    """`BAD` stops a neuron or spoils its work; `LOOK` may be meant; `UNKNOWN` is not told from here."""

    OK = "ok"
    LOOK = "look"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class CheckResult:
    """What a check found, and what to do; nothing is to be done where all is well."""

    outcome: CheckOutcome
    found: str
    todo: str = ""


@dataclass(frozen=True)
class Check:
    """One line of the checklist: whom it concerns, what must hold, what to do if it does not."""

    name: str
    roles: tuple[Role, ...]
    holds: str
    todo: str
    run: Callable[[Patient], CheckResult]
    needs: tuple[str, ...] = ()  # checks that must not be bad, or this one tells nothing

    def examine(self, patient: Patient) -> CheckResult:
        """Run it; an error of ours is a finding that says what that error says."""
        try:
            found = self.run(patient)
        except PerturbError as error:
            return CheckResult(CheckOutcome.BAD, error.message, error.hint or self.todo)
        if found.outcome is CheckOutcome.OK or found.todo:
            return found
        return CheckResult(found.outcome, found.found, self.todo)


def ok(found: str) -> CheckResult:
    """All is well."""
    return CheckResult(CheckOutcome.OK, found)


def look(found: str, todo: str = "") -> CheckResult:
    """It may be meant."""
    return CheckResult(CheckOutcome.LOOK, found, todo)


def bad(found: str, todo: str = "") -> CheckResult:
    """It will not work so."""
    return CheckResult(CheckOutcome.BAD, found, todo)


def unknown(found: str, todo: str = "") -> CheckResult:
    """It cannot be told from here."""
    return CheckResult(CheckOutcome.UNKNOWN, found, todo)
