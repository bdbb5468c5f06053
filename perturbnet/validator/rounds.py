"""One round, top to bottom: draw, challenge, ask, note, judge, record, acknowledge.

Written ahead at every step: the challenge before it is sent, each response before it is verified, the receipts before they
count. `recover` closes a round that a crash cut short, by the same steps from "judge" on.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from perturbnet.chain import Chain, Metagraph, Neuron
from perturbnet.challenges import Challenge, Freshness, apply_freshness, build_challenge
from perturbnet.classifier import Engine
from perturbnet.clock import Clock
from perturbnet.datasets import ImageSource
from perturbnet.errors import ChallengeError, DatasetError, Reject, RowUnreadable
from perturbnet.images import encode_base64, encode_png, pixel_digest
from perturbnet.ledger import ArrivalRow, Entry, OpenRound
from perturbnet.ledger.leaves import ChallengeLeaf, MetagraphLeaf, ReceiptLeaf
from perturbnet.protocol import Acknowledgement, AttackChallenge, Rules, encode
from perturbnet.selection import SelectionRules, select_miners
from perturbnet.transport import Arrival, Delivery, Query, Target
from perturbnet.validator.draws import Draws, SeededDraw
from perturbnet.validator.journal import Journal
from perturbnet.validator.receipts import bodies_intact, judge_arrivals, write_receipts
from perturbnet.verification import Pixels, Task

log = logging.getLogger(__name__)


class Courier(Protocol):
    """Carries a round's messages: `transport.Client`, or its twin in memory."""

    async def query_round(
        self,
        targets: Sequence[Target],
        build: Query,
        *,
        deadline_s: float,
        on_arrival: Callable[[Arrival], Awaitable[None]],
        max_response_bytes: int | None = None,
    ) -> list[Arrival]:
        """Ask everyone at once; await `on_arrival` once for each, at the latest when the deadline passes."""

    async def send_acknowledgements(
        self, acknowledgements: Sequence[tuple[Target, Acknowledgement]], *, timeout_s: float = 5.0
    ) -> list[Delivery]:
        """Tell the miners what became of their answers, as far as they can be reached."""


@dataclass(frozen=True)
class RoundPolicy:
    """The settings a round depends on."""

    rules: Rules
    selection: SelectionRules
    max_attempts: int
    augment: bool
    duplicates: str
    max_body_bytes: int
    keep_bodies_rounds: int
    protocol_fingerprint: str


