"""One trial: an attack on a challenge, from the draw to a record that says all about it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perturbnet.attack_comparison.metering import Meter, MeteredOracle, MeteredTask, VirtualCosts
from perturbnet.attacks import Accepted, Attack, Bank, Deadline
from perturbnet.classifier.oracle import Differentiable
from perturbnet.datasets import ImageSource
from perturbnet.errors import ChallengeError, Reject, RowUnreadable
from perturbnet.rounds.challenges import Challenge, build_challenge
from perturbnet.rules.classification import Engine
from perturbnet.rules.distortion import rmse
from perturbnet.rules.scoring import score_perturbation
from perturbnet.rules.traversal import Draw
from perturbnet.rules.verification import Task, Verdict, verify
from perturbnet.wire.images import Pixels, encode_base64, encode_png, pixel_digest
from perturbnet.wire.messages import AttackResponse, Rules, encode, response_limit_bytes
from perturbnet.wire.units import to_ppb

CHALLENGE_ID = "0" * 64


@dataclass(frozen=True)
class Bench:
    """What all trials share."""

    engine: Engine
    network: Differentiable
    rules: Rules
    budget_s: float
    virtual: bool
    costs: VirtualCosts


def draw_challenges(
    source: ImageSource, engine: Engine, rules: Rules, *, seed: str = "bench"
) -> Iterator[Challenge]:
    """Challenges in an order that the seed fixes, freshness included, of rows the engine labels correctly."""
    rows = sorted(range(source.identity.rows), key=lambda row: _number(f"{seed}:{row}"))
    for row in rows:
        try:
            challenge = build_challenge(
                source.read(row),
                draw=Draw(0, 0, row),
                engine=engine,
                netuid=0,
                block=row,
                attempt=0,
                freshness_seed=hashlib.sha256(f"{seed}:freshness:{row}".encode()).digest(),
                rules=rules,
            )
        except (ChallengeError, RowUnreadable):
            continue
        if challenge.label.text == challenge.source_label:
            yield challenge


def run_trial(bench: Bench, attack: Attack, challenge: Challenge) -> dict[str, Any]:
    """Attack once; the record is plain JSON.

    Its `trace` holds [seconds, L-inf level, changed values, sum of squares, score in parts per 10^9] for each
    improvement. `verdict` is the verifier's on the bytes of what the attack returned, asked again afterwards.
    """
    meter = Meter(bench.virtual, bench.costs)
    judge = Judge(bench, challenge)

    def accepts(pixels: Pixels) -> bool:
        meter.count(verifications=1)
        return judge.ask(pixels).reject is Reject.OK

    per_value = getattr(attack, "per_value", 0)  # what a contender holds for small
    bank = Bank(challenge.clean, accepts, meter.clock, per_value)
    task = MeteredTask(
        clean=challenge.clean,
        label_index=challenge.label.index,
        levels=bench.rules.levels(challenge.epsilon),
        accepts=bank,
        seed=_number(challenge.clean_digest) % 2**32,
        min_ssim=float(bench.rules.min_ssim),
        min_psnr_db=float(bench.rules.min_psnr_db),
        accept_cost_s=bench.costs.verification_s if bench.virtual else 0.0,
        forward_cost_s=bench.costs.forward_s if bench.virtual else 0.0,
        gradient_cost_s=bench.costs.forward_s + bench.costs.backward_s if bench.virtual else 0.0,
        per_value=per_value,
        meter=meter,
    )
    started_s, wall_started_s = meter.clock.monotonic_s(), time.perf_counter()
    deadline = Deadline(meter.clock, started_s + bench.budget_s)
    result = attack.run(MeteredOracle(bench.network, meter), task, deadline)
    ended_s, wall_s = meter.clock.monotonic_s() - started_s, time.perf_counter() - wall_started_s
    verdict = None if result.adversarial is None else judge.ask(result.adversarial).reject.value
    return {
        "attack": attack.name,
        "row": challenge.draw.row,
        "clean": challenge.clean_digest,
        "margin": challenge.label.margin,
        "values": challenge.clean.size,
        "epsilon": challenge.epsilon,
        "trace": [_point(bench, challenge, found, started_s) for found in bank.accepted],
        "verdict": verdict,
        "late": ended_s > bench.budget_s,
        "ended_s": round(ended_s, 4),
        "wall_s": round(wall_s, 3),
        "forward": meter.forward,
        "backward": meter.backward,
        "verifications": meter.verifications,
        "reason": result.reason,
    }


class Judge:
    """The verifier on the bytes that would be sent."""

    def __init__(self, bench: Bench, challenge: Challenge) -> None:
        """Judge answers to one challenge."""
        height, width, _ = challenge.clean.shape
        self._engine, self._challenge = bench.engine, challenge
        self._task = Task(
            task_id=challenge.task_id,
            challenge_id=CHALLENGE_ID,
            clean=challenge.clean,
            true_label=challenge.label.text,
            epsilon=challenge.epsilon,
            rules=bench.rules,
            max_body_bytes=response_limit_bytes(height, width),
        )

    def ask(self, pixels: Pixels) -> Verdict:
        """The verdict on an image: encoded, decoded, every gate, both labels."""
        response = AttackResponse(
            task_id=self._task.task_id,
            challenge_id=CHALLENGE_ID,
            perturbed_image_b64=encode_base64(encode_png(pixels)),
            pixels_sha256=pixel_digest(pixels),
        )
        return verify(self._task, encode(response), self._engine, clean=self._challenge.label)


def open_bench_source(profile: str, cache_dir: Path) -> ImageSource:
    """The held-apart rows of a profile: its test split, or the only split there is."""
    from perturbnet.datasets import open_source

    return open_source(profile, cache_dir=cache_dir, split="test" if profile == "reference" else None)


def _point(bench: Bench, challenge: Challenge, found: Accepted, started_s: float) -> list[float]:
    height, width, _ = challenge.clean.shape
    share = rmse(found.sum_sq, height, width)
    score = score_perturbation(found.linf_u8, share, epsilon=challenge.epsilon, rules=bench.rules)
    at_s = round(found.at_s - started_s, 4)
    return [at_s, found.linf_u8, found.changed, found.sum_sq, to_ppb(score)]


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
