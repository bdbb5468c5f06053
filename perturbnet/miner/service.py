"""A challenge comes in, an answer goes out in time: the best image that passed the verifier's own code, or none and why.

Rules
- One deadline, from the moment the request arrived; a reserve is kept back for encoding, verifying and sending, measured at
  warm-up, doubled.
- What is sent was verified as bytes: encoded, decoded, every gate, both labels, by `perturbnet.verification`.
- One search at a time: the model is shared, and a search that would begin too late is not begun.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from perturbnet.attacks import Attack, AttackResult, AttackTask, Deadline, Oracle
from perturbnet.classifier import Engine
from perturbnet.clock import Clock
from perturbnet.errors import AttackError, PerturbError, Refused, Reject
from perturbnet.images import decode_base64, decode_png, encode_base64, encode_png, pixel_digest
from perturbnet.protocol import Acknowledgement, AttackChallenge, AttackResponse, encode
from perturbnet.verification import Pixels, Task, verify

MAX_BODY_BYTES = 2**31
MINIMUM_RESERVE_S = 0.25
REMEMBERED_TASKS = 256

log = logging.getLogger(__name__)


@dataclass
class MinerService:
    """Answers challenges with one model and one attack. `seed_text` (the hotkey) makes two miners' searches differ."""

    engine: Engine
    oracle: Oracle
    attack: Attack
    seed_text: str
    clock: Clock
    reserve_s: float = MINIMUM_RESERVE_S
    _worker: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "attack"))
    _answered: OrderedDict[str, str] = field(default_factory=OrderedDict)

    def warm_up(self) -> None:
        """Run the model and the verifier once each; the time they take, doubled, is kept back of every deadline."""
        pixels = np.random.default_rng(0).integers(0, 256, (150, 150, 3), dtype=np.uint8)
        self.oracle.margin_grad(pixels[None], [0])
        self.engine.classify([pixels])
        started_s = self.clock.monotonic_s()
        self.engine.classify([pixels, pixels])
        decode_png(encode_png(pixels))
        self.reserve_s = MINIMUM_RESERVE_S + 2 * (self.clock.monotonic_s() - started_s)
        log.info("Warmed up: %.2f s are kept back of every deadline", self.reserve_s)

    async def answer(self, challenge: AttackChallenge, caller: str, received_s: float) -> AttackResponse:
        """Search and answer; never later than the challenge's time-out."""
        deadline = Deadline(self.clock, received_s + challenge.timeout_seconds - self.reserve_s)
        log.info("Challenge %s from %s: label %r, %.1f s", challenge.task_id, caller[:8], challenge.true_label,
                 deadline.remaining_s)  # fmt: skip
        loop = asyncio.get_running_loop()
        response = await loop.run_in_executor(self._worker, self._respond, challenge, deadline)
        self._remember(challenge)
        return response

    async def acknowledged(self, acknowledgement: Acknowledgement, caller: str) -> None:
        """Log what became of an answer."""
        task = self._answered.get(acknowledgement.challenge_id, "unknown task")
        log.info("Validator %s judged %s: %s, score %.4f, leaf %s", caller[:8], task, acknowledgement.reject.value,
                 acknowledgement.score_ppb / 1e9, acknowledgement.leaf_hash[:16])  # fmt: skip

    def _respond(self, challenge: AttackChallenge, deadline: Deadline) -> AttackResponse:
        started_s = self.clock.monotonic_s()
        try:
            clean, result = self._search(challenge, deadline)
        except Refused as error:
            return self._nothing(challenge, f"clean image refused: {error.reject.value}")
        except PerturbError as error:
            return self._nothing(challenge, error.message)
        if result.adversarial is None:
            return self._nothing(challenge, result.reason)
        changed = int(np.count_nonzero(result.adversarial != clean))
        log.info("Task %s: k %d, %d values changed, %.2f s, %.2f s left", challenge.task_id, result.linf_u8, changed,
                 self.clock.monotonic_s() - started_s, deadline.remaining_s)  # fmt: skip
        return build_response(challenge, result.adversarial)

    def _search(self, challenge: AttackChallenge, deadline: Deadline) -> tuple[Pixels, AttackResult]:
        if deadline.passed:
            raise AttackError("out of time before the search began")
        if challenge.model_name != self.engine.model_name:
            raise AttackError(f"asked for model {challenge.model_name!r}, this miner has {self.engine.model_name!r}")
        clean = decode_png(decode_base64(challenge.clean_image_b64))
        label = self.engine.classify([clean])[0]
        if label.text != challenge.true_label:
            raise AttackError(f"label is {challenge.true_label!r} to the validator, {label.text!r} here")
        task = AttackTask(
            clean=clean,
            label_index=label.index,
            levels=challenge.rules.levels(str(challenge.epsilon)),
            accepts=lambda pixels: self._accepts(challenge, clean, pixels),
            seed=_seed(self.seed_text, challenge.challenge_id),
        )
        return clean, self.attack.run(self.oracle, task, deadline)

    def _accepts(self, challenge: AttackChallenge, clean: Pixels, pixels: Pixels) -> bool:
        """The verifier's verdict on the very bytes that would be sent."""
        task = Task(challenge.task_id, challenge.challenge_id, clean, challenge.true_label, str(challenge.epsilon),
                    challenge.rules, MAX_BODY_BYTES)  # fmt: skip
        return verify(task, encode(build_response(challenge, pixels)), self.engine).reject is Reject.OK

    def _nothing(self, challenge: AttackChallenge, reason: str) -> AttackResponse:
        log.warning("Task %s: no image: %s", challenge.task_id, reason)
        shown = "".join(character for character in reason if character.isprintable())[:200]
        return AttackResponse(task_id=challenge.task_id, challenge_id=challenge.challenge_id, reason=shown)

    def _remember(self, challenge: AttackChallenge) -> None:
        self._answered[challenge.challenge_id] = challenge.task_id
        while len(self._answered) > REMEMBERED_TASKS:
            self._answered.popitem(last=False)


def build_response(challenge: AttackChallenge, pixels: Pixels) -> AttackResponse:
    """The message that carries an image."""
    return AttackResponse(
        task_id=challenge.task_id,
        challenge_id=challenge.challenge_id,
        perturbed_image_b64=encode_base64(encode_png(pixels)),
        pixels_sha256=pixel_digest(pixels),
    )


def _seed(text: str, challenge_id: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{text}:{challenge_id}".encode()).digest()[:8], "big")
