"""What an evaluation judges and by which rules: written down before it begins, and the same when it goes on.

`evaluation.json` in the evaluation's folder. The digest of its plan stands in every `config` leaf (where a
validator's stands for its manifest), so the log says which plan its numbers belong to. Where images lie on
this machine is kept beside the plan and no part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perturbnet.attack_comparison.metering import VirtualCosts
from perturbnet.errors import LedgerError
from perturbnet.evaluation.attackers import SearchBudget
from perturbnet.evaluation.engines import PlainClassification
from perturbnet.evaluation.images import FolderSource
from perturbnet.evaluation.networks import Network
from perturbnet.runtime.artifacts import write_durably
from perturbnet.wire import canonical_json
from perturbnet.wire.messages import Rules

PLAN_FILE = "evaluation.json"
FORMAT = 1
MAX_PLAN_BYTES = 1 << 24
_OTHER = "give the same model, images and options to go on with it, or name another --out"


@dataclass(frozen=True)
class EvaluationPlan:
    """The facts, by name: text and integers only."""

    facts: dict[str, str | int]

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the facts' canonical JSON."""
        return canonical_json.digest(dict(self.facts))

    def environment(self) -> dict[str, str]:
        """What of it a `config` leaf shows beside its own fields."""
        shown = ("attacks", "budget_s", "clock", "weights", "weights_origin", "preprocessing", "not_compiled")
        return {name: str(self.facts[name]) for name in shown}


@dataclass(frozen=True)
class RecordedPlan:
    """What stands in an evaluation's folder: its plan, and where its images lie."""

    plan: EvaluationPlan
    images: Path


def build_plan(  # noqa: PLR0913 - everything that a plan names
    network: Network,
    judged: PlainClassification,
    source: FolderSource,
    attacks: list[str],
    budget: SearchBudget,
    rules: Rules,
    *,
    freshness: bool,
    seed: str,
) -> EvaluationPlan:
    """Everything that decides what the evaluation finds, but for the machine."""
    facts: dict[str, str | int] = {
        "format": FORMAT,
        "architecture": network.architecture,
        "weights": network.weights.sha256,
        "weights_origin": network.weights.origin,
        "preprocessing": describe_transform(network),
        "classes": len(network.labels),
        "labels": canonical_json.digest(list(network.labels)),
        "model_digest": judged.engine.model_digest,
        "engine": judged.engine.name,
        "not_compiled": judged.reason,
        "images": source.identity.fingerprint,
        "attacks": ", ".join(f"{uid} {name}" for uid, name in enumerate(attacks, 1)),
        "budget_s": f"{budget.seconds:g}",
        "clock": describe_clock(budget),
        "freshness": int(freshness),
        "seed": seed,
    }
    return EvaluationPlan(
        facts | {f"rules.{name}": value for name, value in rules.model_dump(mode="json").items()}
    )


def describe_transform(network: Network) -> str:
    """The preprocessing in one line."""
    form = network.transform
    scale = f"mean {' '.join(form.mean)}, std {' '.join(form.std)}"
    return f"{form.size}, {form.kernel}, {form.resize}, crop {form.crop_pct}, {scale}"


def describe_clock(budget: SearchBudget) -> str:
    """The clock in one line, with what a pass costs on the virtual one."""
    if not budget.virtual:
        return "wall"
    costs: VirtualCosts = budget.costs
    parts = (costs.forward_s, costs.backward_s, costs.verification_s, costs.similarity_s)
    return "virtual " + " ".join(f"{part:g}" for part in parts)


def record_plan(out: Path, plan: EvaluationPlan, images: Path) -> None:
    """Write the plan into `out`, or find it there.

    Raises:
        LedgerError: another plan is there; names what differs.

    """
    path = out / PLAN_FILE
    if not path.exists():
        facts: dict[str, Any] = dict(plan.facts)
        write_durably(path, canonical_json.encode({"plan": facts, "images_at": str(images.resolve())}))
        return
    known = read_plan(out).plan.facts
    for name in sorted({*known, *plan.facts}):
        there, here = known.get(name), plan.facts.get(name)
        if there != here:
            raise LedgerError(
                f"{out} holds another evaluation: {name} is {there!r} there, {here!r} here", hint=_OTHER
            )


def read_plan(out: Path) -> RecordedPlan:
    """What stands in `out`.

    Raises:
        LedgerError: nothing, or it is damaged.

    """
    path = out / PLAN_FILE
    try:
        with path.open("rb") as file:
            found: Any = canonical_json.decode(file.read(MAX_PLAN_BYTES))
        if found["plan"]["format"] != FORMAT:
            raise ValueError(f"format {found['plan']['format']}, expected {FORMAT}")
        return RecordedPlan(EvaluationPlan(dict(found["plan"])), Path(found["images_at"]))
    except OSError as error:
        raise LedgerError(
            f"{path} cannot be read: {error.strerror}", hint="is it an evaluation's folder?"
        ) from None
    except (canonical_json.NotCanonical, KeyError, TypeError, ValueError) as error:
        raise LedgerError(f"{path} is not an evaluation's plan: {error!r}") from None
