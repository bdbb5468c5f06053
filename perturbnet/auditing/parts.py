"""Parts of an audit: a plan that fixes the log, parts that any machine can take, and one report out of all.

A published log grows while it is audited. The plan names a size and the root of that many leaves; every part
checks that the log it reads still begins with them, and parts of other plans do not add up.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from perturbnet.auditing.findings import AuditReport
from perturbnet.auditing.run import Scope
from perturbnet.errors import AuditError
from perturbnet.transparency.bundle import Bundle

VERSION = 1


@dataclass(frozen=True)
class AuditPlan:
    """The log that is audited: whose, how many of its leaves, and their root, hex."""

    origin: str
    size: int
    root: str

    @classmethod
    def of(cls, bundle: Bundle) -> AuditPlan:
        """All that is published now."""
        return cls(bundle.checkpoint.origin, bundle.size, bundle.checkpoint.root.hex())

    def check(self, bundle: Bundle) -> None:
        """Whether the log still begins with what was planned.

        Raises:
            AuditError: it does not.

        """
        if bundle.size < self.size:
            raise AuditError(f"the plan is of {self.size} leaves, the log has {bundle.size}")
        root = bundle.root_at(self.size).hex()
        if (bundle.checkpoint.origin, root) != (self.origin, self.root):
            found = f"{bundle.checkpoint.origin} with the root {root}"
            raise AuditError(f"the plan is of {self.origin} with the root {self.root}, the log is {found}")


@dataclass(frozen=True)
class AuditPart:
    """One part's report, and what of the plan it covers."""

    plan: AuditPlan
    scope: Scope
    report: AuditReport
    model: bool
    seconds: float = 0.0

    def encode(self) -> str:
        """JSON for machines; `read_part` is the way back."""
        value = {
            "version": VERSION,
            "plan": asdict(self.plan),
            "scope": asdict(self.scope),
            "model": self.model,
            "passed": self.report.passed,
            "seconds": round(self.seconds, 3),
            **self.report.to_json(),
        }
        return json.dumps(value, indent=2, ensure_ascii=False)


def read_plan(text: str) -> AuditPlan:
    """Read a plan's file. Raises `AuditError` for what is none."""
    try:
        return AuditPlan(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise AuditError(f"not a plan: {error}") from None


def read_part(text: str) -> AuditPart:
    """Read a part's report. Raises `AuditError` for what is none."""
    try:
        value: dict[str, Any] = json.loads(text)
        if value["version"] != VERSION:
            raise AuditError(f"a report of version {value['version']}, expected {VERSION}")
        scope, plan = Scope(**value["scope"]), AuditPlan(**value["plan"])
        return AuditPart(plan, scope, AuditReport.read(value), bool(value["model"]), float(value["seconds"]))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise AuditError(f"not a report of an audit: {error!r}") from None


def merge(parts: Sequence[AuditPart]) -> AuditPart:
    """One report out of the part `log` and ranges that cover the plan without a gap.

    Raises:
        AuditError: parts of different plans, a part that is missing or there twice.

    """
    if not parts:
        raise AuditError("no parts to merge")
    plan = parts[0].plan
    for part in parts:
        if part.plan != plan:
            raise AuditError(f"parts of different plans: {plan} and {part.plan}")
    logs = sum(part.scope.history for part in parts)
    if logs != 1:
        raise AuditError(f"{logs} parts with the log's history, expected 1")
    reached = 0
    for part in sorted(parts, key=lambda part: (part.scope.start, part.scope.stop)):
        if part.scope.start < part.scope.stop:
            if part.scope.start != reached:
                raise AuditError(f"leaves {reached} to {part.scope.start} are in no part, or in two")
            reached = part.scope.stop
    if reached != plan.size:
        raise AuditError(f"leaves {reached} to {plan.size} are in no part")
    whole = AuditReport()
    for part in parts:
        whole.add(part.report)
    scope = replace(Scope.whole(plan.size), sample=parts[0].scope.sample)
    model = all(part.model for part in parts if not part.scope.history)
    return AuditPart(plan, scope, whole, model, sum(part.seconds for part in parts))
