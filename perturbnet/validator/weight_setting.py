"""Weights on chain: intent first, then the submission, then what became of it.

Rules
- A vector is a leaf before it is submitted. Its outcome is a leaf after.
- A vector is set in the last `window_blocks` of an epoch, so that it holds the newest rounds; a validator
  that missed an epoch, or never set any, does not wait for that. The chain's rate limit is respected before
  it has to refuse.
- Who holds which uid is read from the chain again first. A uid that is another's by now starts anew, by leaf,
  and the vector is computed after that.
- A submission that ended in doubt (our deadline passed, the socket broke, the process died) is never repeated
  blindly: the chain is read first, and only when the extrinsic can no longer be included is it absent.
- A refusal is logged with the runtime's reason. The next attempt waits, longer after each refusal, for an
  epoch at most. What the chain could only refuse (fewer weights than the subnet asks for) is not submitted.

Source: pallets/subtensor, `subnets/weights.rs`; see `chain.rules`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from perturbnet.chain import Chain, Effect, Hyperparameters, reconcile_weights, to_u16
from perturbnet.chain.protocol import RAO
from perturbnet.chain.rules import epoch_of
from perturbnet.errors import ChainError, ChainRejected, ChainTimeout, ChainUnavailable
from perturbnet.ledger.journal import Journal
from perturbnet.ledger.leaves import RulesLeaf, SubmissionLeaf, WeightsLeaf
from perturbnet.rounds.terms import metagraph_leaf, weigh
from perturbnet.rules.subnet import Metagraph
from perturbnet.rules.weights import RANK_SHARES
from perturbnet.wire.keys import Keypair

DOUBT_BLOCKS = 32  # our deadline of 120 s is 10 blocks, an extrinsic lives for 16 after it was signed
RETRY_BLOCKS = 10  # after a first refusal; twice as many after each that follows

log = logging.getLogger(__name__)


@dataclass
class WeightSetter:
    """Sets weights for one validator; without `window_blocks` at any time of an epoch."""

    journal: Journal
    chain: Chain
    keypair: Keypair
    window_blocks: int | None = None
    last_reason: str = ""
    last_said: str = ""
    refusals: int = 0

    async def run(self) -> None:
        """Settle what is in doubt; then set weights if there are any and the chain would take them.

        Raises:
            ChainError: the chain cannot be read.

        """
        await self._settle()
        rules = self.journal.state.rules
        if self.journal.state.pending_weights is not None or rules is None:
            return
        if not self._shares(rules[1]):
            return
        subnet = await self.chain.hyperparameters()
        if not await self._due(subnet):
            return
        metagraph = await self.chain.metagraph()
        self.journal.record_metagraph(metagraph_leaf(metagraph))
        shares = self._shares(rules[1])
        if not shares or self._too_few(shares, metagraph, subnet):
            return
        leaf = WeightsLeaf(
            round=self.journal.state.rounds,
            block=max(self.journal.state.block, metagraph.block, await self.chain.block()),
            rules=rules[0],
            shares_ppb=[[uid, share] for uid, share in shares.items()],
            reason=self.last_reason,
        )
        entry = self.journal.append(leaf)[0]
        await self._submit(entry.position, shares, rules[1].version)

    def _shares(self, rules: RulesLeaf) -> dict[int, int]:
        vector = weigh(self.journal.state.standings(), rules)
        if not vector.shares_ppb:
            self._say_once(vector.reason)
        self.last_reason = vector.reason
        return vector.shares_ppb

    def _say_once(self, reason: str) -> None:
        if reason != self.last_said:
            log.info("No weights are set: %s", reason)
        self.last_said = reason

    async def _due(self, subnet: Hyperparameters) -> bool:
        """Whether it is time: window, the chain's rate limit, and the wait after a refusal."""
        uid = await self.chain.uid(self.keypair.ss58_address)
        if uid is None:
            log.error("set_weights: hotkey %s is not registered any more", self.keypair.ss58_address)
            return False
        last_update = (await self.chain.weights(uid)).last_update
        block = await self.chain.block()
        if block < self._wait_until(subnet):
            return False
        if last_update == 0:  # never set, as the runtime reads it
            return True
        if block - last_update < subnet.weights_rate_limit:
            return False
        return self.window_blocks is None or is_time(
            block, last_update, tempo=subnet.tempo, netuid=self.chain.netuid, window_blocks=self.window_blocks
        )

    def _wait_until(self, subnet: Hyperparameters) -> int:
        """The block before which nothing is submitted again after a refusal; 0 when none was."""
        state = self.journal.state
        last, refused = state.last_weights, state.last_submission
        if last is None or refused is None or refused.outcome != "rejected":
            return 0
        wait = RETRY_BLOCKS << min(30, max(0, self.refusals - 1))
        return last[1].block + min(wait, subnet.tempo)

    def _too_few(self, shares: dict[int, int], metagraph: Metagraph, subnet: Hyperparameters) -> bool:
        """Whether the runtime would refuse the vector for its length; only our own uid may stand alone."""
        own = metagraph.by_hotkey(self.keypair.ss58_address)
        least = min(subnet.min_allowed_weights, len(metagraph.neurons))
        row = to_u16(shares)
        if len(row) >= least or (own is not None and list(row) == [own.uid]):
            return False
        self._say_once(f"{len(row)} miners earn, and the subnet asks for {least} weights at least")
        return True

    async def _submit(self, position: int, shares: dict[int, int], version: int) -> None:
        shown = ", ".join(f"uid {uid}: {share / 1e7:.2f} %" for uid, share in shares.items())
        try:
            submission = await self.chain.set_weights(self.keypair, to_u16(shares), version)
        except ChainRejected as error:
            log.error("set_weights refused by the chain: %s [%s]", error.message, shown)
            self.refusals += 1
            self._record(position, 0, "rejected", error.message)
        except (ChainTimeout, ChainUnavailable) as error:
            log.error("set_weights in doubt: %s; the chain is read before a retry", error.message)
            self._record(position, 0, "ambiguous", error.message)
        else:
            self.refusals, self.last_said = 0, ""
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
            block = await self.chain.block()
            effect = await reconcile_weights(self.chain, uid, to_u16(shares), leaf.block)
        except ChainError as error:
            log.warning("set_weights: still in doubt: %s", error.message)
            return
        if effect is Effect.ABSENT and block < leaf.block + DOUBT_BLOCKS:
            log.info("set_weights of leaf %d: not on chain yet, it may still come", position)
            return
        log.info("set_weights of leaf %d, ended in doubt: %s on chain", position, effect.value)
        outcome = {Effect.APPLIED: "applied", Effect.PENDING: "committed", Effect.ABSENT: "absent"}[effect]
        self._record(position, leaf.block, outcome, "read from the chain")

    def _record(self, position: int, block: int, outcome: str, detail: str) -> None:
        self.journal.append(SubmissionLeaf(position, block, outcome, detail[:500]))