@dataclass
class Rounds:
    """Runs rounds; all outside worlds are given."""

    journal: Journal
    draws: Draws
    chain: Chain
    courier: Courier
    engine: Engine
    source: ImageSource
    hotkey: str
    policy: RoundPolicy
    clock: Clock
    details: dict[int, str] = field(default_factory=dict)

    async def run(self) -> list[ReceiptLeaf] | None:
        """Run one round to its receipts; None when no challenge came out of it."""
        metagraph = await self.chain.metagraph()
        self.journal.record_metagraph(metagraph_leaf(metagraph))
        found = await asyncio.to_thread(self._find_challenge, metagraph)
        if found is None:
            return None
        challenge, seeded = found
        chosen = select_miners(
            metagraph,
            own_hotkey=self.hotkey,
            processed=self.journal.state.processed(),
            rules=self.policy.selection,
            seed=seeded.selection_seed,
        )
        if not chosen.neurons:
            log.warning("Nobody to ask: no miner is registered besides this validator")
            self.draws.skip(challenge.draw, "nobody to ask")
            return None
        log.info("Selected %d miners (%d for exploration): uids %s", len(chosen.neurons), chosen.explored,
                 [neuron.uid for neuron in chosen.neurons])  # fmt: skip
        opened = self._open(challenge, seeded, chosen.neurons)
        await self._ask(opened, challenge, chosen.neurons)
        receipts = await self._close(opened, challenge.clean)
        await self._acknowledge(opened, receipts, chosen.neurons)
        return receipts

    async def recover(self) -> None:
        """Close the round that a crash left open, if there is one."""
        opened = self.journal.state.open_round
        if opened is None:
            return
        arrivals = len(self.journal.store.arrivals(opened.position))
        log.warning("Round %d was cut short with %d of %d answers noted: closing it", opened.leaf.round, arrivals,
                    len(opened.leaf.asked))  # fmt: skip
        await self._close(opened, await asyncio.to_thread(self._clean_again, opened.leaf))

    def _find_challenge(self, metagraph: Metagraph) -> tuple[Challenge, SeededDraw] | None:
        """Draw rows until one makes a challenge; what does not is skipped once and recorded."""
        for attempt in range(self.policy.max_attempts):
            seeded = self.draws.next()
            try:
                challenge = build_challenge(
                    self.source.read(seeded.draw.row),
                    draw=seeded.draw,
                    engine=self.engine,
                    netuid=metagraph.netuid,
                    block=metagraph.block,
                    attempt=attempt,
                    freshness_seed=seeded.freshness_seed if self.policy.augment else None,
                    rules=self.policy.rules,
                )
            except (RowUnreadable, ChallengeError) as error:
                self.draws.skip(seeded.draw, error.message)
                continue
            log.info("Challenge %s: row %d, %d×%d, label %r, epsilon %s, block %d", challenge.task_id,
                     seeded.draw.row, challenge.clean.shape[1], challenge.clean.shape[0], challenge.label.text,
                     challenge.epsilon, challenge.block)  # fmt: skip
            return challenge, seeded
        log.error("No challenge came out of %d attempts", self.policy.max_attempts)
        return None

    def _open(self, challenge: Challenge, seeded: SeededDraw, neurons: Sequence[Neuron]) -> OpenRound:
        """Write the challenge down before anybody sees it."""
        leaf = self._challenge_leaf(challenge, seeded, [neuron.uid for neuron in neurons])
        entry = self.journal.append(leaf)[0]
        return OpenRound(entry.position, entry.hash, leaf)

    def _challenge_leaf(self, challenge: Challenge, seeded: SeededDraw, asked: list[int]) -> ChallengeLeaf:
        state = self.journal.state
        if state.config is None or state.rules is None or state.metagraph is None:
            raise ChallengeError("config, rules and metagraph stand in the ledger before the first challenge")
        return ChallengeLeaf(
            round=state.rounds,
            config=state.config[0],
            rules=state.rules[0],
            metagraph=state.metagraph[0],
            epoch=challenge.draw.epoch,
            draw=challenge.draw.index,
            row=challenge.draw.row,
            attempt=challenge.attempt,
            block=challenge.block,
            task_id=challenge.task_id,
            nonce=secrets.token_hex(32),
            epsilon=challenge.epsilon,
            freshness=challenge.freshness.to_leaf() if challenge.freshness else {},
            true_label=challenge.label.text,
            true_index=challenge.label.index,
            source_label=challenge.source_label,
            clean_pixels=challenge.clean_digest,
            clean_logits=challenge.label.logits_digest,
            selection_seed=seeded.selection_seed.hex(),
            asked=asked,
            created_ms=self.clock.time_ns() // 10**6,
        )

    async def _ask(self, opened: OpenRound, challenge: Challenge, neurons: Sequence[Neuron]) -> None:
        """Send the challenge; note every answer before anybody looks into it."""
        self.details.clear()
        rules = self.policy.rules
        message = AttackChallenge(
            task_id=opened.leaf.task_id,
            model_name=self.engine.model_name,
            clean_image_b64=encode_base64(encode_png(challenge.clean)),
            true_label=challenge.label.text,
            epsilon=float(challenge.epsilon),
            min_delta=float(rules.min_linf_delta),
            timeout_seconds=rules.timeout_ms / 1000,
            challenge_id=opened.hash,
            protocol_fingerprint=self.policy.protocol_fingerprint,
            rules=rules,
        )
        await self.courier.query_round(
            [target_of(neuron) for neuron in neurons],
            Query.of(message),
            deadline_s=rules.timeout_ms / 1000,
            on_arrival=partial(self._note, opened),
            max_response_bytes=self.policy.max_body_bytes,
        )

    async def _note(self, opened: OpenRound, arrival: Arrival) -> None:
        """Store an answer durably, before anybody looks into it."""
        self.details[arrival.uid] = arrival.detail
        body = await asyncio.to_thread(self.journal.blobs.put, arrival.body) if arrival.body else ""
        row = ArrivalRow(
            challenge=opened.position,
            uid=arrival.uid,
            hotkey=arrival.hotkey,
            reject=arrival.reject.value,
            body=body,
            nonce=arrival.nonce,
            signature=arrival.signature,
            pixels=arrival.pixels_sha256 or "",
            response_ms=arrival.response_ms,
        )
        await asyncio.to_thread(self.journal.store.note_arrival, row)

    async def _close(self, opened: OpenRound, clean: Pixels | None) -> list[ReceiptLeaf]:
        """Judge what was noted and write the receipts; the round is over when they are on disk."""
        metagraph = self._metagraph_of(opened)
        judged = []
        if clean is not None:
            arrivals = bodies_intact(self.journal.store.arrivals(opened.position), self.journal.blobs)
            judged = await asyncio.to_thread(
                judge_arrivals, self._task(opened, clean), arrivals, self.journal.blobs, self.engine,
                duplicates=self.policy.duplicates,
            )  # fmt: skip
        receipts = write_receipts(opened, judged, metagraph, block=await self._block(opened))
        self.journal.append(*receipts)
        details = {item.arrival.uid: item.verdict.detail or self.details.get(item.arrival.uid, "") for item in judged}
        for receipt in receipts:
            log_receipt(receipt, details.get(receipt.uid, ""))
        self.draws.publish_segments()
        return receipts

    async def _block(self, opened: OpenRound) -> int:
        return max(opened.leaf.block, await self.chain.block())

    def _task(self, opened: OpenRound, clean: Pixels) -> Task:
        leaf = opened.leaf
        return Task(leaf.task_id, opened.hash, clean, leaf.true_label, leaf.epsilon, self.policy.rules,
                    self.policy.max_body_bytes)  # fmt: skip

    def _metagraph_of(self, opened: OpenRound) -> MetagraphLeaf:
        current = self.journal.state.metagraph
        if current is None or current[0] != opened.leaf.metagraph:
            raise ChallengeError(f"the metagraph at leaf {opened.leaf.metagraph} is not the current one")
        return current[1]

    def _clean_again(self, leaf: ChallengeLeaf) -> Pixels | None:
        """The image that was sent, from the data set; None when it cannot be had any more."""
        try:
            pixels = self.source.read(leaf.row).pixels
        except DatasetError as error:
            log.error("Row %d of round %d cannot be read again: %s", leaf.row, leaf.round, error)  # noqa: TRY400
            return None
        if leaf.freshness:
            pixels = apply_freshness(pixels, Freshness(**leaf.freshness))  # type: ignore[arg-type]  # checked below
        if pixel_digest(pixels) != leaf.clean_pixels:
            log.error("Row %d of round %d is not the image that was sent", leaf.row, leaf.round)
            return None
        return pixels

    async def _acknowledge(
        self, opened: OpenRound, receipts: Sequence[ReceiptLeaf], neurons: Sequence[Neuron]
    ) -> None:
        first = self.journal.state.size - len(receipts)
        entries: dict[int, Entry] = {}
        for entry in self.journal.store.entries(first):
            if isinstance(entry.leaf, ReceiptLeaf) and entry.leaf.challenge == opened.position:
                entries[entry.leaf.uid] = entry
        notes = [
            (target_of(neuron), acknowledgement(opened, entries[neuron.uid]))
            for neuron in neurons
            if neuron.uid in entries and neuron.ip is not None
        ]
        await self.courier.send_acknowledgements(notes)


