"""`perturb doctor`: the readiness checklist, executed. It only looks: it writes and announces nothing.

`checks` says what a check is; `patient` holds what checks look at, each thing read once; `standing` (keys and
chain), `machine`, `holdings` and `reach` are the checks; `checklist` is all of them in order, and the page
docs/READINESS_CHECKLIST.md that says the same.
"""

from __future__ import annotations

from perturbnet.doctor.checklist import CHECKS, examine, write_checklist
from perturbnet.doctor.checks import Check, CheckOutcome, CheckResult
from perturbnet.doctor.patient import Patient

__all__ = ["CHECKS", "Check", "CheckOutcome", "CheckResult", "Patient", "examine", "write_checklist"]
