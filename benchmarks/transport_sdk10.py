"""SDK 10.5's ends for `benchmarks.transport`, in an environment of its own: an Axon, or a Dendrite.

`PYTHON benchmarks/transport_sdk10.py serve PORT` and `... ask PORT`, spoken to as
`benchmarks.transport_ours`. The SDK is used as it comes: its default verification (which signs no field of
the body), one session kept by the Dendrite through a sample. The Axon clears the image that was sent before
it answers, for it would return it as well. Neither end asks the Internet for its address. Requests that
failed are told beside the seconds: a Dendrite that uses a connection which the Axon has just dropped fails,
and nothing asks again.
"""

import asyncio
import os
import sys
import time
from importlib import import_module
from typing import Any

IMAGE_CHARACTERS = 500_000
IMAGE = ("0123456789abcdef" * (IMAGE_CHARACTERS // 16 + 1))[:IMAGE_CHARACTERS]

networking = import_module("bittensor.utils.networking")
networking.get_external_ip = lambda: "127.0.0.1"  # type: ignore[attr-defined]
bittensor: Any = import_module("bittensor")
Keypair: Any = import_module("bittensor_wallet").Keypair


# The SDK logs to the standard output, which is ours to be read by the bench.
heard = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def tell(value: object) -> None:
    """One line for the bench."""
    print(value, file=heard, flush=True)


class AttackChallenge(bittensor.Synapse):  # type: ignore[misc]
    """The contract's message, with the fields that are large."""

    clean_image_b64: str = ""
    task_id: str = ""
    perturbed_image_b64: str = ""


class Wallet:
    """All that the SDK reads of a wallet here."""

    def __init__(self, uri: str) -> None:
        self.hotkey = Keypair.create_from_uri(uri)


def answer(synapse: AttackChallenge) -> AttackChallenge:
    """Return an image of the same size."""
    if len(synapse.clean_image_b64) != IMAGE_CHARACTERS:
        raise AssertionError("the challenge did not arrive whole")
    synapse.clean_image_b64, synapse.perturbed_image_b64 = "", IMAGE
    return synapse


def serve(port: int) -> None:
    """Answer until the standard input ends."""
    axon = bittensor.Axon(
        wallet=Wallet("//Miner"), ip="127.0.0.1", port=port, external_ip="127.0.0.1", external_port=port
    )
    axon.attach(answer)
    axon.start()
    tell(port)
    sys.stdin.read()
    axon.stop()


async def ask(port: int) -> None:
    """Ask as often as each line of the standard input says; one line of seconds for each."""
    miner = Keypair.create_from_uri("//Miner").ss58_address
    info = bittensor.AxonInfo(
        version=1, ip="127.0.0.1", port=port, ip_type=4, hotkey=miner, coldkey=miner, protocol=4
    )
    async with bittensor.Dendrite(wallet=Keypair.create_from_uri("//Validator")) as dendrite:
        tell("ready")
        while line := await asyncio.to_thread(sys.stdin.readline):
            at_once, requests = map(int, line.split())
            await dendrite.aclose_session()
            began_s, failed = time.perf_counter(), 0
            for _ in range(requests // at_once):
                message = AttackChallenge(clean_image_b64=IMAGE, task_id="0-0")
                found = await dendrite.forward([info] * at_once, message, timeout=60, deserialize=False)
                failed += sum(len(item.perturbed_image_b64) != IMAGE_CHARACTERS for item in found)
            tell(f"{time.perf_counter() - began_s} {failed}")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        asyncio.run(ask(int(sys.argv[2])))
