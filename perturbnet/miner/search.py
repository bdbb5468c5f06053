"""One challenge under search: from the message to the best image that the verifier would pay for.

Rules
- What is kept was verified as the very bytes that would be sent: encoded, decoded, every gate, both labels,
  by `perturbnet.rules.verification`. The answer is ready with it, so answering in the last moment costs
  nothing.
- At `due_s` the answer is given, whatever the attack does; it is told what verifying an image takes, and
  leaves that much. From then on, and once nobody waits for the answer any more (`stop`), its questions to the
  model are refused, which ends an attack that does not look at its deadline.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field

from perturbnet.attacks import Attack, AttackTask, Deadline
from perturbnet.attacks.protocol import Accepted, Bank
from perturbnet.errors import AttackError, PerturbError, Refused, Reject
from perturbnet.miner.calibration import MeasuredCosts
from perturbnet.miner.passes import ModelThread, PassClient, SharedEngine, SharedOracle
from perturbnet.rounds.challenges import SMALLEST_SIDE
from perturbnet.rules.classification import Classification
from perturbnet.rules.verification import Task, verify
from perturbnet.runtime.clock import Clock
from perturbnet.wire.images import Pixels, decode_base64, decode_png, encode_base64, encode_png, pixel_digest
from perturbnet.wire.messages import AttackChallenge, AttackResponse, encode, response_limit_bytes

MAX_REASON_CHARACTERS = 200
OUT_OF_TIME = "out of time before anything was found"


@dataclass(frozen=True, slots=True)
class Find:
    """The best image so far, as it would be sent; `margin` is the verifier's own, of the label it has now."""

    accepted: Accepted
    response: AttackResponse
    margin: float


@dataclass(eq=False)
class Search:
    """See the module. `seed_text` (the hotkey) makes two miners' searches differ; times: monotonic."""

    challenge: AttackChallenge
    thread: ModelThread
    attack: Attack
    seed_text: str
    clock: Clock
    due_s: float
    costs: MeasuredCosts | None = None
    find: Find | None = None
    reason: str = OUT_OF_TIME
    began_s: float | None = None
    oracle: SharedOracle = field(init=False)
    engine: SharedEngine = field(init=False)
    bank: Bank | None = None
    _stopped: threading.Event = field(default_factory=threading.Event)
    _yielded: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Become a client of the model."""
        client = PassClient(self.due_s, self._refused)
        self.oracle, self.engine = SharedOracle(self.thread, client), SharedEngine(self.thread, client)

    @property
    def deadline_s(self) -> float:
        """When the answer is due."""
        return self.due_s

    def yield_place(self) -> None:
        """Ask the attack to end with the best it has: others wait."""
        self._yielded.set()

    def stop(self) -> None:
        """Nobody waits for the answer any more: end at the next question, drop the one under way."""
        self._stopped.set()
        self.thread.forget(self.oracle.client)

    def run(self) -> None:
        """Search, in a thread of its own; `find` and `reason` say what came of it."""
        self.began_s = self.clock.monotonic_s()
        try:
            self._run()
        except Refused as error:
            self.reason = f"clean image refused: {error.reject.value}"
        except PerturbError as error:
            self.reason = OUT_OF_TIME if self._refused() else error.message

    def response(self) -> AttackResponse:
        """The answer as it stands now: the best image, or none and why."""
        if self.find is not None:
            return self.find.response
        shown = "".join(character for character in self.reason if character.isprintable())
        return AttackResponse(
            task_id=self.challenge.task_id,
            challenge_id=self.challenge.challenge_id,
            reason=shown[:MAX_REASON_CHARACTERS],
        )

    def _run(self) -> None:
        deadline = Deadline(self.clock, self.due_s, lambda: self._yielded.is_set() or self._refused())
        if deadline.passed:
            raise AttackError("out of time before the search began")
        challenge, ours = self.challenge, self.engine.model_name
        if challenge.model_name != ours:
            raise AttackError(f"asked for model {challenge.model_name!r}, this miner has {ours!r}")
        clean = decode_png(decode_base64(challenge.clean_image_b64))
        if min(clean.shape[:2]) < SMALLEST_SIDE:
            raise AttackError(f"clean image of {clean.shape[1]}×{clean.shape[0]} is too small")
        label = self.engine.classify([clean])[0]
        if label.text != challenge.true_label:
            raise AttackError(f"label is {challenge.true_label!r} to the validator, {label.text!r} here")
        verified = _Verifier(self, clean, label)
        task = AttackTask(
            clean=clean,
            label_index=label.index,
            levels=challenge.rules.levels(str(challenge.epsilon)),
            accepts=verified.accepts,
            seed=_seed(self.seed_text, challenge.challenge_id),
            accept_cost_s=self.costs.verify_s(clean.size) if self.costs else 0.0,
            forward_cost_s=self.costs.forward_s if self.costs else 0.0,
            gradient_cost_s=self.costs.gradient_s if self.costs else 0.0,
            min_ssim=float(challenge.rules.min_ssim),
            min_psnr_db=float(challenge.rules.min_psnr_db),
        )
        self.reason = self.attack.run(self.oracle, task, deadline).reason

    def _refused(self) -> bool:
        return self._stopped.is_set() or self.clock.monotonic_s() >= self.due_s


class _Verifier:
    """The verifier's verdict on the very bytes that would be sent; keeps the best in the search's `find`."""

    def __init__(self, search: Search, clean: Pixels, label: Classification) -> None:
        challenge = search.challenge
        self._search, self._label = search, label
        self._task = Task(
            task_id=challenge.task_id,
            challenge_id=challenge.challenge_id,
            clean=clean,
            true_label=challenge.true_label,
            epsilon=str(challenge.epsilon),
            rules=challenge.rules,
            max_body_bytes=response_limit_bytes(clean.shape[0], clean.shape[1]),
        )
        self._latest: AttackResponse | None = None
        self._bank = search.bank = Bank(clean, self._judge, search.clock)

    def accepts(self, pixels: Pixels) -> bool:
        before = self._bank.best
        accepted = self._bank(pixels)
        best = self._bank.best
        if best is not None and best is not before and self._latest is not None:
            self._search.find = Find(best, self._latest, self._search.engine.margin)
        return accepted

    def _judge(self, pixels: Pixels) -> bool:
        self._latest = build_response(self._task.task_id, self._task.challenge_id, pixels)
        body = encode(self._latest)
        return verify(self._task, body, self._search.engine, clean=self._label).reject is Reject.OK


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
