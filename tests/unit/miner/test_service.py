"""The miner's answers: in time, verified, or none and why."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from perturbnet.attacks import AttackResult, AttackTask, Deadline
from perturbnet.attacks.pgd import AscendingPgd
from perturbnet.errors import Reject
from perturbnet.miner.service import REMEMBERED_TASKS, MinerService
from perturbnet.rules.classification import Classification
from perturbnet.rules.verification import Task, verify
from perturbnet.transport import SignedMessage
from perturbnet.wire.images import Pixels, decode_base64, decode_png, encode_base64, encode_png, pixel_digest
from perturbnet.wire.messages import (
    Acknowledgement,
    AttackChallenge,
    AttackResponse,
    encode,
    response_limit_bytes,
)
from tests.support.fakes import MAGENTA, RULES, BlockEngine, VirtualClock, texture
from tests.support.miner.worlds import CLEAN, TIMEOUT_S, JointOracle, Scripted, challenge

RESERVE_S = 0.25


@pytest.fixture
def make() -> Iterator[Callable[..., MinerService]]:
    made: list[MinerService] = []

    def build(**changes: Any) -> MinerService:
        clock = changes.pop("clock", None) or VirtualClock()
        engine = changes.pop("engine", None) or BlockEngine()
        fields: dict[str, Any] = {
            "engine": engine,
            "oracle": JointOracle(engine),
            "attack": AscendingPgd(),
            "seed_text": "hotkey",
            "clock": clock,
            "answer_reserve_s": RESERVE_S,
        }
        made.append(MinerService(**{**fields, **changes}))
        return made[-1]

    yield build
    for service in made:
        service.close()


Make = Callable[..., MinerService]


class SlowEngine(BlockEngine):
    """Every image costs `cost_s`."""

    def __init__(self, clock: VirtualClock, cost_s: float) -> None:
        super().__init__()
        self.clock, self.cost_s = clock, cost_s

    def classify(self, images: Sequence[Pixels]) -> list[Classification]:
        self.clock.advance(self.cost_s * len(images))
        return super().classify(images)


def ask(service: MinerService, message: AttackChallenge, *, late_s: float = 0.0) -> AttackResponse:
    return asyncio.run(service.answer(message, "validator", service.clock.monotonic_s() - late_s))


def image(response: AttackResponse) -> Pixels:
    assert response.perturbed_image_b64 is not None, response.reason
    return decode_png(decode_base64(response.perturbed_image_b64))


def test_what_is_sent_passes_the_verifier(make: Make) -> None:
    message = challenge()
    response = ask(make(), message)
    task = Task(
        task_id=message.task_id,
        challenge_id=message.challenge_id,
        clean=CLEAN,
        true_label=message.true_label,
        epsilon="0.0800",
        rules=RULES,
        max_body_bytes=response_limit_bytes(*CLEAN.shape[:2]),
    )
    verdict = verify(task, encode(response), BlockEngine(), signed_pixels=response.pixels_sha256)
    assert verdict.reject is Reject.OK
    assert verdict.linf_u8 == 1
    assert response.pixels_sha256 == pixel_digest(image(response))


def test_two_hotkeys_send_two_images_and_each_always_its_own(make: Make) -> None:
    digests = [ask(make(seed_text=name), challenge()).pixels_sha256 for name in ("a", "a", "b")]
    assert digests[0] == digests[1] != digests[2]


def test_another_challenge_is_another_search(make: Make) -> None:
    first, second = (ask(make(), challenge(challenge_id=letter * 64)).pixels_sha256 for letter in "ab")
    assert first != second


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_name": "another"}, "asked for model 'another', this miner has 'block-means'"),
        ({"true_label": "unicorn"}, "label is 'unicorn' to the validator, "),
        ({"clean_image_b64": "*"}, "clean image refused: bad_base64"),
        ({"clean_image_b64": encode_base64(b"GIF89a")}, "clean image refused: png_signature"),
        ({"clean_image_b64": encode_base64(encode_png(CLEAN)[:-1])}, "clean image refused: png_chunk"),
        (
            {"clean_image_b64": encode_base64(encode_png(texture("tiny", 8, 40)))},
            "clean image of 40×8 is too small",
        ),
    ],
)
def test_a_task_that_cannot_be_done_is_answered_with_the_reason(
    make: Make, changes: dict[str, Any], reason: str
) -> None:
    attack = Scripted(lambda task, deadline: AttackResult(None, 0, "never"))
    response = ask(make(attack=attack), challenge(**changes))
    assert (response.perturbed_image_b64, response.pixels_sha256) == (None, None)
    assert response.reason is not None
    assert response.reason.startswith(reason)
    assert attack.runs == 0


def test_no_image_is_answered_with_the_attack_s_reason(make: Make) -> None:
    long = Scripted(lambda task, deadline: AttackResult(None, 0, "no\nflip " + "x" * 300))
    response = ask(make(attack=long), challenge())
    assert response.reason == ("noflip " + "x" * 300)[:200]


def test_the_verifier_decides_what_the_attack_may_return(make: Make) -> None:
    verdicts: list[bool] = []

    def act(task: AttackTask, deadline: Deadline) -> AttackResult:
        loud = task.clean ^ np.uint8(0x40)
        magenta = task.clean.copy()
        magenta[0, 0] = MAGENTA
        verdicts.extend(task.accepts(pixels) for pixels in (task.clean, loud, magenta))
        return AttackResult(None, 0, "only asked")

    ask(make(attack=Scripted(act)), challenge())
    assert verdicts == [False, False, False]


def test_the_levels_are_the_challenge_s(make: Make) -> None:
    levels: list[list[int]] = []

    def act(task: AttackTask, deadline: Deadline) -> AttackResult:
        levels.append(list(task.levels))
        return AttackResult(None, 0, "only asked")

    service = make(attack=Scripted(act))
    for epsilon in (0.2, 0.016, 0.0079):
        ask(service, challenge(epsilon=epsilon))
    assert levels == [[1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4], [1, 2]]


# Time.


def test_the_reserve_is_kept_back(make: Make) -> None:
    left: list[float] = []

    def act(task: AttackTask, deadline: Deadline) -> AttackResult:
        left.append(deadline.remaining_s)
        return AttackResult(None, 0, "only asked")

    ask(make(attack=Scripted(act), answer_reserve_s=0.5), challenge(), late_s=0.25)
    assert left == [pytest.approx(TIMEOUT_S - 0.5 - 0.25)]


def test_the_attack_is_told_what_verifying_takes(make: Make) -> None:
    told: list[float] = []

    def act(task: AttackTask, deadline: Deadline) -> AttackResult:
        told.append(task.accept_cost_s)
        return AttackResult(None, 0, "only asked")

    clock = VirtualClock()
    service = make(attack=Scripted(act), clock=clock, engine=SlowEngine(clock, 0.1))
    assert service.warm_up().verdict_s == pytest.approx(0.1)
    ask(service, challenge())
    assert told == [pytest.approx(0.1)]


def test_a_search_that_would_begin_too_late_is_not_begun(make: Make) -> None:
    attack = Scripted(lambda task, deadline: AttackResult(None, 0, "never"))
    engine = BlockEngine()
    response = ask(make(attack=attack, engine=engine), challenge(), late_s=TIMEOUT_S)
    assert response.reason is not None
    assert response.reason.startswith("out of time")
    assert (attack.runs, engine.calls) == (0, [])


def test_a_time_out_no_longer_than_the_reserve_is_named(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    ask(make(answer_reserve_s=TIMEOUT_S), challenge())
    said = "A time-out of {0:g} s leaves no time to search: PERTURB_ANSWER_RESERVE_SECONDS is {0:g} s"
    assert said.format(TIMEOUT_S) in caplog.text
    caplog.clear()
    ask(make(), challenge())
    assert "leaves no time" not in caplog.text


def test_an_answer_comes_in_time_on_a_slow_model(make: Make) -> None:
    clock, engine = VirtualClock(), BlockEngine()
    oracle = JointOracle(engine, clock, cost_s=0.3)
    stubborn = challenge(rules=RULES.model_copy(update={"min_psnr_db": "199"}))
    service = make(engine=engine, oracle=oracle, clock=clock)
    service.warm_up()
    started_s = clock.monotonic_s()
    response = asyncio.run(service.answer(stubborn, "validator", started_s))
    assert response.perturbed_image_b64 is None
    assert clock.monotonic_s() - started_s < TIMEOUT_S


# The log.


SAID = SignedMessage("/Acknowledgement", {"x-bittensor-hotkey": "5Validator"}, b"{}")


def acknowledgement(challenge_id: str) -> Acknowledgement:
    return Acknowledgement(
        challenge_id=challenge_id,
        body_digest=None,
        leaf=41,
        leaf_hash=hashlib.sha256(b"leaf").hexdigest(),
        reject=Reject.OK,
        score_ppb=912_300_000,
    )


def test_an_acknowledgement_is_logged_with_its_task(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    service = make()
    ask(service, challenge())
    asyncio.run(service.acknowledged(acknowledgement("c" * 64), SAID))
    leaf = hashlib.sha256(b"leaf").hexdigest()[:16]
    assert caplog.messages[-1] == f"Validator 5Validat judged 0-3: ok, score 0.9123, leaf {leaf}"
    asyncio.run(service.acknowledged(acknowledgement("d" * 64), SAID))
    assert "judged unknown task" in caplog.messages[-1]


def test_only_so_many_tasks_are_remembered(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    service = make(attack=Scripted(lambda task, deadline: AttackResult(None, 0, "none")))

    async def main() -> None:
        for number in range(REMEMBERED_TASKS + 1):
            await service.answer(challenge(challenge_id=f"{number:064x}"), "v", 0.0)
        await service.acknowledged(acknowledgement(f"{0:064x}"), SAID)
        await service.acknowledged(acknowledgement(f"{1:064x}"), SAID)

    asyncio.run(main())
    assert ["unknown task" in line for line in caplog.messages[-2:]] == [True, False]


def test_another_protocol_fingerprint_is_answered_and_named_once(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    service = make(protocol_fingerprint="a" * 64)
    with caplog.at_level(logging.WARNING):
        responses = [ask(service, challenge()) for _ in range(2)]
    assert all(response.perturbed_image_b64 for response in responses)
    named = [
        record.getMessage() for record in caplog.records if "protocol fingerprint" in record.getMessage()
    ]
    assert len(named) == 1
    assert "a" * 64 in named[0]
    assert "f" * 64 in named[0]
    caplog.clear()
    ask(make(protocol_fingerprint="f" * 64), challenge())
    assert "protocol fingerprint" not in caplog.text
