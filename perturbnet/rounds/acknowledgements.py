"""What a round is judged by, and what miners and the log are told of its receipts.

A round is judged by what its own leaves say (`Terms`), never by today's settings. The rules themselves are
`perturbnet.rounds.receipts`, which the auditor calls too; `validator.judging` applies them to what is stored.
"""

from __future__ import annotations

from perturbnet.errors import Reject
from perturbnet.ledger import Entry, OpenRound
from perturbnet.ledger.journal import Journal
from perturbnet.ledger.leaves import ChallengeLeaf, ConfigLeaf, MetagraphLeaf, ReceiptLeaf, RulesLeaf
from perturbnet.rounds.terms import Terms, build_terms
from perturbnet.wire.messages import Acknowledgement
from perturbnet.wire.units import from_ppb


def read_terms(journal: Journal, challenge: ChallengeLeaf) -> Terms:
    """Look up the leaves a challenge refers to.

    Raises:
        LedgerCorrupt: one of them is not there, or does not list a miner that was asked.

    """
    rules = journal.leaf_at(challenge.rules, RulesLeaf)
    config = journal.leaf_at(challenge.config, ConfigLeaf)
    return build_terms(challenge, config, rules, journal.leaf_at(challenge.metagraph, MetagraphLeaf))


def acknowledgement(opened: OpenRound, entry: Entry, receipt: ReceiptLeaf) -> Acknowledgement:
    """What a miner is told: where its answer stands in the log, and how it was judged."""
    return Acknowledgement(
        challenge_id=opened.hash,
        body_digest=receipt.body or None,
        leaf=entry.position,
        leaf_hash=entry.hash,
        reject=Reject(receipt.reject),
        score_ppb=receipt.score_ppb,
    )


def describe(receipt: ReceiptLeaf, detail: str) -> str:
    """One line for the log."""
    parts = [
        f"Round {receipt.round} uid {receipt.uid}: score {from_ppb(receipt.score_ppb):.4f} {receipt.reject}"
    ]
    if receipt.reject != Reject.INTERRUPTED:
        parts.append(f"{receipt.response_ms} ms")
    if receipt.reject == Reject.OK:
        parts.append(f"{receipt.label_before} -> {receipt.label_after}")
        parts.append(f"L-inf {receipt.linf_u8}/255, {receipt.changed} values")
    return ", ".join(parts) + (f" ({detail})" if detail else "")
