"""All trials of a table: in parallel by image, resumed where a run was broken off.

Every finished trial is a line of a JSON-lines file, whose first line says what was measured: a file of
another profile, budget or clock is refused, never mixed. Each process has one thread.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from perturbnet.attack_comparison.contenders import open_contender
from perturbnet.attack_comparison.metering import VirtualCosts
from perturbnet.attack_comparison.trials import Bench, draw_challenges, open_bench_source, run_trial
from perturbnet.config import Settings
from perturbnet.errors import AttackError
from perturbnet.rounds.challenges import Challenge
from perturbnet.runtime.progress import Progress

FORMAT = 1


@dataclass(frozen=True)
class ComparisonPlan:
    """What is to be measured."""

    attacks: tuple[str, ...]
    images: int
    budget_s: float
    virtual: bool
    costs: VirtualCosts = field(default_factory=VirtualCosts)
    split: str = "held apart"


@dataclass
class _Worker:
    bench: Bench
    challenges: list[Challenge]


_worker: _Worker | None = None  # of this process


def run_plan(
    plan: ComparisonPlan, settings: Settings, record: Path, *, jobs: int, progress: Progress
) -> list[dict[str, Any]]:
    """Run what `record` does not hold yet; every trial of the plan, in the order of attacks and images.

    Args:
        plan: what is to be measured.
        settings: profile, cache, device, rules.
        record: the JSON-lines file; made where there is none.
        jobs: processes.
        progress: told (trials done, trials in all).

    Raises:
        AttackError: `record` holds another plan's trials.
        ArtifactMissing: the profile is not prepared on this machine; the hint says how to.

    """
    open_bench_source(
        settings.profile, settings.cache_dir
    )  # what is not prepared is said before anything begins
    header = {"format": FORMAT, "profile": settings.profile, **_shared(plan)}
    names = {spec: open_contender(spec).name for spec in plan.attacks}
    done = {(trial["attack"], trial["image"]): trial for trial in _read(record, header)}
    wanted = [(image, names[spec]) for image in range(plan.images) for spec in plan.attacks]
    missing = [
        (image, spec)
        for image in range(plan.images)
        for spec in plan.attacks
        if (names[spec], image) not in done
    ]
    progress(len(wanted) - len(missing), len(wanted))
    with record.open("a", encoding="utf-8") as lines:
        for trial in _run(missing, plan, settings, jobs):
            done[trial["attack"], trial["image"]] = trial
            lines.write(json.dumps(trial) + "\n")
            lines.flush()
            progress(sum((attack, image) in done for image, attack in wanted), len(wanted))
    return [done[attack, image] for image, attack in wanted]


def _run(
    missing: Sequence[tuple[int, str]], plan: ComparisonPlan, settings: Settings, jobs: int
) -> Iterator[dict[str, Any]]:
    if not missing:
        return
    spawning = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(jobs, spawning, initializer=_begin, initargs=(plan, settings)) as pool:
        futures = [pool.submit(_trial, image, attack) for image, attack in missing]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _begin(plan: ComparisonPlan, settings: Settings) -> None:
    """Prepare a process: one thread, the models, the challenges."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    from perturbnet.classifier import open_engine
    from perturbnet.classifier.canonical.profiles import open_gradient
    from perturbnet.rules.from_settings import build_rules

    torch.set_num_threads(1)
    global _worker  # noqa: PLW0603 - how a process pool keeps what is dear to open
    cache_dir, device = settings.cache_dir, settings.device
    engine = open_engine(settings.profile, cache_dir=cache_dir, device=device, kind=settings.engine)
    rules = build_rules(settings)
    network = open_gradient(settings.profile, cache_dir=cache_dir, device=device)
    source = open_bench_source(settings.profile, cache_dir)
    challenges = list(islice(draw_challenges(source, engine, rules), plan.images))
    bench = Bench(engine, network, rules, plan.budget_s, plan.virtual, plan.costs)
    _worker = _Worker(bench, challenges)


def _trial(image: int, attack: str) -> dict[str, Any]:
    if _worker is None or image >= len(_worker.challenges):
        raise AttackError(f"there is no challenge {image}: the data set has too few correctly labelled rows")
    trial = run_trial(_worker.bench, open_contender(attack), _worker.challenges[image])
    return {**trial, "image": image}


def _shared(plan: ComparisonPlan) -> dict[str, Any]:
    facts = asdict(plan)
    return {name: facts[name] for name in ("budget_s", "virtual", "costs")}


def _read(record: Path, header: dict[str, Any]) -> list[dict[str, Any]]:
    """The trials of a record; a last line that was broken off is left out, and cut."""
    if not record.exists():
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(header) + "\n", encoding="utf-8")
        return []
    text = record.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        record.write_text(whole, encoding="utf-8")
    first, *trials = [json.loads(line) for line in whole.splitlines()] or [None]
    if first != header:
        raise AttackError(f"{record} holds {first}, this is {header}", hint="name another --record")
    return trials
