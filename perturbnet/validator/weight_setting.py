"""Weights on chain: intent first, then the submission, then what became of it.

Rules
- A vector is a leaf before it is submitted. Its outcome is a leaf after.
- A submission that ended in doubt (our deadline passed, the socket broke, the process died) is never repeated blindly: the chain is
  read first.
- The chain's rate limit is respected before it has to refuse; a refusal is logged with the runtime's own reason.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from perturbnet.chain import Chain, Effect, reconcile_weights, to_u16
from perturbnet.errors import ChainError, ChainRejected, ChainTimeout, ChainUnavailable
from perturbnet.identity import Keypair
from perturbnet.ledger.leaves import SubmissionLeaf, WeightsLeaf
from perturbnet.validator.journal import Journal
from perturbnet.weights import compute_weights

log = logging.getLogger(__name__)


@dataclass
class WeightSetter:
    """Sets weights for one validator."""

    journal: Journal
    chain: Chain
    keypair: Keypair
    burn_uid: int | None
    last_reason: str = ""

    async def run(self) -> None:
        """Settle what is in doubt; then set weights if there are any and the chain would take them."""
        await self._settle()
        if self.journal.state.pending_weights is not None:
            return
        shares = self._shares()
        if not shares or not await self._due():
            return
        block = await self.chain.block()
        position = self._intend(shares, block)
        await self._submit(position, shares)

    def _shares(self) -> dict[int, int]:
        rules = self.journal.state.rules
        if rules is None:
            return {}
        vector = compute_weights(
            self.journal.state.standings(),
            history_size=int(rules[1].history["history_size"]),
            min_processed=int(rules[1].history["min_processed_count"]),
            burn_uid=self.burn_uid,
        )
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
        shown = await self.chain.weights(uid)
        return await self.chain.block() - shown.last_update >= limit

    def _intend(self, shares: dict[int, int], block: int) -> int:
        rules = self.journal.state.rules
        leaf = WeightsLeaf(
            round=self.journal.state.rounds,
            block=block,
            rules=rules[0] if rules else -1,
            shares_ppb=[[uid, share] for uid, share in shares.items()],
            reason=self.last_reason,
        )
        return self.journal.append(leaf)[0].position

    async def _submit(self, position: int, shares: dict[int, int]) -> None:
        rules = self.journal.state.rules
        version = rules[1].version if rules else 0
        shown = ", ".join(f"uid {uid}: {share / 1e7:.2f} %" for uid, share in shares.items())
        try:
            submission = await self.chain.set_weights(self.keypair, to_u16(shares), version)
        except ChainRejected as error:
            log.error("set_weights refused by the chain: %s [%s]", error.message, shown)  # noqa: TRY400 - its reason is all
            self._record(position, 0, "rejected", error.message)
        except (ChainTimeout, ChainUnavailable) as error:
            log.error("set_weights ended in doubt: %s; the chain is read before a retry", error.message)  # noqa: TRY400
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
