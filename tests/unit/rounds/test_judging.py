"""A round judged while it arrives: the verdicts of all at once, early, in bounded memory, or a named end."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perturbnet.errors import LedgerError, ModelError, Reject
from perturbnet.ledger import ArrivalRow, BlobStore
from perturbnet.rounds import judging as judging_module
from perturbnet.rounds.judging import Evidence, Judges, Judging, room_for
from perturbnet.rounds.receipts import judge_answers, read_answer
from perturbnet.rules.classification import Classification
from perturbnet.rules.verification import Task, Verification
from perturbnet.wire.images import Pixels
from tests.support.fakes import NETUID, RULES, BlockEngine, flip, keypair, response_body, sign_answer, texture

pytestmark = pytest.mark.anyio
CLEAN = texture("judging")
LABEL = BlockEngine().classify([CLEAN])[0]
TASK = Task("0-1", "c" * 64, CLEAN, LABEL.text, "0.08", RULES, 10**6, NETUID, keypair(1).ss58_address)
WAIT_S = 10.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Bench:
    """Answers on a disk, and a judge that can be held up: it waits for `open` before each call."""

    folder: Path
    engine: BlockEngine = field(default_factory=BlockEngine)
    bodies: dict[int, bytes] = field(default_factory=dict)
    open: threading.Event = field(default_factory=threading.Event)
    reads: int = 0

    def __post_init__(self) -> None:
        self.evidence = Evidence(BlobStore(self.folder / "bodies"), BlobStore(self.folder / "deltas"))
        get, classify = self.evidence.bodies.get, self.engine.classify

        def counted(digest: str) -> bytes:
            self.reads += 1
            return get(digest)

        def gated(images: Sequence[Pixels]) -> list[Classification]:
            assert self.open.wait(WAIT_S)
            return classify(images)

        self.evidence.bodies.get = counted  # type: ignore[method-assign]
        self.engine.classify = gated  # type: ignore[method-assign]

    def note(self, uid: int, body: bytes) -> ArrivalRow:
        self.bodies[uid] = body
        key, digest = keypair(uid + 1), self.evidence.bodies.put(body)
        signed = sign_answer(uid, body, TASK.challenge_id, nonce="7")
        return ArrivalRow(4, uid, key.ss58_address, "ok", digest, "7", signed, 900)

    def judging(
        self, *, together: int = 1, task: Task = TASK, clean: Classification | None = LABEL
    ) -> Judging:
        self.engine.together = together
        return Judging(Judges(), task, self.engine, self.evidence, clean=clean)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def open_bench(bench: Bench) -> Bench:
    bench.open.set()
    return bench


def body(pixels: Pixels) -> bytes:
    return response_body(TASK.task_id, TASK.challenge_id, pixels)


def variants(count: int) -> Iterator[Pixels]:
    """Different images that all fool the judge."""
    fooling = flip(BlockEngine(), CLEAN)
    for number in range(count):
        pixels = fooling.copy()
        pixels[number // 64, number % 64] = CLEAN[number // 64, number % 64]
        yield pixels


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - set by a thread
            await asyncio.sleep(0.005)


async def test_order_and_threads_cannot_be_seen(open_bench: Bench) -> None:
    bodies = [body(pixels) for pixels in variants(6)] * 2 + [body(CLEAN), b"{", b""]
    random.Random(3).shuffle(bodies)
    rows = [open_bench.note(uid, data) for uid, data in enumerate(bodies)]
    rows.append(replace(rows[0], uid=99, body="", reject=Reject.TIMEOUT.value))
    async with open_bench.judging() as judging:
        for row in reversed(rows):
            judging.offer(row)
        found = await judging.finish(rows, duplicates="split")
    plain = Verification(TASK, BlockEngine())
    answers = [(row, read_answer(plain, row, open_bench.bodies.get(row.uid, b""))) for row in rows]
    expected = judge_answers(plain, answers, duplicates="split")
    assert [(item.arrival, item.verdict, item.score_ppb) for item in found] == [
        (item.arrival, item.verdict, item.score_ppb) for item in expected
    ]
    assert sum(item.score_ppb > 0 for item in found) == 12


async def test_what_an_answer_changed_is_stored_whatever_the_verdict(open_bench: Bench) -> None:
    rows = [open_bench.note(1, body(CLEAN)), open_bench.note(2, b"{")]
    async with open_bench.judging() as judging:
        copied, broken = await judging.finish(rows, duplicates="record")
    assert open_bench.evidence.deltas.path(copied.delta).is_file()
    assert copied.verdict.reject is Reject.LINF_LOW
    assert broken.delta == ""


async def test_verdicts_begin_while_others_still_arrive(open_bench: Bench) -> None:
    async with open_bench.judging() as judging:
        judging.offer(open_bench.note(1, body(flip(BlockEngine(), CLEAN))))
        await until(lambda: open_bench.engine.calls == [1])


async def test_cheap_checks_do_not_wait_for_the_model(bench: Bench) -> None:
    async with bench.judging() as judging:
        rows = [bench.note(uid, body(pixels)) for uid, pixels in enumerate(variants(3))]
        rows += [bench.note(uid, body(CLEAN)) for uid in range(3, 9)]
        for row in rows:
            judging.offer(row)
        await until(lambda: bench.reads == 9)
        assert bench.engine.calls == []
        bench.open.set()
        assert len(await judging.finish(rows, duplicates="record")) == 9


async def test_no_more_images_are_held_than_there_is_room_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging_module, "HELD_BYTES", 0)
    room = room_for(CLEAN, 1)
    rows = [bench.note(uid, body(pixels)) for uid, pixels in enumerate(variants(4 * room))]
    async with bench.judging() as judging:
        for row in rows:
            judging.offer(row)
        await until(lambda: bench.reads == room)
        await asyncio.sleep(0.1)
        assert bench.reads == room
        bench.open.set()
        found = await judging.finish(rows, duplicates="record")
    assert [item.verdict.reject for item in found] == [Reject.OK] * len(rows)


def test_room_is_counted_in_bytes_and_never_too_small_for_a_batch() -> None:
    small, large = np.zeros((100, 100, 3), np.uint8), np.zeros((4096, 4096, 3), np.uint8)
    assert room_for(small, 1) == judging_module.MOST_HELD
    assert room_for(large, 1) == 1 + judging_module.MOST_READERS
    assert room_for(large, 16) == 16 + judging_module.MOST_READERS


async def test_copies_share_one_verdict_and_hold_no_room(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging_module, "HELD_BYTES", 0)
    data = body(flip(BlockEngine(), CLEAN))
    rows = [bench.note(uid, data) for uid in range(40)]
    async with bench.judging() as judging:
        for row in rows:
            judging.offer(row)
        await until(lambda: bench.reads == 40)
        bench.open.set()
        found = await judging.finish(rows, duplicates="record")
    assert bench.engine.calls == [1]
    assert len({item.delta for item in found}) == 1


async def test_a_batch_takes_along_who_waits_and_the_clean_image_once(bench: Bench) -> None:
    rows = [bench.note(uid, body(pixels)) for uid, pixels in enumerate(variants(9))]
    async with bench.judging(together=4, clean=None) as judging:
        for row in rows:
            judging.offer(row)
        await until(lambda: len(judging._unlabelled) == 9)
        bench.open.set()
        found = await judging.finish(rows, duplicates="record")
    assert bench.engine.calls == [1 + 1, 4, 4]  # who comes first does not wait for company
    assert {item.verdict.label_before for item in found} == {LABEL.text}


async def test_nothing_that_passes_asks_for_no_model(open_bench: Bench) -> None:
    rows = [open_bench.note(1, body(CLEAN)), open_bench.note(2, b"{")]
    async with open_bench.judging(clean=None) as judging:
        assert len(await judging.finish(rows, duplicates="record")) == 2
        assert await judging.finish([], duplicates="record") == []
    assert open_bench.engine.calls == []


@pytest.mark.parametrize("error", [LedgerError("the disk is full"), ModelError("no device")])
async def test_what_fails_ends_the_round_by_its_name(open_bench: Bench, error: Exception) -> None:
    def fail(*_: Any) -> Any:
        raise error

    broken, name = (
        (open_bench.evidence.deltas, "put")
        if isinstance(error, LedgerError)
        else (open_bench.engine, "classify")
    )
    setattr(broken, name, fail)
    rows = [open_bench.note(uid, body(pixels)) for uid, pixels in enumerate(variants(5))]
    with pytest.raises(type(error), match=str(error)):
        async with open_bench.judging() as judging:
            await judging.finish(rows, duplicates="record")


async def test_leaving_early_waits_for_the_threads_and_writes_nothing_later(bench: Bench) -> None:
    judging = bench.judging()

    async def end_badly() -> None:
        async with judging:
            for uid, pixels in enumerate(variants(5)):
                judging.offer(bench.note(uid, body(pixels)))
            await until(lambda: len(judging._unlabelled) == 5)
            threading.Timer(0.2, bench.open.set).start()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await end_badly()
    assert bench.open.is_set()
    assert not judging._running
    assert all(task.done() for task in judging._answers.values())


async def test_what_a_thread_returns_is_gone_without_the_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        pixels = await Judges().ask_model(CLEAN.copy)
        alive = weakref.ref(pixels)
        del pixels
        await until(lambda: alive() is None)  # the thread lets go of its work just after the result is there
    finally:
        gc.enable()
