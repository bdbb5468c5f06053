"""Several challenges at one miner: none late, memory bounded, cancelled work really stops."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from perturbnet.attacks import AttackResult, AttackTask, Deadline, Oracle
from perturbnet.miner.service import MOST_WAITING, MinerService
from perturbnet.runtime.clock import SystemClock
from perturbnet.wire.images import Pixels, decode_base64, decode_png
from perturbnet.wire.messages import AttackResponse
from tests.support.fakes import BlockEngine, flip
from tests.support.miner.worlds import CLEAN, Gate, JointOracle, Stubborn, challenge, patient

TIMEOUT_S = 1.5
RESERVE_S = 0.25
FLIPPED = flip(BlockEngine(), CLEAN)
Make = Callable[..., MinerService]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[MinerService] = []

    def build(**changes: Any) -> MinerService:
        engine = BlockEngine()
        fields: dict[str, Any] = {
            "engine": engine,
            "oracle": JointOracle(engine),
            "seed_text": "hotkey",
            "clock": SystemClock(),
            "answer_reserve_s": RESERVE_S,
        }
        made.append(MinerService(**{**fields, **changes}))
        return made[-1]

    yield build
    for service in made:
        service.close()


def name(number: int) -> str:
    return f"{number:064x}"


def sent(response: AttackResponse) -> Pixels:
    assert response.perturbed_image_b64 is not None, response.reason
    return decode_png(decode_base64(response.perturbed_image_b64))


def value(service: MinerService, metric: str, **labels: str) -> float:
    found = service.registry.get_sample_value(f"perturb_miner_{metric}", labels)
    assert found is not None, metric
    return found


def test_an_attack_that_ignores_its_deadline_is_answered_for_in_time_and_ends(make: Make) -> None:
    attack = Stubborn(FLIPPED)
    service = make(attack=attack)
    started_s = time.monotonic()
    response = asyncio.run(service.answer(patient(TIMEOUT_S), "v", started_s))
    assert time.monotonic() - started_s < TIMEOUT_S
    assert np.array_equal(sent(response), FLIPPED)
    assert attack.ended.wait(1)
    assert value(service, "late_total") == 0
    assert value(service, "answers_total", outcome="image") == 1


def test_twenty_challenges_at_once_none_late_few_under_search(make: Make) -> None:
    running, most, lock = 0, 0, threading.Lock()

    class Counting(Stubborn):
        def run(self, oracle: Oracle, task: AttackTask, deadline: Deadline) -> AttackResult:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            try:
                assert task.accepts(FLIPPED)
                while not deadline.passed:
                    oracle.margin_grad(task.clean[None], np.array([task.label_index]))
                return AttackResult(None, 0, "deadline")
            finally:
                with lock:
                    running -= 1

    service = make(attack=Counting(), searches=4)
    service.model.images_per_pass = 8

    async def ask(number: int, started_s: float) -> tuple[AttackResponse, float]:
        message = patient(TIMEOUT_S, challenge_id=name(number))
        response = await service.answer(message, "v", started_s)
        return response, time.monotonic() - started_s

    async def main() -> list[tuple[AttackResponse, float]]:
        started_s = time.monotonic()
        answers = await asyncio.gather(*(ask(number, started_s) for number in range(20)))
        for _ in range(200):  # the last threads end at their next question
            await asyncio.sleep(0.01 if service.slots.searching else 0)
        return answers

    answers = asyncio.run(main())
    assert max(taken_s for _, taken_s in answers) < TIMEOUT_S
    assert [np.array_equal(sent(response), FLIPPED) for response, _ in answers] == [True] * 20
    assert {response.challenge_id for response, _ in answers} == {name(number) for number in range(20)}
    assert most <= 4
    assert service.model.joined > 0
    assert not service.slots.searching
    assert not service.slots.waiting


def test_the_model_serves_several_searches_in_one_batch(make: Make) -> None:
    together = threading.Barrier(4)

    class Asking:
        name = "asking"

        def run(self, oracle: Oracle, task: AttackTask, deadline: Deadline) -> AttackResult:
            for _ in range(20):
                together.wait(5)
                oracle.logits(np.stack([task.clean] * 2))
            return AttackResult(None, 0, "asked")

    service = make(attack=Asking(), searches=4)
    service.model.images_per_pass = 6
    assert isinstance(service.oracle, JointOracle)

    async def main() -> None:
        now_s = time.monotonic()
        await asyncio.gather(
            *(service.answer(patient(5, challenge_id=name(number)), "v", now_s) for number in range(4))
        )

    asyncio.run(main())
    assert max(sum(batch) for batch in service.oracle.batches) <= 6
    assert any(len(batch) > 1 for batch in service.oracle.batches)
    assert sum(map(sum, service.oracle.batches)) == 4 * 20 * 2


def test_a_cancelled_request_ends_its_search(make: Make) -> None:
    attack = Stubborn()
    service = make(attack=attack)

    async def main() -> None:
        asking = asyncio.create_task(service.answer(patient(600), "v", time.monotonic()))
        assert await asyncio.to_thread(attack.busy.wait, 5)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await asyncio.to_thread(attack.ended.wait, 1)
        asked = attack.asked
        await asyncio.sleep(0.05)
        assert attack.asked == asked
        assert not service.slots.searching

    asyncio.run(main())
    assert value(service, "answers_total", outcome="cancelled") == 1


def test_a_request_that_is_cancelled_while_it_waits_is_never_searched(make: Make) -> None:
    gate = Gate()
    service = make(attack=gate, searches=1)

    async def main() -> None:
        now_s = time.monotonic()
        first = asyncio.create_task(service.answer(patient(60), "v", now_s))
        assert await asyncio.to_thread(gate.begun.wait, 10)
        second = asyncio.create_task(service.answer(patient(60, challenge_id="d" * 64), "v", now_s))
        await asyncio.sleep(0.01)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        gate.open.set()
        await first
        third = await service.answer(patient(60, challenge_id="e" * 64), "v", now_s)
        assert third.reason == "let go"

    asyncio.run(main())
    assert gate.runs == 2


def test_an_attack_that_hangs_keeps_its_place_and_others_are_answered(make: Make) -> None:
    gate = Gate()
    service = make(attack=gate, searches=1)

    async def main() -> list[AttackResponse]:
        started_s = time.monotonic()
        hanging = await service.answer(patient(0.5), "v", started_s)
        assert time.monotonic() - started_s < 0.5
        assert len(service.slots.searching) == 1
        second_s = time.monotonic()
        waiting = await service.answer(patient(0.5, challenge_id="d" * 64), "v", second_s)
        assert time.monotonic() - second_s < 0.5
        gate.open.set()
        third = await service.answer(patient(0.5), "v", time.monotonic())
        return [hanging, waiting, third]

    reasons = [response.reason or "" for response in asyncio.run(main())]
    assert reasons[0].startswith("out of time")
    assert reasons[1].startswith("out of time before the search began: too many challenges")
    assert reasons[2] == "let go"
    assert gate.most == 1


def test_more_than_can_wait_are_told_at_once(make: Make) -> None:
    gate = Gate()
    service = make(attack=gate, searches=1)

    async def main() -> AttackResponse:
        now_s = time.monotonic()
        asked = [
            asyncio.create_task(service.answer(patient(60, challenge_id=name(number)), "v", now_s))
            for number in range(1 + MOST_WAITING)
        ]
        await asyncio.sleep(0.01)
        refused = await service.answer(patient(60, challenge_id="e" * 64), "v", now_s)
        for one in asked:
            one.cancel()
        gate.open.set()
        await asyncio.gather(*asked, return_exceptions=True)
        return refused

    assert asyncio.run(main()).reason == f"busy: {MOST_WAITING} challenges wait already"


def test_an_attack_that_fails_is_answered_for_with_what_it_found(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        name = "broken"

        def run(self, oracle: Oracle, task: AttackTask, deadline: Deadline) -> AttackResult:
            assert task.accepts(FLIPPED)
            raise ZeroDivisionError

    service = make(attack=Broken())
    response = asyncio.run(service.answer(challenge(), "v", time.monotonic()))
    assert np.array_equal(sent(response), FLIPPED)
    assert value(service, "failures_total", error="ZeroDivisionError") == 1
    assert "the attack failed" in caplog.text


def test_a_failing_model_is_told_to_the_search_that_asked(make: Make) -> None:
    class Failing(JointOracle):
        def answer_margins(self, questions: Any) -> Any:
            raise RuntimeError("no memory")

    engine = BlockEngine()
    attack = Stubborn()
    service = make(engine=engine, oracle=Failing(engine), attack=attack)
    response = asyncio.run(service.answer(challenge(), "v", time.monotonic()))
    assert response.reason == "the attack failed"
    assert value(service, "failures_total", error="RuntimeError") == 1
