"""What a miner can expect of this machine: the cost of a pass, and the score at several time-outs.

Rules
- The very service's parts are measured: warm-up, the model's thread, the search, the verifier. Nothing is
  simulated; the clock is the machine's, so run it while nothing else runs.
- One search a challenge, as long as the longest time-out; the score at a shorter one is that of the best
  image that had been verified by then, less the reserve for sending.
- Pictures are rows the network was not trained on; without the data set, the package's photographs.
"""

from __future__ import annotations

import hashlib
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np

from perturbnet.attacks import Attack, open_attack
from perturbnet.classifier import open_engine, open_oracle
from perturbnet.classifier.oracle import FloatOracle
from perturbnet.config import Settings
from perturbnet.datasets import SourceImage, open_source
from perturbnet.datasets.reference import load_photographs
from perturbnet.errors import ArtifactMissing, ChallengeError, RowUnreadable
from perturbnet.miner.calibration import MeasuredCosts, measure_costs
from perturbnet.miner.passes import ModelThread
from perturbnet.miner.search import Search
from perturbnet.rounds.challenges import Challenge, build_challenge
from perturbnet.rules.classification import Engine
from perturbnet.rules.distortion import rmse
from perturbnet.rules.from_settings import build_rules
from perturbnet.rules.scoring import score_perturbation
from perturbnet.rules.traversal import Draw
from perturbnet.runtime.clock import Clock, SystemClock
from perturbnet.runtime.progress import Progress
from perturbnet.wire.images import encode_base64, encode_png
from perturbnet.wire.messages import AttackChallenge, Rules

KIB_PER_MIB = 1024
SLACK_S = 5.0  # of a warm-up: how much later a search's answer may be awaited before it is called hung


@dataclass(frozen=True)
class Searched:
    """One challenge: the score at each time-out (0: nothing yet), and what it took."""

    scores: dict[float, float]
    changed: int
    forward_passes: int
    backward_passes: int
    ended_s: float


def expect(
    settings: Settings, *, challenges: int, timeouts_s: Sequence[float], at_once: int, progress: Progress
) -> dict[str, Any]:
    """Warm up, search, and say what was found, as plain JSON.

    Args:
        settings: profile, cache, device, engine, attack, reserve, rules.
        challenges: how many.
        timeouts_s: of challenges; every search lasts as long as the longest.
        at_once: searches that share the model.
        progress: told (challenges done, in all).

    Raises:
        ArtifactMissing, DigestMismatch, ConfigError, ModelError: see `open_engine` and `open_attack`.

    """
    profile, cache_dir, device, kind = settings.profile, settings.cache_dir, settings.device, settings.engine
    engine = open_engine(profile, cache_dir=cache_dir, device=device, kind=kind)
    oracle = open_oracle(profile, cache_dir=cache_dir, device=device, kind=kind)
    bench = _Bench(
        settings, engine, oracle, open_attack(settings.attack), build_rules(settings), SystemClock()
    )
    pictures, source = find_pictures(settings, engine, bench.rules)
    chosen = list(islice(pictures, challenges))
    costs, found = bench.run(chosen, sorted(timeouts_s), at_once, progress)
    return {
        "profile": profile,
        "attack": settings.attack,
        "device": oracle.device,
        "bfloat16": oracle.bfloat16,
        "pictures": source,
        "challenges": len(found),
        "at_once": at_once,
        "costs": costs.to_json(),
        "timeouts": [summarise(found, timeout_s) for timeout_s in sorted(timeouts_s)],
        "late": sum(one.ended_s > max(timeouts_s) for one in found),
        "forward_passes": _mean([one.forward_passes for one in found]),
        "backward_passes": _mean([one.backward_passes for one in found]),
        "changed_values": float(np.median([one.changed for one in found])) if found else 0.0,
        "peak_mib": _peak_mib(),
        "peak_device_mib": _peak_device_mib(oracle.device),
    }


def summarise(found: Sequence[Searched], timeout_s: float) -> dict[str, float]:
    """Mean score and share of answers at one time-out."""
    scores = [one.scores[timeout_s] for one in found]
    answered = _mean([score > 0 for score in scores])
    return {"timeout_s": timeout_s, "score": _mean(scores), "answered": answered}


def find_pictures(settings: Settings, engine: Engine, rules: Rules) -> tuple[Iterator[Challenge], str]:
    """Challenges without end, and where their pictures come from."""
    try:
        split = "test" if settings.profile == "reference" else None
        source = open_source(settings.profile, cache_dir=settings.cache_dir, split=split)
    except ArtifactMissing:
        photographs = [
            SourceImage(row, pixels, 0, "unknown") for row, pixels in enumerate(load_photographs())
        ]
        said = "the package's photographs: the data set is not on this machine"
        return _draw(lambda row: photographs[row], len(photographs), engine, rules), said
    where = f"{source.identity.repository}, {source.identity.split}"
    return _draw(source.read, source.identity.rows, engine, rules), where


