"""What a check is, and what it may find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from perturbnet.doctor.patient import Patient
from perturbnet.errors import PerturbError

Role = Literal["validator", "miner"]


class Outcome(StrEnum):
    """`BAD` stops a neuron or spoils its work; `LOOK` may be meant; `UNKNOWN` is not told from here."""

    OK = "ok"
    LOOK = "look"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Finding:
    """What a check found, and what to do; nothing is to be done where all is well."""

    outcome: Outcome
    found: str
    todo: str = ""


@dataclass(frozen=True)
class Check:
    """One line of the checklist: whom it concerns, what must hold, what to do if it does not."""

    name: str
    roles: tuple[Role, ...]
    holds: str
    todo: str
    run: Callable[[Patient], Finding]
    needs: tuple[str, ...] = ()  # checks that must not be bad, or this one tells nothing

    def examine(self, patient: Patient) -> Finding:
        """Run it; an error of ours is a finding that says what that error says."""
        try:
            found = self.run(patient)
        except PerturbError as error:
            return Finding(Outcome.BAD, error.message, error.hint or self.todo)
        if found.outcome is Outcome.OK or found.todo:
            return found
        return Finding(found.outcome, found.found, self.todo)


def ok(found: str) -> Finding:
    """All is well."""
    return Finding(Outcome.OK, found)


def look(found: str, todo: str = "") -> Finding:
    """It may be meant."""
    return Finding(Outcome.LOOK, found, todo)


def bad(found: str, todo: str = "") -> Finding:
    """It will not work so."""
    return Finding(Outcome.BAD, found, todo)


def unknown(found: str, todo: str = "") -> Finding:
    """It cannot be told from here."""
    return Finding(Outcome.UNKNOWN, found, todo)
