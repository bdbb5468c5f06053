"""Two ends of the wire for the tests: keys, messages, a real server, and miners on raw sockets."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from bittensor import http_auth, sp_core

from perturbnet.errors import Reject
from perturbnet.ledger import ArrivalRow
from perturbnet.rules.verification import Task, Verdict, Verification
from perturbnet.transport import (
    AnyHotkey,
    Arrival,
    Client,
    Handlers,
    NonceStore,
    Permits,
    Query,
    Server,
    ServerLimits,
    SignedMessage,
)
from perturbnet.wire import keys, messages
from perturbnet.wire.messages import Acknowledgement, AttackChallenge, AttackResponse, Rules
from perturbnet.wire.target import Target
from tests.support.fakes import BlockEngine, texture

NETUID = 7
VALIDATOR = sp_core.Keypair.create_from_uri("//Validator")
MINER = sp_core.Keypair.create_from_uri("//Miner")
STRANGER = sp_core.Keypair.create_from_uri("//Stranger")
IMAGE = "aW1hZ2U="  # base64 of no PNG
CLEAN = texture("transport")
PIXELS = hashlib.sha256(b"pixels").hexdigest()

RULES: dict[str, Any] = {
    "version": 1,
    "timeout_ms": 2000,
    "min_linf_delta": "0.003",
    "max_linf_delta": "0.03",
    "min_ssim": "0.98",
    "min_psnr_db": "38.0",
    "linf_component_weight": "0.7",
    "rmse_component_weight": "0.3",
    "perturbation_weight": "1.0",
    "speed_weight": "0.0",
}


def challenge(*, timeout_ms: int = 2000, **changes: Any) -> AttackChallenge:
    fields: dict[str, Any] = {
        "task_id": "0-17",
        "model_name": "tf_efficientnetv2_l.in1k",
        "clean_image_b64": IMAGE,
        "true_label": "tench, Tinca tinca",
        "epsilon": 0.0731,
        "min_delta": 0.003,
        "timeout_seconds": timeout_ms / 1000,
        "challenge_id": "c" * 64,
        "protocol_fingerprint": "f" * 64,
        "rules": Rules(**{**RULES, "timeout_ms": timeout_ms}),
    }
    return AttackChallenge(**{**fields, **changes})


def acknowledgement() -> Acknowledgement:
    return Acknowledgement(
        challenge_id="c" * 64,
        body_digest="b" * 64,
        leaf=41,
        leaf_hash="1" * 64,
        reject=Reject.OK,
        score_ppb=900_000_000,
    )


def answer(task_id: str = "0-17", challenge_id: str = "c" * 64, image: str | None = IMAGE) -> AttackResponse:
    return AttackResponse(
        task_id=task_id,
        challenge_id=challenge_id,
        perturbed_image_b64=image,
        pixels_sha256=None if image is None else PIXELS,
        reason="none found" if image is None else None,
    )


# The server's side: a real server, and requests as raw bytes.


@dataclass
class Seen:
    """What the handlers of a server were given."""

    challenges: list[tuple[AttackChallenge, str, float]] = field(default_factory=list)
    acknowledgements: list[tuple[Acknowledgement, str]] = field(default_factory=list)

    async def challenge(self, message: AttackChallenge, caller: str, received_s: float) -> AttackResponse:
        self.challenges.append((message, caller, received_s))
        return answer(message.task_id, message.challenge_id)

    async def acknowledgement(self, message: Acknowledgement, signed: SignedMessage) -> None:
        self.acknowledgements.append((message, signed.sender))

    def handlers(self) -> Handlers:
        return Handlers(self.challenge, self.acknowledgement)


@contextlib.asynccontextmanager
async def serving(
    folder: Path,
    *,
    handlers: Handlers | None = None,
    permits: Permits | None = None,
    keypair: keys.Keypair = MINER,
    limits: ServerLimits | None = None,
) -> AsyncIterator[Server]:
    nonces = NonceStore(folder / "nonces.sqlite")
    server = Server(
        keypair=keypair,
        netuid=NETUID,
        permits=permits or AnyHotkey(),
        nonces=nonces,
        handlers=handlers or Seen().handlers(),
        host="127.0.0.1",
        port=0,
        limits=limits,
    )
    try:
        await server.start()
        yield server
    finally:
        await server.stop()
        nonces.close()


def signed_headers(body: bytes, **changes: Any) -> dict[str, str]:
    fields = {"method": "POST", "path": messages.CHALLENGE_PATH, "receiver_ss58": MINER.ss58_address}
    fields.update(changes)
    signer = fields.pop("signer", VALIDATOR)
    return http_auth.sign(signer, body=body, **fields)


def request(body: bytes, headers: dict[str, str], path: str = messages.CHALLENGE_PATH) -> bytes:
    fields = {"Host": "x", "Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def signed_request(body: bytes | None = None, **changes: Any) -> bytes:
    body = messages.encode(challenge()) if body is None else body
    return request(body, signed_headers(body, **changes), changes.get("path", messages.CHALLENGE_PATH))


async def send(port: int, *parts: bytes, pause_s: float = 0.0) -> tuple[int, str]:
    """Send the parts and return status and body; (0, "") when the connection closes without an answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await asyncio.sleep(pause_s)
        whole = await reader.read()
    except ConnectionError:
        whole = b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    head, _, body = whole.partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head else 0), body.decode()


