"""One round, top to bottom: draw, challenge, ask, note and judge, record, acknowledge.

Written ahead at every step: the challenge before it is sent, each response before it is verified (which
begins while others still arrive, `validator.judging`), the receipts before they count. `recover` closes a
round that a crash or a silent chain cut short, by the same steps from "judge" on; none begins before that.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from perturbnet.chain import Chain
from perturbnet.datasets import ImageSource
from perturbnet.errors import ChainUnavailable, ChallengeError, DatasetError, RowUnreadable
from perturbnet.ledger import ArrivalRow, OpenRound, forget_responses
from perturbnet.ledger.journal import Journal
from perturbnet.ledger.leaves import ChallengeLeaf, ReceiptLeaf
from perturbnet.rounds.acknowledgements import acknowledgement, describe, read_terms
from perturbnet.rounds.challenges import Challenge, clean_image
from perturbnet.rounds.draws import EpochDraws, SeededDraw
from perturbnet.rounds.judging import Evidence, Judges, Judging
from perturbnet.rounds.policy import RoundPolicy
from perturbnet.rounds.posing import challenge_leaf, challenge_message, pose
from perturbnet.rounds.receipts import Judged, build_task, write_receipts
from perturbnet.rounds.terms import metagraph_leaf
from perturbnet.rules.classification import Classification, Engine
from perturbnet.rules.selection import candidates, select_miners
from perturbnet.rules.subnet import Metagraph
from perturbnet.runtime.clock import Clock
from perturbnet.runtime.watchdog import Expect, expect_nothing
from perturbnet.transport import Arrival, Delivery, Query
from perturbnet.validator.courier import Courier, first_of_ours
from perturbnet.wire.images import Pixels, pixel_digest
from perturbnet.wire.messages import response_limit_bytes

TELL_WITHIN_S = 5.0
# For the watchdog: the very most a step may take, ten times what the slowest machine was seen to need.
CHAIN_STEP_S = 600.0
CHALLENGE_STEP_S = 120.0
JUDGE_ANSWER_S = 30.0
SLACK_S = 60.0

log = logging.getLogger(__name__)


class Found(NamedTuple):
    """A draw that made a challenge."""

    challenge: Challenge
    seeded: SeededDraw


@dataclass
class Rounds:
    """Runs rounds; all outside worlds are given."""

    journal: Journal
    draws: EpochDraws
    chain: Chain
    courier: Courier
    engine: Engine
    source: ImageSource
    hotkey: str
    policy: RoundPolicy
    clock: Clock
    telling: asyncio.Task[list[Delivery]] | None = None
    expect: Expect = expect_nothing
    judges: Judges = field(default_factory=Judges)

    async def run(self) -> list[ReceiptLeaf] | None:
        """Run one round to its receipts; None when no challenge came out of it.

        Raises:
            ChainError: the chain cannot be read. A round that was open stays open; the next call closes it.
            LedgerError: nothing can be recorded.

        """
        await self.recover()
        self.expect("reading the metagraph", CHAIN_STEP_S)
        metagraph = await self.chain.metagraph()
        if metagraph.block < self.journal.state.block:
            head, newest = metagraph.block, self.journal.state.block
            raise ChainUnavailable(f"the node lags behind: block {head}, the ledger is at {newest}")
        self.journal.record_metagraph(metagraph_leaf(metagraph))
        if not candidates(metagraph, self.hotkey, self.policy.selection):
            log.warning("Nobody to ask: no miner is registered besides this validator")
            return None
        found = await self._find_challenge(metagraph)
        if found is None:
            return None
        opened = self._open(found, metagraph)
        async with self._judging(opened, found.challenge.clean, found.challenge.label) as judging:
            details = await self._ask(opened, found.challenge, judging)
            return await self._close(opened, judging, details)

    async def recover(self) -> None:
        """Close the round that was left open, if there is one."""
        opened = self.journal.state.open_round
        if opened is None:
            return
        self.expect("reading the image of a round that was cut short", CHALLENGE_STEP_S)
        noted, asked = len(self.journal.store.arrivals(opened.position)), len(opened.leaf.asked)
        log.warning(
            "Round %d was cut short with %d of %d answers noted: closing it", opened.leaf.round, noted, asked
        )
        clean = await asyncio.to_thread(self._clean_again, opened.leaf)
        if clean is None:
            await self._close(opened, None, {})
            return
        async with self._judging(opened, clean) as judging:
            await self._close(opened, judging, {})

    async def _find_challenge(self, metagraph: Metagraph) -> Found | None:
        """Draw rows until one makes a challenge; what does not is skipped once and recorded."""
        for attempt in range(self.policy.max_attempts):
            self.expect("making a challenge", CHALLENGE_STEP_S)
            seeded = self.draws.next()
            try:
                challenge = await self.judges.ask_model(partial(self._build, seeded, metagraph, attempt))
            except (RowUnreadable, ChallengeError) as error:
                self.draws.skip(seeded.draw, error.message)
                continue
            height, width, _ = challenge.clean.shape
            shown = f"row {seeded.draw.row}, {width}×{height}, label {challenge.label.text!r}"
            log.info(
                "Challenge %s: %s, epsilon %s, block %d",
                challenge.task_id,
                shown,
                challenge.epsilon,
                challenge.block,
            )
            return Found(challenge, seeded)
        log.error("No challenge came out of %d attempts", self.policy.max_attempts)
        return None

    def _build(self, seeded: SeededDraw, metagraph: Metagraph, attempt: int) -> Challenge:
        challenge = pose(
            self.source.read(seeded.draw.row),
            seeded,
            self.engine,
            self.policy,
            netuid=metagraph.netuid,
            block=metagraph.block,
            attempt=attempt,
        )
        needed = response_limit_bytes(challenge.clean.shape[0], challenge.clean.shape[1])
        if needed > self.policy.max_body_bytes:
            raise ChallengeError(
                f"an honest answer may take {needed} bytes, allowed are {self.policy.max_body_bytes}"
            )
        return challenge

    def _open(self, found: Found, metagraph: Metagraph) -> OpenRound:
        """Choose the miners, and write the challenge down before anybody sees it."""
        chosen = select_miners(
            metagraph,
            own_hotkey=self.hotkey,
            processed=self.journal.state.processed(),
            rules=self.policy.selection,
            seed=found.seeded.selection_seed,
        )
        uids = [neuron.uid for neuron in chosen.neurons]
        log.info("Selected %d miners (%d for exploration): uids %s", len(uids), chosen.explored, uids)
        leaf = challenge_leaf(
            self.journal.state,
            found.challenge,
            found.seeded,
            uids,
            nonce=secrets.token_hex(32),
            created_ms=self.clock.time_ns() // 10**6,
        )
        entry = self.journal.append(leaf)[0]
        return OpenRound(entry.position, entry.hash, leaf)

    async def _ask(self, opened: OpenRound, challenge: Challenge, judging: Judging) -> dict[int, str]:
        """Send the challenge; note every answer before anybody looks into it. Details for the log, by uid."""
        message = challenge_message(opened, challenge, self.policy, model_name=self.engine.model_name)
        self.expect("asking miners", self._timeout_s() + SLACK_S)
        try:
            arrivals = await self.courier.query_round(
                read_terms(self.journal, opened.leaf).targets,
                Query.of(message),
                deadline_s=self._timeout_s(),
                on_arrival=partial(self._note, opened, judging),
                max_response_bytes=response_limit_bytes(challenge.clean.shape[0], challenge.clean.shape[1]),
            )
        except ExceptionGroup as group:
            raise first_of_ours(group) from group
        return {arrival.uid: arrival.detail for arrival in arrivals}

    async def _note(self, opened: OpenRound, judging: Judging, arrival: Arrival) -> None:
        """Store an answer durably, then let it be judged."""
        judging.offer(await asyncio.to_thread(self._store, opened.position, arrival))

    def _store(self, position: int, arrival: Arrival) -> ArrivalRow:
        """First the body, then the row that names it."""
        row = ArrivalRow(
            challenge=position,
            uid=arrival.uid,
            hotkey=arrival.hotkey,
            reject=arrival.reject.value,
            body=self.journal.blobs.put(arrival.body) if arrival.body else "",
            nonce=arrival.nonce,
            signature=arrival.signature,
            response_ms=arrival.response_ms,
        )
        self.journal.store.note_arrival(row)
        return row

    async def _close(
        self, opened: OpenRound, judging: Judging | None, details: dict[int, str]
    ) -> list[ReceiptLeaf]:
        """Wait for the verdicts and write the receipts; the round is over when they are on disk."""
        terms = read_terms(self.journal, opened.leaf)
        judged: list[Judged] = []
        if judging is not None:
            asked = len(opened.leaf.asked)
            self.expect(f"judging up to {asked} answers", asked * JUDGE_ANSWER_S + SLACK_S)
            rows = await asyncio.to_thread(self.journal.store.arrivals, opened.position)
            judged = await judging.finish(rows, duplicates=terms.duplicates)
        self.expect("writing receipts", CHAIN_STEP_S)
        block = max(opened.leaf.block, await self.chain.block())
        receipts = write_receipts(opened, terms, judged, block=block)
        entries = self.journal.append(*receipts)
        details |= {item.arrival.uid: item.verdict.detail for item in judged if item.verdict.detail}
        for receipt in receipts:
            log.info("%s", describe(receipt, details.get(receipt.uid, "")))
        self.draws.publish_segments()
        forget_responses(self.journal.store, self.journal.blobs, keep_rounds=self.policy.keep_bodies_rounds)
        notes = [
            (target, acknowledgement(opened, entry, receipt))
            for target, entry, receipt in zip(terms.targets, entries, receipts, strict=True)
            if target.host is not None
        ]
        await self.finish_telling()
        self.telling = asyncio.create_task(
            self.courier.send_acknowledgements(notes, timeout_s=min(TELL_WITHIN_S, self._timeout_s()))
        )
        return receipts

    def _timeout_s(self) -> float:
        return self.policy.rules.timeout_ms / 1000

    async def finish_telling(self) -> None:
        """Wait until the newest acknowledgements are sent; a silent miner does not hold up the next round."""
        if self.telling is not None:
            await self.telling
            self.telling = None

    def _judging(self, opened: OpenRound, clean: Pixels, label: Classification | None = None) -> Judging:
        """Verdicts on answers to this image, as they are noted; `label` is the model's word on it."""
        task = build_task(opened, read_terms(self.journal, opened.leaf), clean)
        evidence = Evidence(self.journal.blobs, self.journal.deltas)
        return Judging(self.judges, task, self.engine, evidence, clean=label)

    def _clean_again(self, leaf: ChallengeLeaf) -> Pixels | None:
        """The image that was sent, from the data set; None when its answers cannot be judged any more."""
        terms = read_terms(self.journal, leaf)
        if (terms.engine, terms.model_digest) != (self.engine.name, self.engine.model_digest):
            log.error(
                "Round %d belongs to another model: %s %s", leaf.round, terms.engine, terms.model_digest
            )
            return None
        try:
            pixels = clean_image(self.source.read(leaf.row), leaf.freshness)
        except DatasetError as error:
            log.error("Row %d of round %d cannot be read again: %s", leaf.row, leaf.round, error)
            return None
        if pixel_digest(pixels) != leaf.clean_pixels:
            log.error("Row %d of round %d is not the image that was sent", leaf.row, leaf.round)
            return None
        return pixels
