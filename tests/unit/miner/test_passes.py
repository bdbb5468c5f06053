"""The model's thread: bounded batches, a fair share, errors to those who asked, and an end."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from perturbnet.classifier.oracle import Floats
from perturbnet.errors import AttackError
from perturbnet.miner.passes import ModelThread, PassClient, SharedEngine, SharedOracle
from perturbnet.wire.images import Pixels
from tests.support.fakes import BlockEngine, texture
from tests.support.miner.worlds import CLEAN, JointOracle

OTHER = texture("other", 60, 50)


def never() -> bool:
    return False


class Held(JointOracle):
    """Its first pass waits, so that questions gather behind it."""

    def __init__(self, engine: BlockEngine) -> None:
        super().__init__(engine)
        self.begun, self.go = threading.Event(), threading.Event()

    def answer_logits(self, batches: Sequence[Pixels]) -> list[Floats]:
        self.begun.set()
        assert self.go.wait(5)
        return super().answer_logits(batches)


@pytest.fixture
def engine() -> BlockEngine:
    return BlockEngine()


@pytest.fixture
def held(engine: BlockEngine) -> Iterator[ModelThread]:
    thread = ModelThread(Held(engine), engine, images_per_pass=4)
    yield thread
    thread.close()


def oracle_of(thread: ModelThread) -> Held:
    assert isinstance(thread.oracle, Held)
    return thread.oracle


def wait_for(thread: ModelThread, questions: int) -> None:
    for _ in range(500):
        if len(thread._waiting) == questions:
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"{len(thread._waiting)} questions wait, not {questions}")


def test_answers_are_those_of_the_oracle_and_the_engine(engine: BlockEngine) -> None:
    thread = ModelThread(JointOracle(engine), engine, images_per_pass=2)
    client = PassClient(1.0, never)
    shared, alone = SharedOracle(thread, client), JointOracle(engine)
    batch = np.stack([CLEAN, CLEAN ^ np.uint8(3), CLEAN ^ np.uint8(9)])
    labels = np.array([0, 1, 3])
    assert np.array_equal(shared.logits(batch), alone.logits(batch))
    for ours, theirs in zip(shared.margin_grad(batch, labels), alone.margin_grad(batch, labels), strict=True):
        assert np.array_equal(ours, theirs)
    assert (shared.forward_passes, shared.backward_passes) == (6, 3)
    judge = SharedEngine(thread, client)
    assert judge.classify([CLEAN, OTHER]) == engine.classify([CLEAN, OTHER])
    assert judge.margin == engine.classify([OTHER])[0].margin
    assert thread.passes == 2 + 2 + 1
    thread.close()


def test_the_one_that_has_had_least_goes_first_and_a_newcomer_starts_level(held: ModelThread) -> None:
    many, few, late = PassClient(9.0, never), PassClient(9.0, never), PassClient(1.0, never)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(held.logits, many, np.stack([CLEAN] * 4))
        assert oracle_of(held).begun.wait(5)
        again = pool.submit(held.logits, few, np.stack([CLEAN] * 8))
        wait_for(held, 2)
        newcomer = pool.submit(held.logits, late, np.stack([OTHER] * 2))
        wait_for(held, 3)
        oracle_of(held).go.set()
        for one in (first, again, newcomer):
            one.result(5)
    assert oracle_of(held).batches == [[4], [2, 2], [4], [2]]  # the earlier deadline; then who had less
    assert held.joined == 1
    assert PassClient(0.0, never).used == 0 < few.used


def test_what_a_stopped_search_asked_is_dropped(held: ModelThread) -> None:
    stopped = threading.Event()
    busy, leaving = PassClient(1.0, never), PassClient(1.0, stopped.is_set)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(held.logits, busy, CLEAN[None])
        assert oracle_of(held).begun.wait(5)
        second = pool.submit(held.logits, leaving, np.stack([CLEAN] * 64))
        wait_for(held, 2)
        stopped.set()
        held.forget(leaving)
        with pytest.raises(AttackError, match="stopped"):
            second.result(5)
        oracle_of(held).go.set()
        first.result(5)
        with pytest.raises(AttackError, match="stopped"):
            held.logits(leaving, CLEAN[None])
    assert oracle_of(held).batches == [[1]]


def test_closing_answers_everybody(engine: BlockEngine) -> None:
    thread = ModelThread(JointOracle(engine), engine)
    thread.close()
    with pytest.raises(AttackError, match="stopped"):
        thread.logits(PassClient(1.0, never), CLEAN[None])


def test_no_image_is_a_fault(engine: BlockEngine) -> None:
    thread = ModelThread(JointOracle(engine), engine)
    with pytest.raises(ValueError, match="no image"):
        thread.logits(PassClient(1.0, never), CLEAN[None][:0])
    thread.close()
