"""Robust accuracy: the share of images whose true label stands against attacks made for this very network.

Rules
- The attacks are fresh: each searches on the gradients of the network that is measured, and only what the
  verifier accepts on that network's compiled artefact counts, through the gates of the network's rules.
- An image is *broken at* the least L-inf level (of 255) at which any of the attacks changed its label; at 0
  where the network errs without a change. Robust accuracy at k levels is the share of images not broken at k
  levels or fewer; at 0 it is the clean accuracy. It is an upper bound: a better attack may break more.
- Unless it is `thorough`, a search ends where it has won: at the least level that the rules allow. Then no
  other attack is asked, and nothing is said of scores.
- Rows, freshness, epsilon and the attacks' seeds do not depend on the network, so two networks see the same
  images, and their outcomes pair. On the virtual clock a search does not depend on the machine's load.

Source: F. Croce et al. 2021, "RobustBench", arXiv:2010.09670 (the worst case over attacks, per image);
A. Athalye et al. 2018, arXiv:1802.00420 (why attacks are made for the network that is measured).
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perturbnet.attack_comparison.contenders import open_contender
from perturbnet.attack_comparison.metering import VirtualCosts
from perturbnet.attack_comparison.trials import Bench, run_trial
from perturbnet.attacks import Attack, AttackResult, AttackTask, Deadline, Oracle
from perturbnet.config import Settings
from perturbnet.datasets import ImageSource, open_source
from perturbnet.errors import AttackError
from perturbnet.rounds.challenges import Challenge, build_challenge
from perturbnet.rules.classification import Engine
from perturbnet.rules.traversal import Draw
from perturbnet.runtime.artifacts import sha256_file
from perturbnet.runtime.progress import Progress
from perturbnet.wire.digests import sha256_hex
from perturbnet.wire.images import Pixels
from perturbnet.wire.messages import Rules

if TYPE_CHECKING:
    from perturbnet.classifier.oracle import Differentiable

FORMAT = 1


@dataclass(frozen=True)
class Examination:
    """What networks are put to: rows of a split, the attacks, how long each may search one image.

    `seed` fixes the freshness of every row; the rows may be in any order and are kept in it.
    """

    split: str
    rows: tuple[int, ...]
    attacks: tuple[str, ...] = ("pgd", "exchange")
    budget_s: float = 1.0
    seed: str = "robust accuracy"
    thorough: bool = False


@dataclass(frozen=True)
class RobustAccuracy:
    """How one image fared: `broken_at` levels (0: wrong unchanged; None: never), by attack and over all.

    `by_attack` has the attacks that were asked. `score_ppb` is what the best answer would earn a miner, in
    parts per 10^9; it says nothing unless the examination is `thorough`.
    """

    row: int
    broken_at: int | None
    by_attack: dict[str, int | None]
    score_ppb: int

    def stands(self, level: int) -> bool:
        """Whether the true label stands against every change of at most `level` levels that was found."""
        return self.broken_at is None or self.broken_at > level


@dataclass
class _Examiner:
    bench: Bench
    source: ImageSource
    plan: Examination


_examiner: _Examiner | None = None  # of this process


def examine(
    weights: Path,
    plan: Examination,
    settings: Settings,
    *,
    record: Path,
    jobs: int = 1,
    progress: Progress = lambda _done, _all: None,
) -> list[RobustAccuracy]:
    """Attack a network of the profile's architecture afresh; a standing for each row, in the plan's order.

    Args:
        weights: safetensors of the architecture of `settings.profile`.
        plan: images, attacks, budget.
        settings: profile, cache, rules.
        record: every standing is kept here, as JSON lines; what was broken off goes on from it.
        jobs: processes of one thread each.
        progress: told (images done, images in all).

    Raises:
        ModelError: the weights do not fit, or cannot be compiled.
        ChallengeError: an image that cannot be a challenge.
        DatasetError: no such split.
        AttackError: `record` holds another examination's standings.

    """
    header = {"format": FORMAT, "weights": sha256_file(weights), "profile": settings.profile, **_facts(plan)}
    done = {standing.row: standing for standing in _read(record, header)}
    missing = [row for row in plan.rows if row not in done]
    progress(len(done), len(plan.rows))
    with record.open("a", encoding="utf-8") as lines:
        for standing in _run(missing, (weights, plan, settings), jobs):
            done[standing.row] = standing
            lines.write(json.dumps(asdict(standing)) + "\n")
            lines.flush()
            progress(len(done), len(plan.rows))
    return [done[row] for row in plan.rows]


def _facts(plan: Examination) -> dict[str, Any]:
    """All that a standing depends on besides its row, as JSON has it."""
    facts = {**asdict(plan), "attacks": list(plan.attacks)}
    del facts["rows"]
    return facts


def _read(record: Path, header: dict[str, Any]) -> list[RobustAccuracy]:
    """The standings of a record; a last line that was broken off is left out, and cut."""
    if not record.exists():
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(header) + "\n", encoding="utf-8")
        return []
    text = record.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        record.write_text(whole, encoding="utf-8")
    first, *lines = whole.splitlines() or ["null"]
    if json.loads(first) != header:
        raise AttackError(f"{record} holds {first}, this is {header}", hint="name another record")
    return [RobustAccuracy(**json.loads(line)) for line in lines]


def _run(
    rows: Sequence[int], begin: tuple[Path, Examination, Settings], jobs: int
) -> Iterator[RobustAccuracy]:
    if not rows:
        return
    spawning = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(jobs, spawning, initializer=_begin, initargs=begin) as pool:
        try:
            yield from pool.map(_examine_row, rows)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _begin(weights: Path, plan: Examination, settings: Settings) -> None:
    """Prepare a process: one thread, the network compiled, the data set."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    from perturbnet.rules.from_settings import build_rules

    torch.set_num_threads(1)
    engine, network = _compile(weights, settings)
    bench = Bench(engine, network, build_rules(settings), plan.budget_s, virtual=True, costs=VirtualCosts())
    source = open_source(settings.profile, cache_dir=settings.cache_dir, split=plan.split)
    global _examiner  # noqa: PLW0603 - how a process pool keeps what is dear to open
    _examiner = _Examiner(bench, source, plan)


