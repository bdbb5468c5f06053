"""What an audit found: findings, counts, and the report that holds both; reports of shards add up.

A finding is one sentence for a person and five fields for a machine. `leaf` is -1 where it concerns the log
as a whole.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import Any

WHOLE_LOG = -1
MAX_QUOTED = 200


class AuditStep(IntEnum):
    """The numbered steps; see the room's docstring."""

    SIGNATURE = 1
    ANCHORS = 2
    LEAVES = 3
    SEQUENCE = 4
    DRAWS = 5
    CHALLENGES = 6
    ANSWERS = 7
    LABELS = 8
    WEIGHTS = 9


@dataclass(frozen=True)
class Finding:
    """Something that is not what the log's own rules give."""

    step: AuditStep
    leaf: int
    field: str
    expected: str
    got: str

    def sentence(self) -> str:
        """For people."""
        where = "the log" if self.leaf == WHOLE_LOG else f"leaf {self.leaf}"
        return f"{where}, {self.field}: expected {_short(self.expected)}, got {_short(self.got)}"

    def to_json(self) -> dict[str, Any]:
        """For machines; `read` is the way back."""
        return {**asdict(self), "step": self.step.name.lower()}

    @classmethod
    def read(cls, value: dict[str, Any]) -> Finding:
        """Read one back from a report. Raises `KeyError`, `TypeError` for what is none."""
        return cls(**{**value, "step": AuditStep[str(value["step"]).upper()]})


@dataclass
class AuditReport:
    """Findings and counts. `checked`, `attested` and `unchecked` map what was counted to how many."""

    findings: list[Finding] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    attested: Counter[str] = field(default_factory=Counter)
    unchecked: Counter[str] = field(default_factory=Counter)

    @property
    def passed(self) -> bool:
        """Whether nothing was found; `unchecked` says what was not looked at."""
        return not self.findings

    def add(self, other: AuditReport) -> None:
        """Take in the report of another part; a finding that both made is kept once."""
        known = set(self.findings)
        self.findings += [finding for finding in other.findings if finding not in known]
        self.checked += other.checked
        self.attested += other.attested
        self.unchecked += other.unchecked

    def to_json(self) -> dict[str, Any]:
        """Plain values, findings by step and leaf."""
        ordered = sorted(self.findings, key=lambda found: (found.step, found.leaf, found.field))
        return {
            "findings": [finding.to_json() for finding in ordered],
            "checked": dict(sorted(self.checked.items())),
            "attested": dict(sorted(self.attested.items())),
            "unchecked": dict(sorted(self.unchecked.items())),
        }

    @classmethod
    def read(cls, value: dict[str, Any]) -> AuditReport:
        """Read one back. Raises `KeyError`, `TypeError`, `ValueError` for what is none."""
        counts = {name: Counter(value[name]) for name in ("checked", "attested", "unchecked")}
        return cls([Finding.read(item) for item in value["findings"]], **counts)


def _short(text: str) -> str:
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…"
