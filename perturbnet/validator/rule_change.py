"""Another set of rules from a block on, the same block for everybody.

Rules
- PERTURB_RULES_ACTIVATION_BLOCK names the block. Before it a validator goes on under the rules of its ledger,
  whatever its settings say; at the first round from that block on the settings' rules become a leaf and hold.
- The rules travel with every challenge, and its leaf names theirs. So miners and auditors need no date, and
  validators that have changed work beside those that have not.
- The version key of the weights is that of the rules in the ledger, so it changes at the same moment.
- A ledger that has no rules yet begins with those of the settings.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from msgspec import structs

from perturbnet.errors import LedgerCorrupt
from perturbnet.ledger.journal import Journal
from perturbnet.ledger.leaves import RulesLeaf
from perturbnet.rounds.policy import RoundPolicy
from perturbnet.rounds.terms import read_gates, read_selection
from perturbnet.rules.freshness import FRESHNESS_FORMS

log = logging.getLogger(__name__)


class RuleChange:
    """The settings' rules, and from when they hold."""

    def __init__(self, journal: Journal, wanted: RoundPolicy, leaf: RulesLeaf) -> None:
        """`leaf` are the rules of `wanted`; its activation block may lie ahead."""
        self._journal, self._wanted, self._leaf = journal, wanted, leaf
        self.pending = True

    def policy_at(self, block: int) -> RoundPolicy:
        """What a round at `block` is run under; rules that begin to hold become a leaf.

        Raises:
            LedgerCorrupt: the ledger's rules are none.
            LedgerError: nothing can be recorded.

        """
        current = self._journal.state.rules
        begins = self._leaf.activation_block
        if current is not None and block < begins:
            log.info(
                "Rules %d hold until block %d, then rules %d", current[1].version, begins, self._leaf.version
            )
            return read_policy(current[1], self._wanted)
        self._journal.record_rules(structs.replace(self._leaf, activation_block=min(begins, block)))
        self.pending = False
        return self._wanted


def read_policy(leaf: RulesLeaf, policy: RoundPolicy) -> RoundPolicy:
    """The policy with these rules instead of its own; raises `LedgerCorrupt` where they are none."""
    return replace(
        policy,
        rules=read_gates(leaf),
        selection=read_selection(leaf),
        duplicates=str(leaf.history["duplicates"]),
        augment=_read_freshness(leaf),
        max_attempts=leaf.challenges["max_attempts"],
        max_body_bytes=leaf.challenges["max_body_bytes"],
    )


def _read_freshness(leaf: RulesLeaf) -> int:
    form = leaf.challenges["augment"]
    if form not in {0, *FRESHNESS_FORMS}:
        raise LedgerCorrupt(f"a rules leaf with freshness {form}: this version knows 0, {FRESHNESS_FORMS}")
    return form
