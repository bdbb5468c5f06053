"""A round of 100 answers: from the last answer to the last verdict, and where the time goes.

Profile `reference`, two readers and the model's thread on whatever cores there are; the answers differ, pass
every cheap check and reach the model, which is the dearest round there is. The peer is the same work begun
only after the last answer and done on one thread, as the auditor does it.

`python -m benchmarks.round` prints a round in parts: all answers in one instant, answers spread over
SPREAD_S, and each stage alone.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import bittensor_core as sp_core
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.harness import Case, Work
from benchmarks.ledger import receipts
from benchmarks.material import RULES, scratch_folder
from perturbnet.classifier import open_engine
from perturbnet.datasets.reference import load_photographs
from perturbnet.datasets.rendering import render
from perturbnet.ledger import ArrivalRow, BlobStore, LedgerStore
from perturbnet.rounds.judging import Evidence, Judges, Judging
from perturbnet.rounds.receipts import judge_answers, read_answer
from perturbnet.rules.classification import Classification, Engine
from perturbnet.rules.verification import NOT_REACHED, Image, Task, Verification
from perturbnet.wire import keys
from perturbnet.wire.deltas import encode_delta
from perturbnet.wire.images import encode_base64, encode_png, pixel_digest
from perturbnet.wire.messages import (
    RESPONSE_DOMAIN,
    AttackResponse,
    encode,
    parse,
    response_limit_bytes,
    response_payload,
)

ANSWERS = 100
SPREAD_S = 10.0
CHANGED_SHARE = 0.1
CHALLENGE_ID = "c" * 64


@dataclass(frozen=True)
class Round:
    """A challenge, the answers to it on a disk, and the judge."""

    task: Task
    bodies: list[bytes]
    engine: Engine
    clean: Classification
    bodies_kept: BlobStore
    judges: Judges

    def rows(self) -> list[ArrivalRow]:
        """The answers, stored."""
        return [self._row(uid, body) for uid, body in enumerate(self.bodies)]

    def _row(self, uid: int, body: bytes) -> ArrivalRow:
        key = sp_core.Keypair.create_from_seed((uid + 1).to_bytes(32, "big"), sp_core.CRYPTO_SR25519)
        digest = self.bodies_kept.put(body)
        payload = response_payload(
            netuid=self.task.netuid,
            validator=self.task.validator,
            challenge_id=self.task.challenge_id,
            nonce="7",
            body_sha256=digest,
            pixels_sha256=parse(AttackResponse, body, max_bytes=len(body)).pixels_sha256,
        )
        signature = "0x" + keys.sign(key, RESPONSE_DOMAIN, payload).hex()
        return ArrivalRow(0, uid, key.ss58_address, "ok", digest, "7", signature, 900)

    def judging(self) -> Judging:
        """A round of the validator with nothing in it, and an empty folder for what answers changed."""
        evidence = Evidence(self.bodies_kept, BlobStore(scratch_folder("round")))
        return Judging(self.judges, self.task, self.engine, evidence, clean=self.clean)


def cases() -> Sequence[Case]:
    """All answers in one instant."""
    return (
        Case(f"{ANSWERS} answers at once, judged", _as_they_come, _afterwards, "after the last, one thread"),
    )


def make_round() -> Round:
    """The reference profile's first test image, and the answers to it, on the disk."""
    folder = scratch_folder("round")
    engine = open_engine("reference", cache_dir=folder, device="cpu")
    pixels = np.ascontiguousarray(render("test", 0, load_photographs())[0])
    clean = engine.classify([pixels])[0]
    limit = response_limit_bytes(*pixels.shape[:2])
    task = Task("0-0", CHALLENGE_ID, pixels, clean.text, "0.08", RULES, limit, 1, "a validator")
    bodies = [_answer(task, number) for number in range(ANSWERS)]
    return Round(task, bodies, engine, clean, BlobStore(folder / "bodies"), Judges())


def _answer(task: Task, number: int) -> bytes:
    """The clean image with a tenth of its values moved by one level: passes every gate, fools nobody."""
    chance = np.random.default_rng(number)
    moved = task.clean.astype(np.int16)
    moved += chance.choice(
        (-1, 0, 1), moved.shape, p=(CHANGED_SHARE / 2, 1 - CHANGED_SHARE, CHANGED_SHARE / 2)
    )
    pixels = np.clip(moved, 0, 255).astype(np.uint8)
    return encode(
        AttackResponse(
            task_id=task.task_id,
            challenge_id=task.challenge_id,
            perturbed_image_b64=encode_base64(encode_png(pixels)),
            pixels_sha256=pixel_digest(pixels),
        )
    )


def _as_they_come() -> Work:
    made = make_round()
    rows = made.rows()
    return lambda: asyncio.run(_judge(made, rows, 0.0))


