"""The outside worlds in memory, keeping the real ones' rules: clock, engine, oracle, images, courier.

The chain has its twin in the package: `perturbnet.chain.LocalChain` with `block_time_ms=0`, under the live
rules.

`BlockEngine` is an integer-linear classifier on block means: exact on every machine, so golden verdicts made
with it never change. Its weights are bytes of SHAKE-256. Classes 0 and 2 have the same text. An image whose
first pixel is exactly magenta saturates it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from bittensor import sp_core
from numpy.typing import NDArray

from perturbnet.datasets import SourceIdentity, SourceImage
from perturbnet.errors import DatasetError, MessageError, Reject, RowUnreadable
from perturbnet.rules.classification import Classification
from perturbnet.transport import Arrival, Delivery, Query
from perturbnet.wire import keys
from perturbnet.wire.images import Pixels, encode_base64, encode_png, pixel_digest
from perturbnet.wire.keys import Keypair
from perturbnet.wire.messages import (
    RESPONSE_DOMAIN,
    Acknowledgement,
    AttackChallenge,
    AttackResponse,
    Rules,
    body_digest,
    encode,
    parse,
    response_payload,
)
from perturbnet.wire.target import Target

LABELS = ("heron", "otter", "heron", "lynx")
GRID = 4
MAGENTA = (255, 0, 255)

RULES = Rules(
    version=1,
    timeout_ms=2000,
    min_linf_delta="0.003",
    max_linf_delta="0.03",
    min_ssim="0.98",
    min_psnr_db="38.0",
    linf_component_weight="0.7",
    rmse_component_weight="0.3",
    perturbation_weight="1.0",
    speed_weight="0.0",
)


@dataclass
class VirtualClock:
    """Time that passes only when somebody sleeps or advances it."""

    now_s: float = 1000.0

    def monotonic_s(self) -> float:
        return self.now_s

    def time_ns(self) -> int:
        return 1_700_000_000 * 10**9 + int(self.now_s * 10**9)

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


def texture(seed: str, height: int = 48, width: int = 64) -> Pixels:
    """Noise of 8 to 247 from SHAKE-256: the same everywhere, and busy enough to hide small changes."""
    data = hashlib.shake_256(seed.encode()).digest(height * width * 3)
    return (8 + np.frombuffer(data, np.uint8) % 240).astype(np.uint8).reshape(height, width, 3)


class BlockEngine:
    """See the module. `calls` lists how many images each call classified."""

    name = "blocks"
    model_name = "block-means"
    labels = LABELS
    together = 1

    def __init__(self, seed: str = "weights") -> None:
        data = hashlib.shake_256(seed.encode()).digest(len(LABELS) * GRID * GRID * 3 // 2)
        upper = (np.frombuffer(data, np.uint8) % 15).astype(np.int64).reshape(len(LABELS), -1) - 7
        self.weights = np.concatenate([upper, -upper], axis=1)  # brightness alone decides nothing
        self.model_digest = hashlib.sha256(data).hexdigest()
        self.calls: list[int] = []

    def classify(self, images: Sequence[Pixels]) -> list[Classification]:
        self.calls.append(len(images))
        return [self._classify(pixels) for pixels in images]

    def logits(self, pixels: Pixels) -> NDArray[np.int64]:
        """(classes,) int64, in thousandths of a level."""
        sums, counts = _blocks(pixels)
        found: NDArray[np.int64] = self.weights @ (sums * 1000 // counts)
        return found

    def _classify(self, pixels: Pixels) -> Classification:
        logits = self.logits(pixels)
        index = int(np.argmax(logits))
        ranked = np.sort(logits)
        digest = hashlib.sha256(logits.astype("<i8").tobytes()).hexdigest()
        saturated = int(tuple(int(value) for value in pixels[0, 0]) == MAGENTA)
        return Classification(index, LABELS[index], digest, float(ranked[-1] - ranked[-2]), saturated)


class BlockOracle:
    """`BlockEngine` for searchers. With a clock, every image costs `cost_s`."""

    def __init__(self, engine: BlockEngine, clock: VirtualClock | None = None, cost_s: float = 0.0) -> None:
        self._engine, self._clock, self._cost_s = engine, clock, cost_s
        self.forward_passes = 0
        self.backward_passes = 0
        self.labels = LABELS

    def logits(self, batch: Pixels) -> NDArray[np.float32]:
        self._pay(len(batch))
        exact = np.stack([self._engine.logits(pixels) for pixels in batch])
        return (exact / 1000).astype(np.float32)

    def margin_grad(
        self, batch: Pixels, label_indices: NDArray[np.int64], rivals: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self._pay(len(batch))
        self.backward_passes += len(batch)
        margins, gradients = [], []
        for row, pixels in enumerate(batch):
            label = int(label_indices[row])
            logits = self._engine.logits(pixels)
            rival = self._strongest(logits, label) if rivals is None else int(rivals[row])
            margins.append((logits[label] - logits[rival]) / 1000)
            gradients.append(self._gradient(pixels, label, rival))
        return np.array(margins, np.float32), np.stack(gradients).astype(np.float32)

    def _strongest(self, logits: NDArray[np.int64], label: int) -> int:
        others = [index for index in range(len(LABELS)) if LABELS[index] != LABELS[label]]
        return max(others, key=lambda index: (int(logits[index]), -index))

    def _gradient(self, pixels: Pixels, label: int, rival: int) -> NDArray[np.float64]:
        _, counts = _blocks(pixels)
        each = (self._engine.weights[label] - self._engine.weights[rival]) / counts
        return spread(each.reshape(GRID, GRID, 3), pixels.shape[0], pixels.shape[1])

    def _pay(self, images: int) -> None:
        self.forward_passes += images
        if self._clock is not None:
            self._clock.advance(self._cost_s * images)


def _edges(side: int) -> NDArray[np.int64]:
    return np.arange(GRID + 1, dtype=np.int64) * side // GRID


def _blocks(pixels: Pixels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sum and number of values of each block and channel, both (GRID * GRID * 3,)."""
    rows, columns = _edges(pixels.shape[0]), _edges(pixels.shape[1])
    sums = np.add.reduceat(pixels.astype(np.int64), rows[:-1], axis=0)
    sums = np.add.reduceat(sums, columns[:-1], axis=1)
    counts = np.outer(np.diff(rows), np.diff(columns))
    return sums.reshape(-1), np.repeat(counts.reshape(-1), 3)


