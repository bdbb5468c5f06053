"""Miners that are bad on purpose, to show on a local network that it does them no good.

    python -m perturbnet.localnet.hostile KIND        settings as for `neurons.miner`; NETWORK=local only

| kind     | what it does                                    | reject code      |
|----------|-------------------------------------------------|------------------|
| copycat  | returns the clean image                         | linf_low         |
| flooder  | sends a body without end                        | body_too_large   |
| bomber   | sends a PNG that inflates to 8 MB               | png_bomb         |
| sleeper  | takes the request and answers too late          | timeout          |
| ghost    | announces an axon and does not listen           | offline          |
| impostor | signs with another key than its hotkey's        | bad_signature    |
"""

from __future__ import annotations

import asyncio
import logging
import os
import struct
import sys
import zlib
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import numpy as np

from perturbnet.chain import open_chain
from perturbnet.config import Settings, load_settings
from perturbnet.errors import ConfigError, Reject
from perturbnet.runtime.clock import SystemClock
from perturbnet.runtime.process import run_until_signal
from perturbnet.runtime.wallets import create_wallet, load_hotkey
from perturbnet.telemetry import setup_logging
from perturbnet.transport import AnyHotkey, NonceStore, Server, SignedMessage
from perturbnet.transport.server import Handlers
from perturbnet.wire.images import decode_base64, decode_png, encode_base64, encode_png, pixel_digest
from perturbnet.wire.keys import Keypair
from perturbnet.wire.messages import Acknowledgement, AttackChallenge, AttackResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

EXPECTED = {
    "copycat": Reject.LINF_LOW,
    "flooder": Reject.BODY_TOO_LARGE,
    "bomber": Reject.PNG_BOMB,
    "sleeper": Reject.TIMEOUT,
    "ghost": Reject.OFFLINE,
    "impostor": Reject.BAD_SIGNATURE,
}
BOMB_BYTES = 8 * 1024 * 1024
FLOOD_CHUNK = b"x" * 65536

log = logging.getLogger("hostile")


class Impostor:
    """Says it is one hotkey and signs with another."""

    def __init__(self, claimed: Keypair, signer: Keypair) -> None:
        """Claim the first, sign with the second."""
        self._claimed, self._signer = claimed, signer

    @property
    def ss58_address(self) -> str:
        """The address it claims."""
        return self._claimed.ss58_address

    @property
    def public_key(self) -> bytes:
        """The key it claims."""
        return self._claimed.public_key

    @property
    def crypto_type(self) -> int:
        """sr25519."""
        return self._claimed.crypto_type

    def sign(self, payload: bytes) -> bytes:
        """Sign with the wrong key."""
        return self._signer.sign(payload)


async def _return_clean(challenge: AttackChallenge, _caller: str, _received_s: float) -> AttackResponse:
    data = decode_base64(challenge.clean_image_b64)
    return _response(challenge, data, pixel_digest(decode_png(data)))


async def _return_bomb(challenge: AttackChallenge, _caller: str, _received_s: float) -> AttackResponse:
    clean = decode_png(decode_base64(challenge.clean_image_b64))
    return _response(challenge, build_bomb(clean.shape[0], clean.shape[1]), pixel_digest(clean))


async def _return_noise(challenge: AttackChallenge, _caller: str, _received_s: float) -> AttackResponse:
    pixels = decode_png(decode_base64(challenge.clean_image_b64)) ^ np.uint8(1)
    return _response(challenge, encode_png(pixels), pixel_digest(pixels))


async def _ignore(_acknowledgement: Acknowledgement, _message: SignedMessage) -> None:
    """Bad miners do not care."""


async def _flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    try:
        while True:
            writer.write(f"{len(FLOOD_CHUNK):x}\r\n".encode() + FLOOD_CHUNK + b"\r\n")
            await writer.drain()
    except ConnectionError:
        log.info("The validator hung up")


async def _sleep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await reader.read(65536):
            pass
    except ConnectionError:
        log.info("The validator hung up")
    writer.close()


HANDLERS = {"copycat": _return_clean, "bomber": _return_bomb, "impostor": _return_noise}
RAW = {"flooder": _flood, "sleeper": _sleep}


def build_bomb(height: int, width: int) -> bytes:
    """A PNG of the right size whose stream inflates to `BOMB_BYTES`."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(BOMB_BYTES), 9)), (b"IEND", b"")]
    framed = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def _response(challenge: AttackChallenge, data: bytes, digest: str) -> AttackResponse:
    return AttackResponse(
        task_id=challenge.task_id,
        challenge_id=challenge.challenge_id,
        perturbed_image_b64=encode_base64(data),
        pixels_sha256=digest,
    )


@asynccontextmanager
async def serve(kind: str, settings: Settings, keypair: Keypair) -> AsyncIterator[None]:
    """Listen (or not) in the way of this kind."""
    if kind == "ghost":
        yield
    elif kind in RAW:
        handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] = RAW[kind]
        async with await asyncio.start_server(handler, settings.axon_bind, settings.axon_port):
            yield
    else:
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        nonces = NonceStore(settings.state_dir / "nonces.sqlite")
        server = Server(
            keypair=keypair,
            netuid=settings.netuid,
            permits=AnyHotkey(),
            nonces=nonces,
            handlers=Handlers(HANDLERS[kind], _ignore),
            host=settings.axon_bind,
            port=settings.axon_port,
            clock=SystemClock(),
        )
        await server.start()
        try:
            yield
        finally:
            await server.stop()
            nonces.close()


async def misbehave(kind: str, settings: Settings, stop: asyncio.Event) -> None:
    """Announce an axon and be bad until stopped."""
    honest = load_hotkey(settings.wallet_path, settings.wallet_name, settings.wallet_hotkey)
    keypair: Keypair = honest
    if kind == "impostor":
        keypair = Impostor(
            honest, create_wallet(settings.wallet_path, f"{settings.wallet_name}-stolen", "default").hotkey
        )
    chain = open_chain("local", settings.netuid, local_path=settings.local_chain)
    async with serve(kind, settings, keypair):
        await chain.serve(honest, "127.0.0.1", settings.axon_port)
        log.info("A %s serves at port %d", kind, settings.axon_port)
        await stop.wait()
    await chain.close()


def main() -> None:
    """Run one bad miner."""
    kind = sys.argv[1] if len(sys.argv) > 1 else ""
    settings = load_settings(os.environ).settings
    if kind not in EXPECTED or settings.network != "local":
        raise ConfigError("KIND", kind, f"one of {', '.join(EXPECTED)}, with NETWORK=local")
    setup_logging(settings.log_level, settings.log_format)
    run_until_signal(lambda stop: misbehave(kind, settings, stop))


if __name__ == "__main__":
    main()
