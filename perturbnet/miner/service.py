"""A challenge comes in, an answer goes out in time: an image that passed the verifier's own code, or none.

Rules
- One deadline, from the moment the request arrived. At `answer_reserve_s` before the time-out the best
  verified image is sent, whatever the search does; the attack is told what verifying one more image takes,
  measured at warm-up, and ends that much earlier.
- Several challenges are searched at once (`slots`), their questions share batches (`passes`); the rest wait,
  the earliest deadline first.
- A request that is cancelled ends its search at the next question. A search that overruns keeps its place
  until it really ends, so the memory stays bounded.
- A challenge made under another protocol fingerprint is answered too, for what is sent is verified here; the
  difference is logged, once for each validator, because label and verdict may differ there.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from perturbnet.attacks import Attack
from perturbnet.errors import AttackError
from perturbnet.miner.calibration import MeasuredCosts, measure_costs
from perturbnet.miner.keepsakes import Keepsakes
from perturbnet.miner.numbers import Answered, MinerCounts
from perturbnet.miner.passes import JointOracle, ModelThread
from perturbnet.miner.search import Search, build_response
from perturbnet.miner.slots import Slots
from perturbnet.rules.classification import Engine
from perturbnet.runtime.clock import Clock
from perturbnet.telemetry import FailureCount, new_registry
from perturbnet.transport import SignedMessage
from perturbnet.wire.messages import Acknowledgement, AttackChallenge, AttackResponse, encode
from perturbnet.wire.units import from_ppb

__all__ = ["MinerService", "build_response"]

ANSWER_RESERVE_S = 1.0  # for signing, the network, and a busy machine
SEARCHES = 24
MOST_WAITING = 40
LOOK_EVERY_S = 0.25
REMEMBERED_TASKS = 256

log = logging.getLogger(__name__)


@dataclass
class MinerService:
    """Answers challenges with one model and one attack. `seed_text` (the hotkey) makes two miners differ."""

    engine: Engine
    oracle: JointOracle
    attack: Attack
    seed_text: str
    clock: Clock
    keepsakes: Keepsakes | None = None
    protocol_fingerprint: str | None = None  # of this node's manifest; None compares with nothing
    answer_reserve_s: float = ANSWER_RESERVE_S
    searches: int = SEARCHES
    costs: MeasuredCosts | None = None
    registry: CollectorRegistry = field(default_factory=lambda: new_registry("miner"))
    _answered: OrderedDict[str, str] = field(default_factory=OrderedDict)
    _strangers: OrderedDict[tuple[str, str], None] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        """Start the model's thread and register the numbers."""
        self.model = ModelThread(self.oracle, self.engine)
        self.slots = Slots(self.searches, MOST_WAITING, self.clock)
        self.counted = MinerCounts(self.registry)
        self._failures = FailureCount(self.registry, "miner")
        self._threads = ThreadPoolExecutor(self.searches, "search")
        gauge = self.counted.gauge
        gauge("searches", "Challenges under search.", lambda: len(self.slots.searching))
        gauge("waiting", "Challenges that wait for a place.", lambda: len(self.slots.waiting))
        gauge("batches", "Batches through the model.", lambda: self.model.passes)
        gauge("shared_batches", "Batches that served several searches.", lambda: self.model.joined)
        gauge(
            "verdict_seconds", "The engine's, at warm-up.", lambda: self.costs.verdict_s if self.costs else 0
        )

    def warm_up(self) -> MeasuredCosts:
        """Measure what a step costs; batch and reserve follow from it. Nothing may be served before."""
        self.costs = costs = measure_costs(self.oracle, self.engine, self.clock)
        self.model.images_per_pass = costs.images_per_pass
        log.info(
            "Warmed up: gradient %.3f s an image alone, %.3f s in batches of %d; verifying %.3f s",
            costs.gradient_s,
            costs.pass_s / costs.images_per_pass,
            costs.images_per_pass,
            costs.verdict_s + costs.answer_s,
        )
        return costs

    async def answer(self, challenge: AttackChallenge, caller: str, received_s: float) -> AttackResponse:
        """Search and answer; never later than the challenge's time-out less `answer_reserve_s`.

        Args:
            challenge: what a permitted validator sent; its image is hostile until decoded.
            caller: the validator's hotkey.
            received_s: when the request arrived, on the clock's monotonic scale.

        """
        due_s = received_s + float(challenge.timeout_seconds) - self.answer_reserve_s
        search = Search(challenge, self.model, self.attack, self.seed_text, self.clock, due_s, self.costs)
        task, left_s = challenge.task_id, search.due_s - self.clock.monotonic_s()
        log.info("Challenge %s from %s: label %r, %.1f s", task, caller[:8], challenge.true_label, left_s)
        if left_s <= 0:
            log.warning(
                "A time-out of %g s leaves no time to search: PERTURB_ANSWER_RESERVE_SECONDS is %g s",
                challenge.timeout_seconds,
                self.answer_reserve_s,
            )
        self._compare(challenge.protocol_fingerprint, caller)
        self._remember(challenge)
        ended = False
        try:
            ended = await self._search(search)
        except asyncio.CancelledError:
            self._report(search, received_s, "cancelled", ended=False)
            raise
        finally:
            search.stop()
        response = search.response()
        self._report(search, received_s, "image" if search.find else "none", ended=ended)
        if self.keepsakes is not None and response.perturbed_image_b64 is not None:
            keeping = asyncio.get_running_loop().run_in_executor(None, self._keep, response)
            keeping.add_done_callback(lambda done: done.exception())
        return response

    async def acknowledged(self, acknowledgement: Acknowledgement, message: SignedMessage) -> None:
        """Keep the validator's word of what became of an answer, and log it."""
        if self.keepsakes is not None:
            await asyncio.to_thread(self.keepsakes.keep_acknowledgement, message)
        self.counted.judged(acknowledgement.reject.value)
        task = self._answered.get(acknowledgement.challenge_id, "unknown task")
        log.info(
            "Validator %s judged %s: %s, score %.4f, leaf %s",
            message.sender[:8],
            task,
            acknowledgement.reject.value,
            from_ppb(acknowledgement.score_ppb),
            acknowledgement.leaf_hash[:16],
        )

    def close(self) -> None:
        """Begin no further search; those that run end at their next question to the model."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.model.close()

    async def _search(self, search: Search) -> bool:
        """Wait for a place, search until the answer is due; False if the attack is still at it."""
        try:
            await self.slots.take(search)
        except AttackError as error:
            search.reason = error.message
            return True
        running = asyncio.get_running_loop().run_in_executor(self._threads, search.run)
        running.add_done_callback(lambda done: self._ended(search, done))
        while not running.done():
            left_s = search.due_s - self.clock.monotonic_s()
            if left_s <= 0:
                return False
            await asyncio.wait([running], timeout=min(left_s, LOOK_EVERY_S))
        return True

    def _ended(self, search: Search, done: asyncio.Future[None]) -> None:
        """A search's thread is over: its place is free."""
        self.slots.free(search)
        error = None if done.cancelled() else done.exception()
        if error is not None:
            self._failures.add(error)
            search.reason = "the attack failed"
            log.error("Task %s: the attack failed", search.challenge.task_id, exc_info=error)

    def _report(self, search: Search, received_s: float, outcome: str, *, ended: bool) -> None:
        """Count and log a challenge."""
        now_s, find = self.clock.monotonic_s(), search.find
        began_s = now_s if search.began_s is None else search.began_s
        answered = Answered(
            task_id=search.challenge.task_id,
            outcome=outcome,
            reason=search.reason,
            linf_u8=find.accepted.linf_u8 if find else 0,
            changed=find.accepted.changed if find else 0,
            values=find.accepted.pixels.size if find else 1,
            margin=find.margin if find else None,
            forward_passes=search.oracle.forward_passes,
            backward_passes=search.oracle.backward_passes,
            waited_s=began_s - received_s,
            searched_s=now_s - began_s,
            left_s=received_s + float(search.challenge.timeout_seconds) - now_s,
            overran=not ended and outcome != "cancelled",
        )
        self.counted.answered(answered)
        log.log(logging.INFO if outcome == "image" else logging.WARNING, "%s", answered.line())

    def _keep(self, response: AttackResponse) -> None:
        if self.keepsakes is not None:
            self.keepsakes.keep_body(encode(response))

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
