"""An evaluation with a small exact engine and scripted attacks: run it, kill it, open it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perturbnet.attacks import AttackResult, AttackTask, Deadline
from perturbnet.auditing.findings import AuditReport
from perturbnet.config import Settings, load_settings
from perturbnet.evaluation.attackers import Attacker, SearchBudget, open_attackers
from perturbnet.evaluation.checking import check_bundle
from perturbnet.evaluation.engines import PlainClassification
from perturbnet.evaluation.images import FolderSource, ImageOptions, record_images
from perturbnet.evaluation.networks import class_finder
from perturbnet.evaluation.plan import EvaluationPlan
from perturbnet.evaluation.rounds import Done
from perturbnet.evaluation.session import Session, offline_settings, open_session, own_key
from perturbnet.statistics.robustness import Statistics, count_log
from perturbnet.transparency.bundle import open_bundle
from perturbnet.wire.images import Pixels
from tests.support.fakes import LABELS, BlockEngine, VirtualClock, flip

SEED = "world"


class NoNetwork:
    """What scripted attacks never ask."""

    labels = LABELS
    device = "cpu"

    def prepare(self, levels: Any) -> Any:
        raise AssertionError("nothing searches here")

    def infer(self, inputs: Any) -> Any:
        raise AssertionError("nothing searches here")


@dataclass
class Scripted:
    """An attack that does what it is told with the flipped image; remembers what it was asked about."""

    name: str = "scripted"
    do: Callable[[AttackTask, Pixels], object] = lambda task, flipped: task.accepts(flipped)
    seen: list[bytes] = field(default_factory=list)

    def run(self, oracle: object, task: AttackTask, deadline: Deadline) -> AttackResult:
        self.seen.append(task.clean.tobytes())
        self.do(task, flip(BlockEngine(), task.clean))
        return AttackResult(None, 0, "scripted")


def settings_of(*, freshness: bool = False) -> Settings:
    return load_settings({}, overrides=offline_settings("2", freshness=freshness)).settings


@contextmanager
def opened(
    out: Path, folder: Path, *attacks: Scripted, freshness: bool = False, virtual: bool = False
) -> Iterator[Session]:
    """The evaluation in `out` of the pictures in `folder`."""
    out.mkdir(exist_ok=True)
    recorded = record_images(
        out,
        folder,
        ImageOptions(),
        classes=LABELS,
        label_of=class_finder(LABELS),
        progress=lambda _done, _of: None,
    )
    wallets = open_attackers(["exchange", "pgd"][: len(attacks)], out)
    attackers = [
        Attacker(wallet.uid, attack, wallet.hotkey, wallet.coldkey_ss58)
        for wallet, attack in zip(wallets, attacks, strict=True)
    ]
    names = ("attacks", "budget_s", "clock", "weights", "weights_origin", "preprocessing", "not_compiled")
    with open_session(
        out,
        settings_of(freshness=freshness),
        judged=PlainClassification(BlockEngine(), NoNetwork(), reproducible=True),
        images=FolderSource(recorded, folder),
        attackers=attackers,
        budget=SearchBudget(2.0, virtual=virtual),
        plan=EvaluationPlan(dict.fromkeys(names, "test")),
        keypair=own_key(out),
        seed=SEED,
        clock=VirtualClock(),
    ) as session:
        yield session


def finish(session: Session) -> list[Done]:
    """Judge all that is left."""
    found = []
    while (done := session.evaluation.step()) is not None:
        found.append(done)
    return found


def check(session: Session) -> AuditReport:
    """Publish, and audit what was published."""
    session.publish()
    with open_bundle(session.bundle) as bundle:
        return check_bundle(bundle, session.images, session.evaluation.arena.engine, session.plan.digest)


def count(session: Session) -> Statistics:
    """Publish, and count what was published."""
    session.publish()
    with open_bundle(session.bundle) as bundle:
        return count_log(bundle, session.evaluation.arena.engine.model_digest)
