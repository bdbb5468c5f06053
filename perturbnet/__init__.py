"""Perturb: a decentralised network for adversarial robustness whose every verdict can be recomputed.

    import perturbnet

    model = perturbnet.load_model("reference")
    outcome = perturbnet.attack(model, "cat.jpg", seconds=5)
    verdict = perturbnet.verify(outcome.clean, "changed.png", model)
    points = perturbnet.score(verdict)                              # parts per 10^9
    evaluation = perturbnet.evaluate("timm:resnet18", "photos", out="evaluation")
    report = perturbnet.audit("bundle", hotkey="5F…", netuid=1, anchors="chain")
    examples = perturbnet.load_adversarial("dataset", source="reference")

The names in `__all__` are the public API; docs/api.md has an example of each. Every error is a
`PerturbError`; `perturbnet.errors` holds the tree. What an attack of one's own needs stands in
docs/attacks.md. Every other module is internal and may change in any release.

Names are imported when they are first asked for: `import perturbnet` is quick and loads nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perturbnet.version import __version__

if TYPE_CHECKING:
    from perturbnet.adversarial_dataset.loading import AdversarialSet, load_adversarial
    from perturbnet.api.attacking import AttackOutcome, attack
    from perturbnet.api.auditing import audit
    from perturbnet.api.evaluating import evaluate
    from perturbnet.api.models import Classifier, load_model
    from perturbnet.api.verdicts import default_rules, score, verify
    from perturbnet.auditing.findings import AuditReport
    from perturbnet.errors import PerturbError, Reject
    from perturbnet.evaluation.outcome import EvaluationOutcome
    from perturbnet.rules.verification import Verdict
    from perturbnet.wire.messages import Rules

__all__ = [
    "AdversarialSet",
    "AttackOutcome",
    "AuditReport",
    "Classifier",
    "EvaluationOutcome",
    "PerturbError",
    "Reject",
    "Rules",
    "Verdict",
    "__version__",
    "attack",
    "audit",
    "default_rules",
    "evaluate",
    "load_adversarial",
    "load_model",
    "score",
    "verify",
]

_HOMES = {
    "AdversarialSet": "adversarial_dataset.loading",
    "AttackOutcome": "api.attacking",
    "AuditReport": "auditing.findings",
    "Classifier": "api.models",
    "EvaluationOutcome": "evaluation.outcome",
    "PerturbError": "errors",
    "Reject": "errors",
    "Rules": "wire.messages",
    "Verdict": "rules.verification",
    "attack": "api.attacking",
    "audit": "api.auditing",
    "default_rules": "api.verdicts",
    "evaluate": "api.evaluating",
    "load_adversarial": "adversarial_dataset.loading",
    "load_model": "api.models",
    "score": "api.verdicts",
    "verify": "api.verdicts",
}


def __getattr__(name: str) -> object:
    """A public name, imported from its home and kept (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """The public names and no others, imported already or not: what completion shows."""
    return sorted(__all__)