def _draw(read: Callable[[int], SourceImage], rows: int, engine: Engine, rules: Rules) -> Iterator[Challenge]:
    for number in count():
        seed = hashlib.sha256(f"expectation:{number}".encode()).digest()
        try:
            yield build_challenge(
                read(int.from_bytes(seed[:8], "big") % rows),
                draw=Draw(0, number, 0),
                engine=engine,
                netuid=0,
                block=number,
                attempt=0,
                freshness_seed=seed,
                rules=rules,
            )
        except (ChallengeError, RowUnreadable):
            continue


@dataclass(frozen=True)
class _Bench:
    settings: Settings
    engine: Engine
    oracle: FloatOracle
    attack: Attack
    rules: Rules
    clock: Clock

    def run(
        self, challenges: Sequence[Challenge], timeouts_s: Sequence[float], at_once: int, progress: Progress
    ) -> tuple[MeasuredCosts, list[Searched]]:
        """Warm up, then search, `at_once` challenges at a time."""
        costs = measure_costs(self.oracle, self.engine, self.clock)
        thread = ModelThread(self.oracle, self.engine, images_per_pass=costs.images_per_pass)
        found: list[Searched] = []
        try:
            for start in range(0, len(challenges), at_once):
                group = challenges[start : start + at_once]
                found += self._search_together(thread, costs, group, timeouts_s)
                progress(len(found), len(challenges))
        finally:
            thread.close()
        return costs, found

    def _search_together(
        self,
        thread: ModelThread,
        costs: MeasuredCosts,
        group: Sequence[Challenge],
        timeouts_s: Sequence[float],
    ) -> list[Searched]:
        due_s = self.clock.monotonic_s() + timeouts_s[-1] - float(self.settings.answer_reserve_seconds)
        searches = [self._open(thread, costs, challenge, due_s) for challenge in group]
        threads = [threading.Thread(target=search.run, daemon=True) for search in searches]
        for one in threads:
            one.start()
        ended_s = []
        for one in threads:
            one.join(max(0.0, due_s - self.clock.monotonic_s()))
            ended_s.append(self.clock.monotonic_s() - due_s + timeouts_s[-1])
        for search in searches:
            search.stop()
        for one in threads:
            one.join(SLACK_S + costs.pass_s + costs.verdict_s)
        pairs = zip(searches, group, ended_s, strict=True)
        return [self._weigh(*pair, timeouts_s) for pair in pairs]

    def _open(self, thread: ModelThread, costs: MeasuredCosts, challenge: Challenge, due_s: float) -> Search:
        message = AttackChallenge(
            task_id=challenge.task_id,
            model_name=self.engine.model_name,
            clean_image_b64=encode_base64(encode_png(challenge.clean)),
            true_label=challenge.label.text,
            epsilon=float(challenge.epsilon),
            min_delta=float(self.rules.min_linf_delta),
            timeout_seconds=float(self.rules.timeout_ms) / 1000,
            challenge_id=challenge.clean_digest,
            protocol_fingerprint="0" * 64,
            rules=self.rules,
        )
        return Search(message, thread, self.attack, "bench", self.clock, due_s, costs)

    def _weigh(
        self, search: Search, challenge: Challenge, ended_s: float, timeouts_s: Sequence[float]
    ) -> Searched:
        height, width, _ = challenge.clean.shape
        trace = list(search.bank.accepted) if search.bank else []
        began_s = search.due_s + float(self.settings.answer_reserve_seconds) - timeouts_s[-1]
        scores = {}
        for timeout_s in timeouts_s:
            by_s = began_s + timeout_s - float(self.settings.answer_reserve_seconds)
            last = [found for found in trace if found.at_s <= by_s][-1:]
            scores[timeout_s] = max(
                (
                    score_perturbation(
                        found.linf_u8,
                        rmse(found.sum_sq, height, width),
                        epsilon=challenge.epsilon,
                        rules=self.rules,
                    )
                    for found in last
                ),
                default=0.0,
            )
        changed = trace[-1].changed if trace else 0
        oracle = search.oracle
        return Searched(scores, changed, oracle.forward_passes, oracle.backward_passes, ended_s)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def _peak_mib() -> float:
    """Peak resident memory of this process; getrusage's survives exec, so a child is told its parent's."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) / KIB_PER_MIB if found else float("nan")


def _peak_device_mib(device: str) -> float | None:
    """Peak memory of a CUDA device, None on a CPU."""
    if not device.startswith("cuda"):
        return None
    torch: Any = sys.modules["torch"]  # the oracle has imported it
    return float(torch.cuda.max_memory_allocated(device)) / KIB_PER_MIB / KIB_PER_MIB