def is_time(block: int, last_update: int, *, tempo: int, netuid: int, window_blocks: int) -> bool:
    """Whether `block` is in the last blocks of its epoch, or a whole epoch went by without weights."""
    length = tempo + 1
    left = length - (block + netuid + 1) % length
    missed = epoch_of(block, tempo, netuid) - epoch_of(last_update, tempo, netuid) > 1
    return left <= window_blocks or missed


def find_obstacles(
    metagraph: Metagraph, subnet: Hyperparameters, hotkey: str, *, version: int, burn_uid: int | None
) -> list[str]:
    """What keeps this validator's weights from counting, in sentences for its operator; at best none.

    Raises:
        NotRegistered: the hotkey has no uid.

    """
    own, found = metagraph.registered(hotkey), []
    if not own.validator_permit:
        stakes = [neuron.stake_rao for neuron in metagraph.neurons if neuron.validator_permit]
        least = f"; the least of those with a permit is {min(stakes) / RAO:,.2f}" if stakes else ""
        found.append(
            f"uid {own.uid} has no validator permit: its stake is {own.stake_rao / RAO:,.2f} TAO{least}. "
            "Weights are refused, or dropped when they are revealed, until it has more stake"
        )
    if version < subnet.weights_version:
        found.append(
            f"the subnet asks for version key {subnet.weights_version}, ours is {version}: weights are "
            "refused, or dropped when they are revealed; update, or set PERTURB_RULES_VERSION"
        )
    if subnet.min_allowed_weights > len(RANK_SHARES):
        found.append(
            f"the subnet asks for {subnet.min_allowed_weights} weights at least, and {len(RANK_SHARES)} "
            "miners earn at most: no weights are submitted until its owner lowers min_allowed_weights"
        )
    if burn_uid is not None and metagraph.by_uid(burn_uid) is None:
        found.append(f"PERTURB_BURN_UID is {burn_uid}, and nobody holds that uid")
    return found
