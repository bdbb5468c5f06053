"""A challenge comes in, an answer goes out in time: an image that passed the verifier's own code, or none.

Rules
- One deadline, from the moment the request arrived. A reserve is kept back for the step under way when it
  passes, for encoding and for sending; it is what one step took at warm-up, doubled.
- What is sent was verified as bytes: encoded, decoded, every gate, both labels, by `perturbnet.verification`.
- A challenge made under another protocol fingerprint is answered too, for what is sent is verified here; the
  difference is logged, once for each validator, because label and verdict may differ there.
- One search at a time, in one thread, because the model is shared; a search that would begin too late is not
  begun, and one whose request was cancelled while it waited neither.
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
from perturbnet.challenges import SMALLEST_SIDE
from perturbnet.classifier import Classification, Engine
from perturbnet.clock import Clock
from perturbnet.errors import AttackError, PerturbError, Refused, Reject
from perturbnet.images import decode_base64, decode_png, encode_base64, encode_png, pixel_digest
from perturbnet.miner.keepsakes import Keepsakes
from perturbnet.protocol import (
    Acknowledgement,
    AttackChallenge,
    AttackResponse,
    encode,
    response_limit_bytes,
)
from perturbnet.transport import SignedMessage
from perturbnet.verification import Pixels, Task, verify_round

MINIMUM_RESERVE_S = 0.25
REMEMBERED_TASKS = 256
MAX_REASON_CHARACTERS = 200

log = logging.getLogger(__name__)


@dataclass
class MinerService:
    """Answers challenges with one model and one attack. `seed_text` (the hotkey) makes two miners differ."""

    engine: Engine
    oracle: Oracle
    attack: Attack
    seed_text: str
    clock: Clock
    keepsakes: Keepsakes | None = None
    protocol_fingerprint: str | None = None  # of this node's manifest; None compares with nothing
    reserve_s: float = MINIMUM_RESERVE_S
    _worker: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "attack"))
    _answered: OrderedDict[str, str] = field(default_factory=OrderedDict)
    _strangers: OrderedDict[tuple[str, str], None] = field(default_factory=OrderedDict)

    def warm_up(self) -> None:
        """Take one step of a search twice; the time the second one took, doubled, is kept back."""
        self._step()
        started_s = self.clock.monotonic_s()
        self._step()
        self.reserve_s = MINIMUM_RESERVE_S + 2 * (self.clock.monotonic_s() - started_s)
        log.info("Warmed up: %.2f s are kept back of every deadline", self.reserve_s)

    async def answer(self, challenge: AttackChallenge, caller: str, received_s: float) -> AttackResponse:
        """Search and answer; never later than the challenge's time-out, as far as the attack keeps its own.

        Args:
            challenge: what a permitted validator sent; its image is hostile until decoded.
            caller: the validator's hotkey.
            received_s: when the request arrived, on the clock's monotonic scale.

        """
        deadline = Deadline(self.clock, received_s + challenge.timeout_seconds - self.reserve_s)
        task, left_s = challenge.task_id, deadline.remaining_s
        log.info("Challenge %s from %s: label %r, %.1f s", task, caller[:8], challenge.true_label, left_s)
        self._compare(challenge.protocol_fingerprint, caller)
        self._remember(challenge)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._worker, self._respond, challenge, deadline)

    async def acknowledged(self, acknowledgement: Acknowledgement, message: SignedMessage) -> None:
        """Keep the validator's word of what became of an answer, and log it."""
        if self.keepsakes is not None:
            await asyncio.to_thread(self.keepsakes.keep_acknowledgement, message)
        task = self._answered.get(acknowledgement.challenge_id, "unknown task")
        log.info(
            "Validator %s judged %s: %s, score %.4f, leaf %s",
            message.sender[:8],
            task,
            acknowledgement.reject.value,
            acknowledgement.score_ppb / 1e9,
            acknowledgement.leaf_hash[:16],
        )

    def close(self) -> None:
        """Begin no further search; one that runs ends by its deadline."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _step(self) -> None:
        """What happens at most between two looks at the clock: a gradient, a verification, an answer."""
        pixels = np.random.default_rng(0).integers(0, 256, (150, 150, 3), dtype=np.uint8)
        self.oracle.margin_grad(pixels[None], np.array([0]))
        self.engine.classify([pixels])
        decode_png(encode_png(pixels))

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
        taken_s, left_s = self.clock.monotonic_s() - started_s, deadline.remaining_s
        shown = f"k {result.linf_u8}, {changed} values changed, {taken_s:.2f} s, {left_s:.2f} s left"
        log.info("Task %s: %s", challenge.task_id, shown)
        response = build_response(challenge.task_id, challenge.challenge_id, result.adversarial)
        if self.keepsakes is not None:
            self.keepsakes.keep_body(encode(response))
        return response

    def _search(self, challenge: AttackChallenge, deadline: Deadline) -> tuple[Pixels, AttackResult]:
        if deadline.passed:
            raise AttackError("out of time before the search began")
        ours = self.engine.model_name
        if challenge.model_name != ours:
            raise AttackError(f"asked for model {challenge.model_name!r}, this miner has {ours!r}")
        clean = decode_png(decode_base64(challenge.clean_image_b64))
        if min(clean.shape[:2]) < SMALLEST_SIDE:
            raise AttackError(f"clean image of {clean.shape[1]}×{clean.shape[0]} is too small")
        label = self.engine.classify([clean])[0]
        if label.text != challenge.true_label:
            raise AttackError(f"label is {challenge.true_label!r} to the validator, {label.text!r} here")
        task = AttackTask(
            clean=clean,
            label_index=label.index,
            levels=challenge.rules.levels(str(challenge.epsilon)),
            accepts=lambda pixels: self._accepts(challenge, clean, label, pixels),
            seed=_seed(self.seed_text, challenge.challenge_id),
        )
        return clean, self.attack.run(self.oracle, task, deadline)

    def _accepts(
        self, challenge: AttackChallenge, clean: Pixels, label: Classification, pixels: Pixels
    ) -> bool:
        """The verifier's verdict on the very bytes that would be sent."""
        task = Task(
            task_id=challenge.task_id,
            challenge_id=challenge.challenge_id,
            clean=clean,
            true_label=challenge.true_label,
            epsilon=str(challenge.epsilon),
            rules=challenge.rules,
            max_body_bytes=response_limit_bytes(clean.shape[0], clean.shape[1]),
        )
        body = encode(build_response(challenge.task_id, challenge.challenge_id, pixels))
        return verify_round(task, [(body, None)], self.engine, label)[0].reject is Reject.OK

    def _nothing(self, challenge: AttackChallenge, reason: str) -> AttackResponse:
        log.warning("Task %s: no image: %s", challenge.task_id, reason)
        shown = "".join(character for character in reason if character.isprintable())
        return AttackResponse(
            task_id=challenge.task_id,
            challenge_id=challenge.challenge_id,
            reason=shown[:MAX_REASON_CHARACTERS],
        )

    def _compare(self, theirs: str, caller: str) -> None:
        """Say once that a validator works with another manifest than this miner."""
        if self.protocol_fingerprint in (None, theirs) or (caller, theirs) in self._strangers:
            return
        self._strangers[caller, theirs] = None
        while len(self._strangers) > REMEMBERED_TASKS:
            self._strangers.popitem(last=False)
        log.warning(
            "Validator %s has protocol fingerprint %s, this miner %s: other data, another model or another "
            "wire; `perturb bootstrap` and `perturb manifest` show which",
            caller,
            theirs,
            self.protocol_fingerprint,
        )

    def _remember(self, challenge: AttackChallenge) -> None:
        self._answered[challenge.challenge_id] = challenge.task_id
        while len(self._answered) > REMEMBERED_TASKS:
            self._answered.popitem(last=False)


def build_response(task_id: str, challenge_id: str, pixels: Pixels) -> AttackResponse:
    """The message that carries an image."""
    return AttackResponse(
        task_id=task_id,
        challenge_id=challenge_id,
        perturbed_image_b64=encode_base64(encode_png(pixels)),
        pixels_sha256=pixel_digest(pixels),
    )


def _seed(text: str, challenge_id: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{text}:{challenge_id}".encode()).digest()[:8], "big")
