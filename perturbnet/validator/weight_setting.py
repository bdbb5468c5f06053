"""Weights on chain: intent first, then the submission, then what became of it.

Rules
- A vector is a leaf before it is submitted. Its outcome is a leaf after.
- A submission that ended in doubt (our deadline passed, the socket broke, the process died) is never repeated
  blindly: the chain is read first.
- The chain's rate limit is respected before it has to refuse; a refusal is logged with the runtime's reason.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from perturbnet.chain import Chain, Effect, reconcile_weights, to_u16
from perturbnet.errors import ChainError, ChainRejected, ChainTimeout, ChainUnavailable
from perturbnet.identity import Keypair
from perturbnet.ledger.leaves import RulesLeaf, SubmissionLeaf, WeightsLeaf
from perturbnet.terms import weigh
from perturbnet.validator.journal import Journal

log = logging.getLogger(__name__)


@dataclass
class WeightSetter:
    """Sets weights for one validator."""

    journal: Journal
    chain: Chain
    keypair: Keypair
    last_reason: str = ""

    async def run(self) -> None:
        """Settle what is in doubt; then set weights if there are any and the chain would take them.

        Raises:
            ChainError: the chain cannot be read.

        """
        await self._settle()
        rules = self.journal.state.rules
        if self.journal.state.pending_weights is not None or rules is None:
            return
        shares = self._shares(rules[1])
        if not shares or not await self._due():
            return
        leaf = WeightsLeaf(
            round=self.journal.state.rounds,
            block=await self.chain.block(),
            rules=rules[0],
            shares_ppb=[[uid, share] for uid, share in shares.items()],
            reason=self.last_reason,
        )
        entry = self.journal.append(leaf)[0]
        await self._submit(entry.position, shares, rules[1].version)

    def _shares(self, rules: RulesLeaf) -> dict[int, int]:
        vector = weigh(self.journal.state.standings(), rules)
        if not vector.shares_ppb and vector.reason != self.last_reason:
            log.info("No weights are set: %s", vector.reason)
        self.last_reason = vector.reason
        return vector.shares_ppb

    async def _due(self) -> bool:
        """Whether the chain's rate limit has passed since our last weights."""
        uid = await self.chain.uid(self.keypair.ss58_address)
        if uid is None:
            log.error("set_weights: hotkey %s is not registered any more", self.keypair.ss58_address)
            return False
        limit = (await self.chain.hyperparameters()).weights_rate_limit
        last_update = (await self.chain.weights(uid)).last_update
        never_set = last_update == 0  # as the runtime reads it
        return never_set or await self.chain.block() - last_update >= limit

    async def _submit(self, position: int, shares: dict[int, int], version: int) -> None:
        shown = ", ".join(f"uid {uid}: {share / 1e7:.2f} %" for uid, share in shares.items())
        try:
            submission = await self.chain.set_weights(self.keypair, to_u16(shares), version)
        except ChainRejected as error:
            log.error("set_weights refused by the chain: %s [%s]", error.message, shown)  # noqa: TRY400 - a sentence
            self._record(position, 0, "rejected", error.message)
        except (ChainTimeout, ChainUnavailable) as error:
            log.error("set_weights in doubt: %s; the chain is read before a retry", error.message)  # noqa: TRY400
            self._record(position, 0, "ambiguous", error.message)
        else:
            outcome = "set" if submission.mode == "set" else "committed"
            log.info("set_weights: %s at block %d [%s]", outcome, submission.block, shown)
            self._record(position, submission.block, outcome, submission.reference)

    async def _settle(self) -> None:
        """Find out what became of weights whose outcome is not known."""
        pending = self.journal.state.pending_weights
        if pending is None:
            return
        position, leaf = pending
        try:
            uid = await self.chain.uid(self.keypair.ss58_address)
            if uid is None:
                log.error("set_weights: still in doubt: hotkey %s has no uid", self.keypair.ss58_address)
                return
            shares = {share[0]: share[1] for share in leaf.shares_ppb}
            effect = await reconcile_weights(self.chain, uid, to_u16(shares), leaf.block)
        except ChainError as error:
            log.warning("set_weights: still in doubt: %s", error.message)
            return
        log.info("set_weights of leaf %d, ended in doubt: %s on chain", position, effect.value)
        outcome = {Effect.APPLIED: "applied", Effect.PENDING: "committed", Effect.ABSENT: "absent"}[effect]
        self._record(position, leaf.block, outcome, "read from the chain")

    def _record(self, position: int, block: int, outcome: str, detail: str) -> None:
        self.journal.append(SubmissionLeaf(position, block, outcome, detail[:500]))