def spread(blocks: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """(GRID, GRID, 3) to (height, width, 3): each block's value at each of its pixels."""
    wide: NDArray[np.float64] = np.repeat(blocks, np.diff(_edges(height)), axis=0)
    return np.repeat(wide, np.diff(_edges(width)), axis=1)


def push(engine: BlockEngine, clean: Pixels, label: int, rival: int, levels: int) -> Pixels:
    """Every value moved by `levels` towards a class: for a linear engine the best that L-inf allows."""
    direction = np.sign(engine.weights[rival] - engine.weights[label]).astype(np.float64)
    moved = clean + levels * spread(direction.reshape(GRID, GRID, 3), clean.shape[0], clean.shape[1])
    return np.clip(moved, 0, 255).astype(np.uint8)


def flip(engine: BlockEngine, clean: Pixels, levels: int = 7) -> Pixels:
    """The smallest push that changes the label's text; AssertionError where none up to `levels` does."""
    before = engine.classify([clean])[0]
    for level in range(1, levels + 1):
        for rival in range(len(LABELS)):
            pushed = push(engine, clean, before.index, rival, level)
            if engine.classify([pushed])[0].text != before.text:
                return pushed
    raise AssertionError("this image stands; take another seed")


class MemorySource:
    """A data set of textures. Rows in `broken` do not decode; `reads` lists every row that was asked for."""

    def __init__(self, rows: int = 12, *, name: str = "memory", broken: Sequence[int] = ()) -> None:
        self.identity = SourceIdentity(f"tests/{name}", "1", "train", rows, "0" * 64)
        self.broken = frozenset(broken)
        self.reads: list[int] = []

    def read(self, row: int) -> SourceImage:
        self.reads.append(row)
        if not 0 <= row < self.identity.rows:
            raise DatasetError(f"row {row} does not exist; expected 0 to {self.identity.rows - 1}")
        if row in self.broken:
            raise RowUnreadable(row, "broken on purpose")
        return SourceImage(row, texture(f"{self.identity.repository}:{row}", 60, 80), 0, "heron")


Answer = Callable[[AttackChallenge], bytes | Reject]
NETUID = 3
OnArrival = Callable[[Arrival], Awaitable[None]]


@dataclass
class MemoryCourier:
    """Carries messages to functions, `answers` by uid (without one: offline). Keeps the client's rules.

    The miners sign for real: `keypair(uid + 1)` over the challenge of `validator`, or of `keypair(1)`.
    """

    answers: Mapping[int, Answer] = field(default_factory=dict)
    response_ms: int = 500
    asked: list[AttackChallenge] = field(default_factory=list)
    acknowledged: list[tuple[Target, Acknowledgement]] = field(default_factory=list)
    validator: str = ""

    async def query_round(
        self,
        targets: Sequence[Target],
        build: Query,
        *,
        deadline_s: float,
        on_arrival: OnArrival,
        max_response_bytes: int | None = None,
    ) -> list[Arrival]:
        assert deadline_s > 0
        challenge = parse(AttackChallenge, build.body, max_bytes=2**31)
        assert (build.task_id, build.challenge_id) == (challenge.task_id, challenge.challenge_id)
        self.asked.append(challenge)
        arrivals = []
        for nonce, target in enumerate(targets):
            arrival = self._arrive(target, challenge, nonce, max_response_bytes or 2**31)
            await on_arrival(arrival)
            arrivals.append(replace(arrival, body=None))
        return arrivals

    async def send_acknowledgements(
        self, acknowledgements: Sequence[tuple[Target, Acknowledgement]], *, timeout_s: float = 5.0
    ) -> list[Delivery]:
        assert timeout_s > 0
        self.acknowledged.extend(acknowledgements)
        return [Delivery(target.uid, target.hotkey, delivered=True) for target, _ in acknowledgements]

    def _arrive(self, target: Target, challenge: AttackChallenge, nonce: int, cap: int) -> Arrival:
        arrival = Arrival(target.uid, target.hotkey, Reject.OK, self.response_ms, str(nonce))
        if target.host is None:
            return replace(arrival, reject=Reject.NOT_SERVING)
        if target.uid not in self.answers:
            return replace(arrival, reject=Reject.OFFLINE)
        body = self.answers[target.uid](challenge)
        if isinstance(body, Reject):
            return replace(arrival, reject=body, detail="on purpose")
        if len(body) > cap:
            return replace(arrival, reject=Reject.BODY_TOO_LARGE)
        signature = sign_answer(
            target.uid, body, challenge.challenge_id, nonce=arrival.nonce, validator=self.validator
        )
        return replace(arrival, body=body, signature=signature)


def sign_answer(uid: int, body: bytes, challenge_id: str, *, nonce: str, validator: str = "") -> str:
    """What the server of the miner with this uid signs, over this body and the pixels that it names."""
    try:
        pixels = parse(AttackResponse, body, max_bytes=len(body)).pixels_sha256
    except MessageError:
        pixels = None
    payload = response_payload(
        netuid=NETUID,
        validator=validator or keypair(1).ss58_address,
        challenge_id=challenge_id,
        nonce=nonce,
        body_sha256=body_digest(body),
        pixels_sha256=pixels,
    )
    return "0x" + keys.sign(keypair(uid + 1), RESPONSE_DOMAIN, payload).hex()


def keypair(number: int) -> Keypair:
    """The key of the validator (1) or of the miner with uid `number - 1` in every world of these tests."""
    made: Keypair = sp_core.Keypair.create_from_seed(number.to_bytes(32, "big"), sp_core.CRYPTO_SR25519)
    return made


def response_body(task_id: str, challenge_id: str, pixels: Pixels, **changes: str | None) -> bytes:
    """What an honest miner sends; `changes` replace fields."""
    response = AttackResponse(
        task_id=task_id,
        challenge_id=challenge_id,
        perturbed_image_b64=encode_base64(encode_png(pixels)),
        pixels_sha256=pixel_digest(pixels),
    )
    return encode(response.model_copy(update=changes))
