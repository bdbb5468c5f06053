"""A subnet full of miners that answer in the same instant, and a validator that measures its own memory.

python -m tests.integration.crowd miners COUNT          prints its port; one process plays all miners
python -m tests.integration.crowd validator COUNT PORT FOLDER   one round over sockets; prints what it cost

Each answer is another image with about 500 kB of base64. The miners hold theirs back until the last of them
was asked. The validator runs on two cores; its judge is the tests' own, so no model is in the figure.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from perturbnet.chain import LocalChain
from perturbnet.datasets import SourceImage
from perturbnet.transport import Arrival, Client
from perturbnet.wire import keys, messages
from perturbnet.wire.images import Pixels, decode_base64, decode_png
from perturbnet.wire.messages import AttackChallenge
from tests.support.fakes import NETUID, BlockEngine, MemorySource, flip, keypair, response_body, texture
from tests.support.validator.world import CHAIN_RULES, STAKE_RAO, World

SIDE = 354  # 500 kB of base64, for noise does not compress
TIMEOUT_S = 120


class NoiseSource(MemorySource):
    """A data set of images that do not compress."""

    def read(self, row: int) -> SourceImage:
        return SourceImage(row, texture(f"crowd {row}", SIDE, SIDE), 0, "heron")


@dataclass
class Miners:
    """Answers that wait for the last question."""

    count: int
    fooling: asyncio.Future[Pixels] | None = None
    ready: int = 0
    all_ready: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        keys = {number: keypair(number + 1) for number in range(1, self.count + 1)}
        self.keys = {key.ss58_address: (number, key) for number, key in keys.items()}

    async def serve(self) -> None:
        """Print the port, then answer until this process is ended."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=2**22, backlog=self.count)
        print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - what the test reads
        await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await reader.readexactly(int(headers["content-length"]))
        if head.startswith(f"POST {messages.CHALLENGE_PATH} "):
            receiver = re.search(r"X-Bittensor-Receiver: (\w+)", head)
            assert receiver
            message = await self._answer(body, receiver[1], headers["x-bittensor-nonce"])
            self.ready += 1
            if self.ready == self.count:
                self.all_ready.set()
            await self.all_ready.wait()
            writer.write(message)
            await writer.drain()
        writer.close()

    async def _answer(self, question: bytes, hotkey: str, nonce: str) -> bytes:
        """A whole response: the same fooling image for all, but for one pixel of each miner's own."""
        number, key = self.keys[hotkey]
        challenge = messages.parse(AttackChallenge, question, max_bytes=len(question))
        clean = decode_png(decode_base64(challenge.clean_image_b64))
        if self.fooling is None:
            self.fooling = asyncio.get_running_loop().create_future()
            self.fooling.set_result(flip(BlockEngine(), clean))
        pixels = (await self.fooling).copy()
        pixels[number // SIDE, number % SIDE] = clean[number // SIDE, number % SIDE]
        body = response_body(challenge.task_id, challenge.challenge_id, pixels)
        response = json.loads(body)
        payload = messages.response_payload(
            netuid=NETUID,
            validator=keypair(1).ss58_address,
            challenge_id=challenge.challenge_id,
            nonce=nonce,
            body_sha256=messages.body_digest(body),
            pixels_sha256=response["pixels_sha256"],
        )
        signature = "0x" + keys.sign(key, messages.RESPONSE_DOMAIN, payload).hex()
        head = (
            "HTTP/1.1 200 OK",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            f"{messages.SIGNATURE_HEADER}: {signature}",
        )
        return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class TimedClient(Client):
    """The real client, and when the last answer had come."""

    last_s = 0.0
    bodies_bytes = 0

    async def query_round(self, *args, **options):  # type: ignore[no-untyped-def]  # noqa: ANN002, ANN003, ANN201
        """As `Client.query_round`."""
        keep = options.pop("on_arrival")

        async def timed(arrival: Arrival) -> None:
            self.bodies_bytes += len(arrival.body or b"")
            await keep(arrival)

        try:
            return await super().query_round(*args, on_arrival=timed, **options)
        finally:
            self.last_s = time.monotonic()


async def make_subnet(path: Path, count: int, port: int) -> LocalChain:
    """A validator and its miners, all at one port."""
    chain = LocalChain.create(path, NETUID, rules=CHAIN_RULES, block_time_ms=0)
    await chain.advance(1)
    for uid in range(count + 1):
        key = keypair(uid + 1)
        await chain.register(key.ss58_address, keypair(uid + 1001).ss58_address, 0 if uid else STAKE_RAO)
        if uid:
            await chain.serve(key, "127.0.0.1", port)
    return chain


async def validate(count: int, port: int, folder: Path) -> dict[str, object]:
    """One round; what it cost."""
    chain = await make_subnet(folder / "chain.sqlite", count, port)
    environment = {
        "PERTURB_K_MINERS": str(count),
        "PERTURB_CHALLENGE_AUGMENT": "false",
        "PERTURB_TIMEOUT_SECONDS": str(TIMEOUT_S),
    }
    client = TimedClient(keypair(1), netuid=NETUID, allow_private=True)
    world = World(folder, chain, keypair(1), client, NoiseSource(), environment=environment)  # type: ignore[arg-type]
    validator = world.open()
    before_mib = resident_mib("VmRSS")
    receipts = await validator.rounds.run()
    ended_s = time.monotonic()
    await validator.rounds.finish_telling()
    validator.journal.close()
    return {
        "codes": Counter(receipt.reject for receipt in receipts or ()),
        "earned": sum(receipt.score_ppb > 0 for receipt in receipts or ()),
        "bodies_mb": client.bodies_bytes / 1e6,
        "last_answer_to_receipts_s": ended_s - client.last_s,
        "before_mib": before_mib,
        "peak_mib": resident_mib("VmHWM"),
    }


def resident_mib(name: str) -> float:
    """This process's resident memory now (VmRSS) or at its peak (VmHWM)."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) / 1024


def main() -> None:
    """Play the part that the command line names."""
    part, count = sys.argv[1], int(sys.argv[2])
    if part == "miners":
        asyncio.run(Miners(count).serve())
    else:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
        print(json.dumps(asyncio.run(validate(count, int(sys.argv[3]), Path(sys.argv[4])))))  # noqa: T201


if __name__ == "__main__":
    main()
