"""Our two ends for `benchmarks.transport`: a miner's server, or a validator's client that asks it.

`python -m benchmarks.transport_ours serve` prints its port; `… ask PORT` takes `AT_ONCE REQUESTS` a line and
prints the seconds that took, and how many failed. All is on as in a validator and a miner: both directions
signed over the body, nonces kept in a file, messages checked, one connection for each request. Only the rates
are lifted, since all requests come from one address and one hotkey.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import tempfile
import time
from pathlib import Path

from bittensor import sp_core

from benchmarks import material
from perturbnet.errors import Reject
from perturbnet.transport import (
    AnyHotkey,
    Arrival,
    Client,
    Handlers,
    NonceStore,
    Query,
    Server,
    ServerLimits,
    SignedMessage,
)
from perturbnet.wire.messages import Acknowledgement, AttackChallenge, AttackResponse
from perturbnet.wire.target import Target

IMAGE_CHARACTERS = 500_000
NETUID = 1
TIMEOUT_MS = 60_000
VALIDATOR = sp_core.Keypair.create_from_uri("//Validator")
MINER = sp_core.Keypair.create_from_uri("//Miner")
LIMITS = ServerLimits(
    connections_per_address=128,
    address_rate_per_s=1e6,
    address_burst=10**6,
    hotkey_rate_per_s=1e6,
    hotkey_burst=10**6,
)
RULES = material.RULES.model_copy(update={"timeout_ms": TIMEOUT_MS})


def image_text() -> str:
    """Base64 of random bytes would be no smaller and no different: neither side decodes it here."""
    return (hashlib.sha256(b"image").hexdigest() * (IMAGE_CHARACTERS // 64 + 1))[:IMAGE_CHARACTERS]


async def serve() -> None:
    """Answer every challenge with an image of the same size, until the process is ended."""
    image = image_text()

    async def answer(challenge: AttackChallenge, _caller: str, _received_s: float) -> AttackResponse:
        if len(challenge.clean_image_b64) != IMAGE_CHARACTERS:
            raise AssertionError("the challenge did not arrive whole")
        return AttackResponse(
            task_id=challenge.task_id,
            challenge_id=challenge.challenge_id,
            perturbed_image_b64=image,
            pixels_sha256="a" * 64,
        )

    async def acknowledge(_message: Acknowledgement, _signed: SignedMessage) -> None:
        return None

    with tempfile.TemporaryDirectory(prefix="bench-transport-") as folder:
        server = Server(
            keypair=MINER,
            netuid=NETUID,
            permits=AnyHotkey(),
            nonces=NonceStore(Path(folder) / "nonces.sqlite"),
            handlers=Handlers(answer, acknowledge),
            host="127.0.0.1",
            port=0,
            limits=LIMITS,
        )
        await server.start()
        print(server.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await server.stop()


async def ask(port: int) -> None:
    """Ask as often as each line of the standard input says; one line of seconds for each."""
    client = Client(VALIDATOR, netuid=NETUID, allow_private=True)
    target = Target(0, MINER.ss58_address, "127.0.0.1", port)
    query = Query.of(
        AttackChallenge(
            task_id="0-0",
            model_name="model",
            clean_image_b64=image_text(),
            true_label="label",
            epsilon=0.07,
            min_delta=0.003,
            timeout_seconds=TIMEOUT_MS / 1000,
            challenge_id="c" * 64,
            protocol_fingerprint="f" * 64,
            rules=RULES,
        )
    )

    async def take(arrival: Arrival) -> None:
        if arrival.reject != Reject.OK or arrival.body is None or len(arrival.body) < IMAGE_CHARACTERS:
            raise AssertionError(f"{arrival.reject}: {arrival.detail}")

    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        at_once, requests = map(int, line.split())
        began_s = time.perf_counter()
        for _ in range(requests // at_once):
            await client.query_round([target] * at_once, query, deadline_s=60, on_arrival=take)
        print(time.perf_counter() - began_s, 0, flush=True)  # a failure ends the process


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    asyncio.run(serve() if sys.argv[1] == "serve" else ask(int(sys.argv[2])))
