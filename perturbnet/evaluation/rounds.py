"""The rounds of an evaluation: every image once, written down before it is attacked and before it counts.

It is the validator's round without a network: draw, challenge, attack, note, judge, record. Challenges are
built, answers verified and receipts written by the functions that validator and auditor call. A run that was
killed finds its open round: answers that were noted are judged, attacks that had not answered search again.

What stands where a chain would be: `block` is the number of the round, and everybody is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from perturbnet.datasets import ImageSource
from perturbnet.errors import ChallengeError, DigestMismatch
from perturbnet.evaluation.attackers import NETUID, Arena, Attacker, answer
from perturbnet.ledger import OpenRound, forget_responses
from perturbnet.ledger.journal import Journal
from perturbnet.ledger.leaves import ChallengeLeaf, ReceiptLeaf
from perturbnet.rounds.acknowledgements import describe, read_terms
from perturbnet.rounds.challenges import Challenge, clean_image
from perturbnet.rounds.draws import EpochDraws, SeededDraw
from perturbnet.rounds.policy import RoundPolicy
from perturbnet.rounds.posing import challenge_leaf, pose
from perturbnet.rounds.receipts import Judged, build_task, judge_answers, read_answer, write_receipts
from perturbnet.rules.selection import select_miners
from perturbnet.rules.subnet import Metagraph
from perturbnet.rules.verification import Verification
from perturbnet.runtime.clock import Clock
from perturbnet.wire.deltas import encode_delta
from perturbnet.wire.images import Pixels, pixel_digest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Done:
    """One image, judged: what it was asked, and a receipt for each attack."""

    challenge: ChallengeLeaf
    receipts: list[ReceiptLeaf]


@dataclass
class Evaluation:
    """Runs the rounds; all outside worlds are given."""

    journal: Journal
    draws: EpochDraws
    source: ImageSource
    arena: Arena
    attackers: list[Attacker]
    metagraph: Metagraph
    policy: RoundPolicy
    clock: Clock
    new_nonce: Callable[[], str]

    def step(self) -> Done | None:
        """Judge the next image; None when every image was judged.

        Raises:
            AttackError: an attack failed; its image stays open, and the next run begins with it.
            LedgerError: nothing can be recorded.
            DatasetError, DigestMismatch: an image is not there any more, or not the one that was recorded.

        """
        opened = self.journal.state.open_round or self._open_next()
        return None if opened is None else self._close(opened)

    @property
    def judged(self) -> int:
        """How many images are behind us, those that gave no challenge included."""
        epoch = self.journal.state.epoch
        return 0 if epoch is None else epoch.cursor - (self.journal.state.open_round is not None)

    def _open_next(self) -> OpenRound | None:
        """Draw until an image makes a challenge; write it down before it is attacked."""
        while True:
            epoch = self.journal.state.epoch
            if epoch is not None and epoch.finished:
                self.draws.publish_segments()
                return None
            seeded = self.draws.next()
            try:
                challenge = self._build(seeded)
            except ChallengeError as error:
                self.draws.skip(seeded.draw, error.message)
                continue
            leaf = self._leaf(challenge, seeded)
            entry = self.journal.append(leaf)[0]
            return OpenRound(entry.position, entry.hash, leaf)

    def _build(self, seeded: SeededDraw) -> Challenge:
        return pose(
            self.source.read(seeded.draw.row),
            seeded,
            self.arena.engine,
            self.policy,
            netuid=NETUID,
            block=self.journal.state.rounds,
        )

    def _leaf(self, challenge: Challenge, seeded: SeededDraw) -> ChallengeLeaf:
        chosen = select_miners(
            self.metagraph,
            own_hotkey=self.arena.judge_hotkey,
            processed=self.journal.state.processed(),
            rules=self.policy.selection,
            seed=seeded.selection_seed,
        )
        return challenge_leaf(
            self.journal.state,
            challenge,
            seeded,
            [neuron.uid for neuron in chosen.neurons],
            nonce=self.new_nonce(),
            created_ms=self.clock.time_ns() // 10**6,
        )

    def _close(self, opened: OpenRound) -> Done:
        """Ask every attack that has not answered yet; judge all answers; the receipts end the round."""
        terms, clean = read_terms(self.journal, opened.leaf), self._clean(opened)
        task = build_task(opened, terms, clean)
        label = self.arena.engine.classify([clean])[0]
        noted = {row.uid for row in self.journal.store.arrivals(opened.position)}
        for attacker in self.attackers:
            if attacker.uid not in noted:
                given = answer(self.arena, attacker, opened, task, label)
                self.journal.blobs.put(given.body)
                self.journal.store.note_arrival(given.row)
        rows = self.journal.store.arrivals(opened.position)
        verification = Verification(task, self.arena.engine, label)
        answers = [(row, read_answer(verification, row, self.journal.blobs.get(row.body))) for row in rows]
        judged = judge_answers(verification, answers, duplicates=terms.duplicates)
        stored = [self._keep_delta(clean, item) for item in judged]
        receipts = write_receipts(opened, terms, stored, block=opened.leaf.block)
        self.journal.append(*receipts)
        for receipt in receipts:
            log.info("%s", describe(receipt, ""))
        forget_responses(self.journal.store, self.journal.blobs, keep_rounds=1)
        return Done(opened.leaf, receipts)

    def _clean(self, opened: OpenRound) -> Pixels:
        pixels = clean_image(self.source.read(opened.leaf.row), opened.leaf.freshness)
        found = pixel_digest(pixels)
        if found != opened.leaf.clean_pixels:
            raise DigestMismatch(
                f"row {opened.leaf.row} of round {opened.leaf.round}", opened.leaf.clean_pixels, found
            )
        return pixels

    def _keep_delta(self, clean: Pixels, judged: Judged) -> Judged:
        """Store what an answer changed, before a receipt names it."""
        if judged.pixels is None:
            return judged
        return replace(judged, delta=self.journal.deltas.put(encode_delta(clean, judged.pixels)))
