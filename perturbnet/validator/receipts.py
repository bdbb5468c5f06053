"""From what arrived to receipts: one code for a round that just ended and for one that a crash cut short.

It reads the arrivals and the blobs back from the disk, never from memory, so recovery is the path of every
day; and it judges by what the open round's own leaves say (`Terms`), never by today's settings. The rules
themselves are `perturbnet.receipts`, which the auditor calls too.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from perturbnet.classifier import Engine
from perturbnet.deltas import encode_delta
from perturbnet.errors import ArtifactError, Reject
from perturbnet.ledger import ArrivalRow, BlobStore, Entry, OpenRound
from perturbnet.ledger.leaves import ChallengeLeaf, ConfigLeaf, MetagraphLeaf, ReceiptLeaf, RulesLeaf
from perturbnet.protocol import Acknowledgement
from perturbnet.receipts import Answer, Judged, judge_answers
from perturbnet.terms import Terms, build_terms
from perturbnet.validator.journal import Journal
from perturbnet.verification import Pixels, Task

log = logging.getLogger(__name__)


def read_terms(journal: Journal, challenge: ChallengeLeaf) -> Terms:
    """Look up the leaves a challenge refers to.

    Raises:
        LedgerCorrupt: one of them is not there, or does not list a miner that was asked.

    """
    rules = journal.leaf_at(challenge.rules, RulesLeaf)
    config = journal.leaf_at(challenge.config, ConfigLeaf)
    return build_terms(challenge, config, rules, journal.leaf_at(challenge.metagraph, MetagraphLeaf))


def judge_arrivals(
    task: Task, arrivals: list[ArrivalRow], blobs: BlobStore, engine: Engine, *, duplicates: str
) -> list[Judged]:
    """Verify and score what arrived, in the order of `arrivals`; one whose body is lost is left out."""
    bodies = _read_bodies(arrivals, blobs)
    answers = [Answer(row, body=bodies[row.uid]) for row in arrivals if row.uid in bodies]
    return judge_answers(task, answers, engine, duplicates=duplicates)


def keep_deltas(judged: list[Judged], clean: Pixels, deltas: BlobStore) -> list[Judged]:
    """Store what each answer changed, durably, before a receipt names it.

    Raises:
        LedgerError: it cannot be written.

    """
    return [
        item
        if item.pixels is None
        else replace(item, pixels=None, delta=deltas.put(encode_delta(clean, item.pixels)))
        for item in judged
    ]


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
    parts = [f"Round {receipt.round} uid {receipt.uid}: score {receipt.score_ppb / 1e9:.4f} {receipt.reject}"]
    if receipt.reject != Reject.INTERRUPTED:
        parts.append(f"{receipt.response_ms} ms")
    if receipt.reject == Reject.OK:
        parts.append(f"{receipt.label_before} -> {receipt.label_after}")
        parts.append(f"L-inf {receipt.linf_u8}/255, {receipt.changed} values")
    return ", ".join(parts) + (f" ({detail})" if detail else "")


def _read_bodies(arrivals: list[ArrivalRow], blobs: BlobStore) -> dict[int, bytes]:
    """Bodies by uid, empty for an arrival that has none; one that cannot be read back is left out."""
    bodies: dict[int, bytes] = {}
    for row in arrivals:
        try:
            bodies[row.uid] = blobs.get(row.body) if row.body else b""
        except ArtifactError as error:
            log.error("The answer of uid %d is lost: %s", row.uid, error.message)  # noqa: TRY400 - a sentence
    return bodies
