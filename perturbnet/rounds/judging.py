"""Judging a round while it arrives: each answer is verified as soon as it is stored, the last one soon after.

Rules
- An answer comes as the row that names its stored body, and the body is read back from the disk. So what
  waits costs a few hundred bytes, and a round that a crash cut short is judged by the code of every day.
- Cheap checks first: 1 to 6 on a few threads, by arrival; 7 and 8 on one thread for those that passed, in one
  call as many as share a pass of the model (`Engine.together`).
- Identical pixels are measured, stored and classified once; the clean image too, unless its word is known.
- Only so many images are held at a time (`room_for`); the others wait on the disk. What an answer changed is
  stored before its verdict is known, and the round's receipts name it later.
- A verdict depends on the stored bytes alone, so neither order nor threads can be seen in it. What fails (a
  full disk, the model) ends the round in `finish`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from types import TracebackType
from typing import Self, TypeVar

from perturbnet.errors import ArtifactError, Reject
from perturbnet.ledger import ArrivalRow, BlobStore
from perturbnet.rounds.receipts import Judged, read_answer, score_round
from perturbnet.rules.classification import Classification, Engine
from perturbnet.rules.verification import Image, Task, Verdict, Verification
from perturbnet.wire.deltas import encode_delta
from perturbnet.wire.images import Pixels

MOST_READERS = 4  # threads for checks 1 to 6; numpy and zlib leave the interpreter's lock
HELD_BYTES = 64 << 20  # of pixels that passed the cheap checks and wait for the model
MOST_HELD = 64

T = TypeVar("T")

log = logging.getLogger(__name__)


class Judges:
    """The threads, kept from round to round: torch keeps buffers for every thread that ever called it."""

    def __init__(self) -> None:
        """Start no thread yet; those that were started end with the process or with this object."""
        self.cheap = concurrent.futures.ThreadPoolExecutor(min(MOST_READERS, os.cpu_count() or 1), "judge")
        self.model = concurrent.futures.ThreadPoolExecutor(1, "model")

    async def ask_model(self, work: Callable[[], T]) -> T:
        """Do on the model's thread what calls the model outside of a round's answers."""
        return await _result_of(*_submit(self.model, work))


@dataclass(frozen=True)
class Evidence:
    """Where answers are read from and their changes are written to."""

    bodies: BlobStore
    deltas: BlobStore


class Judging:
    """One round's answers on their way to verdicts. Use as an async context: leaving it ends all its work."""

    def __init__(
        self,
        judges: Judges,
        task: Task,
        engine: Engine,
        evidence: Evidence,
        *,
        clean: Classification | None = None,
    ) -> None:
        """Judge answers to `task`; `clean` is the clean image's classification where it is known already."""
        self._judges, self._evidence = judges, evidence
        self._verification = Verification(task, engine, clean)
        self._room = asyncio.Semaphore(room_for(task.clean, engine.together))
        self._answers: dict[int, asyncio.Task[Judged | None]] = {}
        self._images: dict[str, asyncio.Task[tuple[Verdict, str]]] = {}  # with the digest of its delta
        self._unlabelled: dict[str, Image] = {}
        self._labelled: dict[str, Classification] = {}
        self._model_is_free = asyncio.Lock()
        self._running: set[concurrent.futures.Future[None]] = set()

    async def __aenter__(self) -> Self:
        """Take answers from now on."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """After an error drop what is not finished and wait for the threads: nothing is written later."""
        tasks = [*self._answers.values(), *self._images.values()]
        for task in tasks:
            task.cancel()
        if kind is not None:
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(concurrent.futures.wait, set(self._running))

    def offer(self, row: ArrivalRow) -> None:
        """Begin to judge an answer that is stored; one that was offered before is not judged again."""
        if row.uid not in self._answers:
            self._answers[row.uid] = asyncio.create_task(self._judge(row))

    async def finish(self, rows: Sequence[ArrivalRow], *, duplicates: str) -> list[Judged]:
        """Return verdicts and scores of the round, in the order of `rows`; a lost body's row is left out.

        Raises:
            LedgerError: a change could not be stored.
            ModelError: the model could not answer.

        """
        for row in rows:
            self.offer(row)
        if rows:
            await asyncio.wait(self._answers.values(), return_when=asyncio.FIRST_EXCEPTION)
        for task in self._answers.values():
            if task.done():
                task.result()  # raises what ended the round
        found = [self._answers[row.uid].result() for row in rows]
        judged = [item for item in found if item is not None]
        return score_round(self._verification.task, judged, duplicates=duplicates)

    async def _judge(self, row: ArrivalRow) -> Judged | None:
        """Checks 1 to 3 when there is room, then what everyone earns who sent the same image."""
        await self._room.acquire()
        keeps_room = False
        try:
            read = await self._run(self._judges.cheap, lambda: self._read(row))
            if not isinstance(read, Image):
                return None if read is None else Judged(row, read)
            if read.digest not in self._images:
                self._images[read.digest] = asyncio.create_task(self._judge_image(read))
                keeps_room = True  # until its verdict
            image, signed_pixels = self._images[read.digest], read.signed_pixels
            del read  # the pixels of one who sent the same image are not held any longer
        finally:
            if not keeps_room:
                self._room.release()
        verdict, delta = await asyncio.shield(image)
        return Judged(row, replace(verdict, signed_pixels=signed_pixels), delta=delta)

    async def _judge_image(self, image: Image) -> tuple[Verdict, str]:
        """Checks 4 to 8 for everyone who sent this image, and its stored change; then its room is free."""
        try:
            measured, delta = await self._run(self._judges.cheap, lambda: self._measure(image))
            if measured.reject is not Reject.OK:
                return measured, delta
            return self._verification.judge(measured, await self._label(image)), delta
        finally:
            self._room.release()

    def _read(self, row: ArrivalRow) -> Image | Verdict | None:
        """Checks 1 to 3 on the stored body; None when it cannot be read back."""
        try:
            body = self._evidence.bodies.get(row.body) if row.body else b""
        except ArtifactError as error:
            log.error("The answer of uid %d is lost: %s", row.uid, error.message)
            return None
        return read_answer(self._verification, row, body)

    def _measure(self, image: Image) -> tuple[Verdict, str]:
        """Checks 4 to 6, and the change stored durably before a receipt names it."""
        measured = self._verification.measure(image)
        return measured, self._evidence.deltas.put(encode_delta(self._verification.task.clean, image.pixels))

    async def _label(self, image: Image) -> Classification:
        """The model's answer to this image; the lock holder runs the batch of all that wait."""
        self._unlabelled[image.digest] = image
        async with self._model_is_free:
            if image.digest in self._unlabelled:
                await self._label_batch()
        return self._labelled.pop(image.digest)

    async def _label_batch(self) -> None:
        """Classify the oldest images that wait, as many as share a pass."""
        batch = dict(islice(self._unlabelled.items(), self._verification.engine.together))
        images = list(batch.values())
        answers = await self._run(self._judges.model, lambda: self._verification.label(images))
        for digest, answer in zip(batch, answers, strict=True):
            del self._unlabelled[digest]
            self._labelled[digest] = answer

    async def _run(self, pool: concurrent.futures.Executor, work: Callable[[], T]) -> T:
        future, found = _submit(pool, work)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        return await _result_of(future, found)


def _submit(
    pool: concurrent.futures.Executor, work: Callable[[], T]
) -> tuple[concurrent.futures.Future[None], list[T]]:
    """Begin the work; its result goes into the list, not the future.

    asyncio ties a pool's future to itself (its callbacks are kept and name it), so what it holds lives until
    the collector comes by: here images, of many rounds.
    """
    found: list[T] = []
    return pool.submit(lambda: found.append(work())), found


async def _result_of(future: concurrent.futures.Future[None], found: list[T]) -> T:
    await asyncio.wrap_future(future)
    return found[0]


def room_for(clean: Pixels, together: int) -> int:
    """How many answers to this image may be held as pixels: by bytes, and never fewer than keep all busy."""
    return max(together + MOST_READERS, min(MOST_HELD, HELD_BYTES // clean.nbytes))