# The client's side: miners on raw sockets.


@dataclass(frozen=True)
class Received:
    """A request as a raw miner sees it."""

    headers: dict[str, str]
    body: bytes

    @property
    def nonce(self) -> str:
        return self.headers["x-bittensor-nonce"]


Script = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def misbehaving(script: Script) -> AsyncIterator[int]:
    """Serve one script on loopback; yields the port."""
    tasks: set[asyncio.Task[Any]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await script(await _receive(reader), writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort() if task.cancelling() else writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
            await asyncio.sleep(0.001)  # aborted transports are closed by the loop's next turn


async def _receive(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
    return Received(headers, await reader.readexactly(int(headers["content-length"])))


def http(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    fields.update({name.replace("_", "-"): value for name, value in headers.items()})
    head = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def signature(received: Received, body: bytes, *, signer: Any = MINER, **changes: Any) -> str:
    """Sign a response body as an honest miner does, save for `changes` to what is signed."""
    fields = {
        "netuid": NETUID,
        "validator": VALIDATOR.ss58_address,
        "challenge_id": "c" * 64,
        "nonce": received.nonce,
        "body_sha256": messages.body_digest(body),
        "pixels_sha256": PIXELS,
    }
    payload = messages.response_payload(**{**fields, **changes})
    return "0x" + keys.sign(signer, messages.RESPONSE_DOMAIN, payload).hex()


def replying(body: bytes, **changes: Any) -> Script:
    """A miner that answers with this body, signed as `signature` says."""

    async def script(received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(http(body, X_Perturb_Signature=signature(received, body, **changes)))
        await writer.drain()

    return script


def writing(data: bytes) -> Script:
    """A miner that writes these bytes and closes."""

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return script


def client(**changes: Any) -> Client:
    return Client(VALIDATOR, **{"netuid": NETUID, "allow_private": True, **changes})


def target(port: int, uid: int = 0, keypair: Any = MINER, host: str | None = "127.0.0.1") -> Target:
    return Target(uid, keypair.ss58_address, host, port)


async def ignore(_arrival: Arrival) -> None:
    """Store nothing."""


async def ask(script: Script, *, deadline_s: float = 2.0, **changes: Any) -> Arrival:
    """Ask one raw miner one challenge; the arrival is what its keeper was given."""
    kept: list[Arrival] = []

    async def keep(arrival: Arrival) -> None:
        kept.append(arrival)

    async with misbehaving(script) as port:
        [reported] = await client(**changes).query_round(
            [target(port)], Query.of(challenge()), deadline_s=deadline_s, on_arrival=keep
        )
    assert reported == replace(kept[0], body=None)
    return kept[0]


def verdict_on(arrival: Arrival) -> Verdict:
    """What the first checks say to a body that came; its image is none, so an honest one fails at the PNG."""
    task = Task("0-17", "c" * 64, CLEAN, "cat", "0.08", Rules(**RULES), 10**7, NETUID, VALIDATOR.ss58_address)
    assert arrival.body is not None
    digest = messages.body_digest(arrival.body)
    row = ArrivalRow(0, arrival.uid, arrival.hotkey, "ok", digest, arrival.nonce, arrival.signature, 0)
    found = Verification(task, BlockEngine()).read(arrival.body, signed=row)
    assert isinstance(found, Verdict)
    return found


class Neuron:
    def __init__(self, *, permit: bool, stake_rao: int) -> None:
        self.validator_permit, self.stake_rao = permit, stake_rao


class Metagraph:
    """A snapshot of three neurons."""

    neurons: ClassVar[dict[str, Neuron]] = {
        VALIDATOR.ss58_address: Neuron(permit=True, stake_rao=1000),
        STRANGER.ss58_address: Neuron(permit=False, stake_rao=10**12),
    }

    def by_hotkey(self, hotkey: str) -> Neuron | None:
        return self.neurons.get(hotkey)


def handlers(work: Any) -> Handlers:
    async def handle(message: AttackChallenge, _caller: str, _received_s: float) -> AttackResponse:
        response: AttackResponse = await work(message)
        return response

    return Handlers(handle, Seen().acknowledgement)