def _afterwards() -> Work:
    made = make_round()
    rows = made.rows()

    def run() -> None:
        deltas = BlobStore(scratch_folder("round"))
        verification = Verification(made.task, made.engine, made.clean)
        answers = [(row, read_answer(verification, row, made.bodies_kept.get(row.body))) for row in rows]
        for item in judge_answers(verification, answers, duplicates="record"):
            if item.pixels is not None:
                deltas.put(encode_delta(made.task.clean, item.pixels))

    return run


async def _judge(made: Round, rows: Sequence[ArrivalRow], spread_s: float) -> float:
    """Offer the answers evenly over `spread_s`; seconds from the last of them to the last verdict."""
    begin_s = time.perf_counter()
    async with made.judging() as judging:
        for number, row in enumerate(rows, start=1):
            due_s = begin_s + spread_s * number / len(rows)
            if due_s > time.perf_counter():
                await asyncio.sleep(due_s - time.perf_counter())
            judging.offer(row)
        last_s = time.perf_counter()
        judged = await judging.finish(rows, duplicates="record")
        ended_s = time.perf_counter()
    reached = sum(item.verdict.index_after != NOT_REACHED for item in judged)
    if reached != len(rows):
        raise AssertionError(f"{reached} of {len(rows)} answers reached the model")
    return ended_s - last_s


def _stages(made: Round) -> Iterator[tuple[str, Callable[[int], object]]]:
    """What is done for one answer, in order; each stage takes up the results of the one before."""
    rows = made.rows()
    bodies, store, deltas = (
        BlobStore(scratch_folder("round")),
        LedgerStore(scratch_folder("round") / "ledger.sqlite"),
        BlobStore(scratch_folder("round")),
    )
    store.append(receipts(0, 1))  # something at the position that the answers name
    verification = Verification(made.task, made.engine, made.clean)
    images: dict[int, Image] = {}
    changes: dict[int, bytes] = {}

    def read(number: int) -> None:
        found = read_answer(verification, rows[number], made.bodies[number])
        if isinstance(found, Image):  # a refusal is a missing key in the next stage
            images[number] = found

    def encode_change(number: int) -> None:
        changes[number] = encode_delta(made.task.clean, images[number].pixels)

    def in_company(number: int) -> None:
        if number % made.engine.together == 0:
            last = min(number + made.engine.together, ANSWERS)
            verification.label([images[n] for n in range(number, last)])

    yield "store the body (before it is judged)", lambda number: bodies.put(made.bodies[number])
    yield "note it in the ledger (before it is judged)", lambda number: store.note_arrival(rows[number])
    yield "read the body back", lambda number: bodies.get(rows[number].body)
    yield "checks 1 to 3: message, signature, base64, PNG", read
    yield "checks 4 to 6: L-inf, SSIM, PSNR", lambda number: verification.measure(images[number])
    yield "encode the change", encode_change
    yield "store the change", lambda number: deltas.put(changes[number])
    yield "checks 7 and 8: the model, one by one", lambda number: verification.label([images[number]])
    yield "checks 7 and 8: the model, as many as share a pass", in_company
    store.close()


def _timed(stage: Callable[[int], object]) -> tuple[float, float]:
    """Wall and CPU seconds for all answers."""
    begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
    for number in range(ANSWERS):
        stage(number)
    return time.perf_counter() - begin_s, time.process_time() - begin_cpu_s


def _print_round(repeats: int) -> None:
    """One table: the round as a whole, then its stages one after another on one thread."""
    made = make_round()
    rows = made.rows()
    height, width, _ = made.task.clean.shape
    size_kb = statistics.mean(map(len, made.bodies)) / 1e3
    title = f"{ANSWERS} answers of {size_kb:.0f} kB, {width} by {height} pixels; median of {repeats}"
    table = Table(title=title, title_justify="left")
    table.add_column("from the last answer to the last verdict")
    table.add_column("seconds", justify="right")
    table.add_column("CPU s", justify="right")
    for name, spread_s in (("all in one instant", 0.0), (f"spread over {SPREAD_S:.0f} s", SPREAD_S)):
        begin_s = time.process_time()
        times_s = [asyncio.run(_judge(made, rows, spread_s)) for _ in range(repeats)]
        cpu_s = (time.process_time() - begin_s) / repeats
        table.add_row(name, f"{statistics.median(times_s):.3f}", f"{cpu_s:.3f}")
    table.add_section()
    for name, stage in _stages(made):
        wall_s, cpu_s = _timed(stage)
        table.add_row(f"alone: {name}", f"{wall_s:.3f}", f"{cpu_s:.3f}")
    Console().print(table)


if __name__ == "__main__":
    _print_round(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
