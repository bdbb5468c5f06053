"""The production network at its size on a CPU: few passes fit, and an answer is found in time.

Real time, one challenge after another, as `perturb miner run` serves them. Where the machine is so busy that
warm-up says that not even one gradient, one candidate and one verification are sure to fit, only lateness
is judged. On a virtual clock: `python -m benchmarks.attack_large`.
"""

from __future__ import annotations

import asyncio
import sys
import time

import pytest

from benchmarks.inference import large_engine, photographs, stored_model
from perturbnet.attacks import open_attack
from perturbnet.classifier.canonical.artefact import read_artefact
from perturbnet.classifier.canonical.gradient import GradientNetwork
from perturbnet.classifier.oracle import FloatOracle
from perturbnet.miner.service import ANSWER_RESERVE_S, MinerService
from perturbnet.rules.verification import Task, verify
from perturbnet.runtime.clock import SystemClock
from perturbnet.wire.images import encode_base64, encode_png
from perturbnet.wire.messages import AttackChallenge, encode, response_limit_bytes
from tests.support.fakes import RULES

TIMEOUT_S = 20.0
PHOTOGRAPHS = range(6)
SURE = 1.5  # of what an answer takes at least by the costs of warm-up


@pytest.mark.slow
def test_efficientnetv2_l_at_480_is_answered_for_in_time_on_a_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    engine = large_engine()
    oracle = FloatOracle(GradientNetwork(read_artefact(stored_model())[0]))
    service = MinerService(engine, oracle, open_attack("exchange"), "hotkey", SystemClock())
    costs = service.warm_up()
    least_s = 2 * costs.verdict_s + costs.gradient_s + costs.forward_s
    sure = SURE * least_s < TIMEOUT_S - ANSWER_RESERVE_S
    rules = RULES.model_copy(update={"timeout_ms": int(TIMEOUT_S * 1000)})
    try:
        for number in PHOTOGRAPHS:
            clean = photographs()[number]
            label = engine.classify([clean])[0]
            message = AttackChallenge(
                task_id=f"0-{number}",
                model_name=engine.model_name,
                clean_image_b64=encode_base64(encode_png(clean)),
                true_label=label.text,
                epsilon=0.08,
                min_delta=0.003,
                timeout_seconds=TIMEOUT_S,
                challenge_id="c" * 64,
                protocol_fingerprint="f" * 64,
                rules=rules,
            )
            before, started_s = oracle.forward_passes, time.monotonic()
            response = asyncio.run(service.answer(message, "validator", started_s))
            taken_s = time.monotonic() - started_s
            assert taken_s < TIMEOUT_S
            assert response.perturbed_image_b64 or not sure
            task = Task(
                message.task_id,
                message.challenge_id,
                clean,
                label.text,
                "0.0800",
                rules,
                response_limit_bytes(*clean.shape[:2]),
            )
            verdict = verify(task, encode(response), engine)
            assert verdict.reject == ("ok" if response.perturbed_image_b64 else "no_image")
            with capsys.disabled():
                passes = oracle.forward_passes - before
                found = f"{verdict.reject.value}, k {verdict.linf_u8}, {verdict.changed} values changed"
                each_s = costs.forward_s, costs.gradient_s, costs.verdict_s
                times = "forward {:.1f}, gradient {:.1f}, verdict {:.1f} s".format(*each_s)
                line = f"\n{clean.shape}: {found}; {taken_s:.2f} s, {passes} images forward; {times}\n"
                sys.stdout.write(line)
    finally:
        service.close()
