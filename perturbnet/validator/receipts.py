"""From what arrived to receipts: the same code for a round that just ended and for one that a crash cut short.

It reads the arrivals and the blobs back from the disk, never from memory, so recovery is the path of every day.
"""

from __future__ import annotations

from dataclasses import dataclass

from perturbnet.classifier import Engine
from perturbnet.errors import ArtifactError, Reject
from perturbnet.ledger import ArrivalRow, BlobStore, OpenRound
from perturbnet.ledger.leaves import MetagraphLeaf, ReceiptLeaf
from perturbnet.scoring import score_verdict, settle_duplicates
from perturbnet.verification import Task, Verdict, verify_round

NO_ONE = -1


@dataclass(frozen=True)
class Judged:
    """An arrival with its verdict and score."""

    arrival: ArrivalRow
    verdict: Verdict
    score_ppb: int


def judge_arrivals(
    task: Task, arrivals: list[ArrivalRow], blobs: BlobStore, engine: Engine, *, duplicates: str
) -> list[Judged]:
    """Verify and score what arrived, in the order of `arrivals`."""
    bodies = {row.uid: blobs.get(row.body) for row in arrivals if row.reject == Reject.OK}
    signed = {row.uid: row.pixels or None for row in arrivals}
    verdicts = dict(
        zip(bodies, verify_round(task, [(body, signed[uid]) for uid, body in bodies.items()], engine), strict=True)
    )
    for row in arrivals:
        verdicts.setdefault(row.uid, Verdict(Reject(row.reject)))
    scores = {
        row.uid: score_verdict(
            verdicts[row.uid], epsilon=task.epsilon, rules=task.rules, response_ms=row.response_ms
        )
        for row in arrivals
    }
    pixels = {uid: verdict.adversarial_pixels for uid, verdict in verdicts.items()}
    settled = settle_duplicates(scores, pixels, duplicates)
    return [Judged(row, verdicts[row.uid], settled[row.uid]) for row in arrivals]


def write_receipts(opened: OpenRound, judged: list[Judged], metagraph: MetagraphLeaf, *, block: int) -> list[ReceiptLeaf]:
    """One receipt for every miner that was asked; who has no arrival was cut off by the validator itself."""
    hotkeys = {int(uid): str(hotkey) for uid, hotkey, *_ in metagraph.neurons}
    by_uid = {item.arrival.uid: item for item in judged}
    first = _first_with_same_pixels(judged)
    return [
        _receipt(opened, by_uid[uid], block, first[uid]) if uid in by_uid else _interrupted(opened, uid, hotkeys[uid], block)
        for uid in opened.leaf.asked
    ]


def interrupted_arrival(opened: OpenRound, uid: int, hotkey: str) -> ArrivalRow:
    """What stands for a miner whose answer the validator itself lost."""
    return ArrivalRow(opened.position, uid, hotkey, Reject.INTERRUPTED, "", "", "", "", 0)


def bodies_intact(arrivals: list[ArrivalRow], blobs: BlobStore) -> list[ArrivalRow]:
    """The arrivals whose bodies can still be read; the others are as if interrupted."""
    kept = []
    for row in arrivals:
        try:
            if row.body:
                blobs.get(row.body)
        except ArtifactError:
            continue
        kept.append(row)
    return kept


def _interrupted(opened: OpenRound, uid: int, hotkey: str, block: int) -> ReceiptLeaf:
    judged = Judged(interrupted_arrival(opened, uid, hotkey), Verdict(Reject.INTERRUPTED), 0)
    return _receipt(opened, judged, block, NO_ONE)


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
    """For each uid the lowest other uid of the round that sent the same pixels, or -1."""
    first: dict[str, int] = {}
    for item in sorted(judged, key=lambda item: item.arrival.uid):
        if item.verdict.adversarial_pixels:
            first.setdefault(item.verdict.adversarial_pixels, item.arrival.uid)
    found = {item.arrival.uid: first.get(item.verdict.adversarial_pixels, NO_ONE) for item in judged}
    return {uid: NO_ONE if other == uid else other for uid, other in found.items()}
