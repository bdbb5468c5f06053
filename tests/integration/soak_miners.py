"""The miners of the soak: all in one process, each with its own key, port and manners.

    python -m tests.integration.soak_miners FOLDER        reads FOLDER/miners.json: [seed number, port, kind]

The honest ones send the smallest change that flips the small classifier's label, each a little larger than
the one before, and write every acknowledgement to FOLDER/acknowledged.jsonl. The others are those of
`perturbnet.localnet.hostile`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import numpy as np

from perturbnet.config import load_settings
from perturbnet.localnet.hostile import Impostor, serve
from perturbnet.runtime.clock import SystemClock
from perturbnet.transport import AnyHotkey, NonceStore, Server, SignedMessage
from perturbnet.transport.server import Handlers
from perturbnet.wire.images import decode_base64, decode_png, encode_base64, encode_png, pixel_digest
from perturbnet.wire.messages import Acknowledgement, AttackChallenge, AttackResponse
from tests.support.fakes import NETUID, BlockEngine, flip, keypair

HONEST = "honest"
MORE_VALUES = 40  # that each miner changes beyond the one before it


async def attack(number: int, challenge: AttackChallenge, _caller: str, _received_s: float) -> AttackResponse:
    """The smallest flip, and a little more for each number."""
    clean = decode_png(decode_base64(challenge.clean_image_b64))
    found = flip(BlockEngine(), clean).astype(np.int16)
    step = np.sign(found - clean).reshape(-1)
    step[np.flatnonzero(step)[MORE_VALUES * number :]] = 0
    pixels = np.clip(found + step.reshape(found.shape), 0, 255).astype(np.uint8)
    return AttackResponse(
        task_id=challenge.task_id,
        challenge_id=challenge.challenge_id,
        perturbed_image_b64=encode_base64(encode_png(pixels)),
        pixels_sha256=pixel_digest(pixels),
    )


async def note(path: Path, acknowledgement: Acknowledgement, _message: SignedMessage) -> None:
    """Keep what the validator promised."""
    with path.open("a") as file:
        file.write(json.dumps([acknowledgement.leaf, acknowledgement.leaf_hash]) + "\n")


async def run(folder: Path) -> None:
    """Serve until the process is ended."""
    async with AsyncExitStack() as stack:
        honest = 0
        for seed, port, kind in json.loads((folder / "miners.json").read_text()):
            key, state = keypair(seed), folder / f"miner-{seed}"
            state.mkdir()
            if kind == HONEST:
                handlers = Handlers(partial(attack, honest), partial(note, folder / "acknowledged.jsonl"))
                server = Server(
                    keypair=key,
                    netuid=NETUID,
                    permits=AnyHotkey(),
                    nonces=NonceStore(state / "nonces.sqlite"),
                    handlers=handlers,
                    host="127.0.0.1",
                    port=port,
                    clock=SystemClock(),
                )
                await server.start()
                honest += 1
                continue
            environment = {
                "NETWORK": "local",
                "NETUID": str(NETUID),
                "PERTURB_LOCAL_CHAIN": str(folder / "chain.sqlite"),
                "PERTURB_STATE_DIR": str(state),
                "PERTURB_AXON_PORT": str(port),
                "PERTURB_AXON_BIND": "127.0.0.1",
            }
            signer = Impostor(key, keypair(seed + 500)) if kind == "impostor" else key
            await stack.enter_async_context(serve(kind, load_settings(environment).settings, signer))
        (folder / "miners.ready").touch()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1])))