def _compile(weights: Path, settings: Settings) -> tuple[Engine, Differentiable]:
    """Who judges, and what is searched on: both from the artefact that the weights compile to."""
    from perturbnet.classifier.canonical.gradient import GradientNetwork
    from perturbnet.classifier.canonical.profiles import build_engine, compile_profile

    artefact = compile_profile(settings.profile, cache_dir=settings.cache_dir, weights=weights)
    digest = sha256_hex(artefact.encode())
    return build_engine(artefact, digest, device="cpu"), GradientNetwork(artefact)


def _examine_row(row: int) -> RobustAccuracy:
    if _examiner is None:
        raise AttackError("the process was not prepared")
    plan, bench = _examiner.plan, _examiner.bench
    challenge = draw_row(_examiner.source, row, bench.engine, bench.rules, seed=plan.seed)
    if challenge.label.text != challenge.source_label:
        return RobustAccuracy(row, 0, {}, 0)
    levels: dict[str, int | None] = {}
    best_ppb = 0
    for name in plan.attacks:
        levels[name], score_ppb = _attack(bench, name, challenge, thorough=plan.thorough)
        best_ppb = max(best_ppb, score_ppb)
        if not plan.thorough and levels[name] == bench.rules.levels(challenge.epsilon)[0]:
            break
    broken = [level for level in levels.values() if level is not None]
    return RobustAccuracy(row, min(broken, default=None), levels, best_ppb)


def draw_row(source: ImageSource, row: int, engine: Engine, rules: Rules, *, seed: str) -> Challenge:
    """The challenge of a row, changed as validators change images; only its label depends on the engine.

    Raises:
        ChallengeError: an image that cannot be one.

    """
    return build_challenge(
        source.read(row),
        draw=Draw(0, 0, row),
        engine=engine,
        netuid=0,
        block=row,
        attempt=0,
        freshness_seed=hashlib.sha256(f"{seed}:{row}".encode()).digest(),
        rules=rules,
    )


def _attack(bench: Bench, name: str, challenge: Challenge, *, thorough: bool) -> tuple[int | None, int]:
    """The least level at which the verifier accepted an answer, and the best answer's score."""
    attack = open_contender(name)
    trace = run_trial(bench, attack if thorough else _Brief(attack), challenge)["trace"]
    return (int(trace[-1][1]), int(trace[-1][4])) if trace else (None, 0)


class _Brief:
    """An attack that is called off once an answer at the least allowed level was accepted."""

    def __init__(self, attack: Attack) -> None:
        self.name = attack.name
        self._attack = attack

    def run(self, oracle: Oracle, task: AttackTask, deadline: Deadline) -> AttackResult:
        """See `Attack`."""
        won = False

        def accepts(pixels: Pixels) -> bool:
            nonlocal won
            accepted = task.accepts(pixels)
            largest = np.abs(pixels.astype(np.int16) - task.clean).max()
            won = won or (accepted and int(largest) == task.levels[0])
            return accepted

        watched = replace(deadline, cancelled=lambda: won or deadline.cancelled())
        return self._attack.run(oracle, replace(task, accepts=accepts), watched)
