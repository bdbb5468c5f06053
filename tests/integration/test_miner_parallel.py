"""Twenty validators ask one miner in the same moment, with the real model over real HTTP: none is late.

Half of them hang up after three seconds in the second round: the model rests soon after the others are done.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

import pytest
from bittensor import sp_core

from perturbnet.attack_comparison.trials import draw_challenges, open_bench_source
from perturbnet.attacks import open_attack
from perturbnet.classifier import open_engine, open_oracle
from perturbnet.miner.service import MinerService
from perturbnet.rounds.challenges import Challenge
from perturbnet.rules.classification import Engine
from perturbnet.rules.verification import Task, verify
from perturbnet.runtime.clock import SystemClock
from perturbnet.transport import AnyHotkey, Handlers, NonceStore, Server
from perturbnet.wire.images import encode_base64, encode_png
from perturbnet.wire.messages import AttackChallenge, encode, response_limit_bytes
from tests.support.fakes import RULES
from tests.support.transport.peers import MINER, NETUID, signed_request

TIMEOUT_S = 20.0
ASKING = 20
MOST_GROWTH_MIB = 600.0
QUIET_S = 10.0


def resident_mib() -> float:
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) / 1024


def message_for(challenge: Challenge) -> AttackChallenge:
    return AttackChallenge(
        task_id=f"0-{challenge.draw.row}",
        model_name="perturb_efficientnetv2_reference",
        clean_image_b64=encode_base64(encode_png(challenge.clean)),
        true_label=challenge.label.text,
        epsilon=float(challenge.epsilon),
        min_delta=0.003,
        timeout_seconds=TIMEOUT_S,
        challenge_id=challenge.clean_digest,
        protocol_fingerprint="f" * 64,
        rules=RULES.model_copy(update={"timeout_ms": int(TIMEOUT_S * 1000)}),
    )


async def ask(
    port: int, message: AttackChallenge, number: int, *, leave_after_s: float | None = None
) -> tuple[float, bytes]:
    """Seconds until the whole answer was here, and its body; empty where the validator left."""
    signer = sp_core.Keypair.create_from_uri(f"//Validator{number}")
    started_s = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(signed_request(encode(message), signer=signer))
    if leave_after_s is not None:
        await asyncio.sleep(leave_after_s)
        writer.close()
        return leave_after_s, b""
    raw = await reader.read()
    writer.close()
    assert raw.startswith(b"HTTP/1.1 200 "), raw[:200]
    return time.monotonic() - started_s, raw.partition(b"\r\n\r\n")[2]


@asynccontextmanager
async def serving(service: MinerService, folder: Path) -> AsyncIterator[int]:
    """The port at which the miner answers."""
    nonces = NonceStore(folder / "nonces.sqlite", clock=service.clock)
    server = Server(
        keypair=MINER,
        netuid=NETUID,
        permits=AnyHotkey(),
        nonces=nonces,
        handlers=Handlers(service.answer, service.acknowledged),
        host="127.0.0.1",
        port=0,
        clock=service.clock,
    )
    await server.start()
    try:
        yield server.port
    finally:
        await server.stop()
        nonces.close()


async def ask_all(port: int, messages: list[AttackChallenge]) -> list[tuple[float, bytes]]:
    """Everybody asks at once, and waits."""
    return await asyncio.gather(*(ask(port, message, number) for number, message in enumerate(messages)))


async def ask_and_leave(service: MinerService, port: int, messages: list[AttackChallenge]) -> None:
    """Ask again and hang up: searches end and places are free long before the time-out."""
    started_s = time.monotonic()
    fresh = [message.model_copy(update={"challenge_id": f"{n:064x}"}) for n, message in enumerate(messages)]
    await asyncio.gather(
        *(ask(port, message, ASKING + n, leave_after_s=3.0) for n, message in enumerate(fresh))
    )
    while service.slots.searching or service.slots.waiting:
        await asyncio.sleep(0.05)
        assert time.monotonic() - started_s < QUIET_S
    passes = service.model.passes
    await asyncio.sleep(0.5)
    assert service.model.passes <= passes + 1


def judge(engine: Engine, challenge: Challenge, message: AttackChallenge, body: bytes) -> str:
    """The code that a validator would give the answer."""
    task = Task(
        message.task_id,
        message.challenge_id,
        challenge.clean,
        challenge.label.text,
        challenge.epsilon,
        message.rules,
        response_limit_bytes(*challenge.clean.shape[:2]),
    )
    return verify(task, body, engine).reject.value


@pytest.mark.slow
def test_twenty_at_once_over_http(tmp_path: Path) -> None:
    engine = open_engine("reference", cache_dir=tmp_path, device="cpu")
    oracle = open_oracle("reference", cache_dir=tmp_path, device="cpu")
    source = open_bench_source("reference", tmp_path)
    challenges = list(islice(draw_challenges(source, engine, RULES), ASKING))
    messages = [message_for(challenge) for challenge in challenges]
    service = MinerService(engine, oracle, open_attack("exchange"), "hotkey", SystemClock())
    service.warm_up()

    async def main() -> list[tuple[float, bytes]]:
        async with serving(service, tmp_path) as port:
            answers = await ask_all(port, messages)
            await ask_and_leave(service, port, messages)
        return answers

    before_mib = resident_mib()
    answers = asyncio.run(main())
    growth_mib = resident_mib() - before_mib
    service.close()
    slowest_s = max(taken_s for taken_s, _ in answers)
    asked = zip(challenges, messages, answers, strict=True)
    verdicts = [judge(engine, challenge, message, body) for challenge, message, (_, body) in asked]
    images = verdicts.count("ok")
    sys.stdout.write(f"\n{images} of {ASKING} images, slowest {slowest_s:.2f} s, +{growth_mib:.0f} MiB, ")
    sys.stdout.write(f"{service.model.passes} batches, {service.model.joined} shared\n")
    assert slowest_s < TIMEOUT_S
    assert set(verdicts) <= {"ok", "no_image"}
    assert images > 0
    assert service.model.joined > 0
    assert growth_mib < MOST_GROWTH_MIB