def acknowledgement(opened: OpenRound, entry: Entry) -> Acknowledgement:
    """What a miner is told: where its answer stands in the log, and how it was judged."""
    leaf = entry.leaf
    if not isinstance(leaf, ReceiptLeaf):
        raise ChallengeError(f"leaf {entry.position} is a {leaf.kind}, expected a receipt")
    return Acknowledgement(
        challenge_id=opened.hash,
        body_digest=leaf.body or None,
        leaf_hash=entry.hash,
        reject=Reject(leaf.reject),
        score_ppb=leaf.score_ppb,
    )


def target_of(neuron: Neuron) -> Target:
    """Where a miner says it listens."""
    return Target(neuron.uid, neuron.hotkey, neuron.ip, neuron.port)


def metagraph_leaf(metagraph: Metagraph) -> MetagraphLeaf:
    """The snapshot as the ledger keeps it."""
    neurons: list[list[int | str]] = [
        [neuron.uid, neuron.hotkey, neuron.coldkey, int(neuron.validator_permit), neuron.ip or "", neuron.port]
        for neuron in metagraph.neurons
    ]
    return MetagraphLeaf(metagraph.block, metagraph.netuid, neurons)


def log_receipt(receipt: ReceiptLeaf, detail: str) -> None:
    """One line a miner."""
    log.info("Round %d uid %d: score %.4f %s, %d ms%s%s", receipt.round, receipt.uid, receipt.score_ppb / 1e9,
             receipt.reject, receipt.response_ms,
             f", {receipt.label_before} -> {receipt.label_after}, L-inf {receipt.linf_u8}/255, {receipt.changed} values"
             if receipt.reject == Reject.OK else "",
             f" ({detail})" if detail else "")  # fmt: skip
