"""From what arrived to receipts: one code for a round that just ended and for one that a crash cut short.

It reads the arrivals and the blobs back from the disk, never from memory, so recovery is the path of every
day; and it judges by what the open round's own leaves say (`Terms`), never by today's settings.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from perturbnet.classifier import Engine
from perturbnet.errors import ArtifactError, LedgerCorrupt, Reject
from perturbnet.ledger import ArrivalRow, BlobStore, Entry, OpenRound
from perturbnet.ledger.leaves import ChallengeLeaf, ConfigLeaf, MetagraphLeaf, ReceiptLeaf, RulesLeaf
from perturbnet.protocol import Acknowledgement, Rules, response_limit_bytes
from perturbnet.scoring import score_verdict, settle_duplicates
from perturbnet.transport import Target
from perturbnet.validator.journal import Journal
from perturbnet.verification import Pixels, Task, Verdict, verify_round

NO_ONE = -1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Terms:
    """What a challenge was sent under, as its leaves say: rules, model, where each asked miner listens."""

    rules: Rules
    duplicates: str
    engine: str
    model_digest: str
    targets: tuple[Target, ...]


@dataclass(frozen=True)
class Judged:
    """An arrival with its verdict and score."""

    arrival: ArrivalRow
    verdict: Verdict
    score_ppb: int


def read_terms(journal: Journal, challenge: ChallengeLeaf) -> Terms:
    """Look up the leaves a challenge refers to.

    Raises:
        LedgerCorrupt: one of them is not there, or does not list a miner that was asked.

    """
    rules = journal.leaf_at(challenge.rules, RulesLeaf)
    config = journal.leaf_at(challenge.config, ConfigLeaf)
    metagraph = journal.leaf_at(challenge.metagraph, MetagraphLeaf)
    known = {int(uid): (str(hotkey), str(ip), int(port)) for uid, hotkey, _, _, ip, port in metagraph.neurons}
    missing = sorted(set(challenge.asked) - set(known))
    if missing:
        raise LedgerCorrupt(f"round {challenge.round}: uids {missing} are not in its metagraph leaf")
    targets = []
    for uid in challenge.asked:
        hotkey, ip, port = known[uid]
        targets.append(Target(uid, hotkey, ip or None, port))
    return Terms(
        rules=Rules.model_validate(rules.gates),
        duplicates=str(rules.history["duplicates"]),
        engine=config.engine,
        model_digest=config.model_digest,
        targets=tuple(targets),
    )


def build_task(opened: OpenRound, rules: Rules, clean: Pixels) -> Task:
    """What the answers of a round are verified against."""
    leaf = opened.leaf
    return Task(
        task_id=leaf.task_id,
        challenge_id=opened.hash,
        clean=clean,
        true_label=leaf.true_label,
        epsilon=leaf.epsilon,
        rules=rules,
        max_body_bytes=response_limit_bytes(clean.shape[0], clean.shape[1]),
    )


def judge_arrivals(
    task: Task, arrivals: list[ArrivalRow], blobs: BlobStore, engine: Engine, *, duplicates: str
) -> list[Judged]:
    """Verify and score what arrived, in the order of `arrivals`; one whose body is lost is left out."""
    bodies = _read_bodies(arrivals, blobs)
    kept = [row for row in arrivals if row.uid in bodies]
    whole = [row for row in kept if row.reject == Reject.OK]
    found = verify_round(task, [(bodies[row.uid], row.pixels or None) for row in whole], engine)
    verdicts = {row.uid: Verdict(Reject(row.reject)) for row in kept}
    verdicts |= {row.uid: verdict for row, verdict in zip(whole, found, strict=True)}
    scores = {
        row.uid: score_verdict(
            verdicts[row.uid], epsilon=task.epsilon, rules=task.rules, response_ms=row.response_ms
        )
        for row in kept
    }
    pixels = {uid: verdict.adversarial_pixels for uid, verdict in verdicts.items()}
    settled = settle_duplicates(scores, pixels, duplicates)
    return [Judged(row, verdicts[row.uid], settled[row.uid]) for row in kept]


def write_receipts(opened: OpenRound, terms: Terms, judged: list[Judged], *, block: int) -> list[ReceiptLeaf]:
    """One receipt for every miner that was asked; who has no verdict was cut off by the validator itself."""
    found = {item.arrival.uid: item for item in judged}
    first = _first_with_same_pixels(judged)
    receipts = []
    for target in terms.targets:
        item = found.get(target.uid) or _interrupted(opened, target)
        receipts.append(_receipt(opened, item, block, first.get(target.uid, NO_ONE)))
    return receipts


def acknowledgement(opened: OpenRound, entry: Entry, receipt: ReceiptLeaf) -> Acknowledgement:
    """What a miner is told: where its answer stands in the log, and how it was judged."""
    return Acknowledgement(
        challenge_id=opened.hash,
        body_digest=receipt.body or None,
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


def _interrupted(opened: OpenRound, target: Target) -> Judged:
    row = ArrivalRow(opened.position, target.uid, target.hotkey, Reject.INTERRUPTED.value, "", "", "", "", 0)
    return Judged(row, Verdict(Reject.INTERRUPTED), 0)


def _receipt(opened: OpenRound, judged: Judged, block: int, same_as: int) -> ReceiptLeaf:
    row, verdict = judged.arrival, judged.verdict
    return ReceiptLeaf(
        challenge=opened.position,
        round=opened.leaf.round,
        block=block,
        challenge_id=opened.hash,
        uid=row.uid,
        hotkey=row.hotkey,
        nonce=row.nonce,
        body=row.body,
        signature=row.signature,
        response_ms=row.response_ms,
        reject=verdict.reject.value,
        adversarial_pixels=verdict.adversarial_pixels,
        label_before=verdict.label_before,
        index_before=verdict.index_before,
        label_after=verdict.label_after,
        index_after=verdict.index_after,
        logits_before=verdict.logits_before,
        logits_after=verdict.logits_after,
        linf_u8=verdict.linf_u8,
        changed=verdict.changed,
        sum_sq=verdict.sum_sq,
        ssim_ppb=verdict.ssim_ppb,
        psnr_micro_db=verdict.psnr_micro_db,
        saturated=verdict.saturated,
        score_ppb=judged.score_ppb,
        same_as=same_as,
    )


def _first_with_same_pixels(judged: list[Judged]) -> dict[int, int]:
    """The lowest other uid of the round that sent the same pixels; only for uids that have one below them."""
    first: dict[str, int] = {}
    found: dict[int, int] = {}
    for item in sorted(judged, key=lambda item: item.arrival.uid):
        digest, uid = item.verdict.adversarial_pixels, item.arrival.uid
        if digest and first.setdefault(digest, uid) != uid:
            found[uid] = first[digest]
    return found
