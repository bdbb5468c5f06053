"""From the answers of a round to its receipts: pure, and the same for validator and auditor.

Rules
- Everyone who was asked gets a receipt. Who has no verdict was cut off by the validator itself
  (`interrupted`).
- An answer that never became bytes keeps the code that the transport gave it. One that did is verified: from
  its whole body, or, where only its pixels are kept, from check 4 on.
- A receipt holds the miner's signature where it was verified (`Verdict.signed_pixels`).
- Scores depend on the round as a whole: identical pixels are settled after all verdicts are known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from perturbnet.errors import Reject
from perturbnet.ledger import ArrivalRow, OpenRound
from perturbnet.ledger.leaves import ReceiptLeaf
from perturbnet.rounds.terms import Terms
from perturbnet.rules.scoring import score_verdict, settle_duplicates
from perturbnet.rules.verification import Image, Task, Verdict, Verification
from perturbnet.wire.images import Pixels
from perturbnet.wire.messages import response_limit_bytes
from perturbnet.wire.target import Target

NO_ONE = -1


@dataclass(frozen=True)
class Judged:
    """An arrival with its verdict and score, and the pixels that came out of it, if any did."""

    arrival: ArrivalRow
    verdict: Verdict
    score_ppb: int = 0
    pixels: Pixels | None = None
    delta: str = ""  # digest of the blob with the miner's changes, where there is one


def build_task(opened: OpenRound, terms: Terms, clean: Pixels) -> Task:
    """What the answers of a round are verified against."""
    leaf = opened.leaf
    return Task(
        task_id=leaf.task_id,
        challenge_id=opened.hash,
        clean=clean,
        true_label=leaf.true_label,
        epsilon=leaf.epsilon,
        rules=terms.rules,
        max_body_bytes=response_limit_bytes(clean.shape[0], clean.shape[1]),
        netuid=terms.netuid,
        validator=terms.validator,
    )


def read_answer(verification: Verification, row: ArrivalRow, body: bytes) -> Image | Verdict:
    """Checks 1 to 3 on a noted answer; `body` is what its row names. Without one its code stands.

    A body is read whatever the code beside it: an older version noted what it had found in it.
    """
    if row.body or row.reject == Reject.OK:
        return verification.read(body, signed=row)
    return Verdict(Reject(row.reject))


def judge_answers(
    verification: Verification, answers: Sequence[tuple[ArrivalRow, Image | Verdict]], *, duplicates: str
) -> list[Judged]:
    """Verify and score the answers of a round that were read, in their order.

    Args:
        verification: of the round's challenge.
        answers: for each arrival its image, or the verdict that it has already.
        duplicates: the rule for identical pixels, see `scoring.settle_duplicates`.

    """
    verdicts = verification.conclude([found for _, found in answers])
    judged = [
        Judged(row, verdict, pixels=found.pixels if isinstance(found, Image) else None)
        for (row, found), verdict in zip(answers, verdicts, strict=True)
    ]
    return score_round(verification.task, judged, duplicates=duplicates)


def score_round(task: Task, judged: Sequence[Judged], *, duplicates: str) -> list[Judged]:
    """Give the verdicts of a whole round their scores, in their order; `duplicates` as in `judge_answers`."""
    scores = {
        item.arrival.uid: score_verdict(
            item.verdict, epsilon=task.epsilon, rules=task.rules, response_ms=item.arrival.response_ms
        )
        for item in judged
    }
    pixels = {item.arrival.uid: item.verdict.adversarial_pixels for item in judged}
    settled = settle_duplicates(scores, pixels, duplicates)
    return [replace(item, score_ppb=settled[item.arrival.uid]) for item in judged]


def write_receipts(
    opened: OpenRound, terms: Terms, judged: Iterable[Judged], *, block: int
) -> list[ReceiptLeaf]:
    """One receipt for every miner that was asked, in the order in which they were asked."""
    found = {item.arrival.uid: item for item in judged}
    first = _first_with_same_pixels(found.values())
    receipts = []
    for target in terms.targets:
        item = found.get(target.uid) or _interrupted(opened, target)
        receipts.append(_receipt(opened, item, block, first.get(target.uid, NO_ONE)))
    return receipts


def _interrupted(opened: OpenRound, target: Target) -> Judged:
    row = ArrivalRow(opened.position, target.uid, target.hotkey, Reject.INTERRUPTED.value, "", "", "", 0)
    return Judged(row, Verdict(Reject.INTERRUPTED))


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
        signature="" if verdict.signed_pixels is None else row.signature,
        signed_pixels=verdict.signed_pixels or "",
        delta=judged.delta,
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


def _first_with_same_pixels(judged: Iterable[Judged]) -> dict[int, int]:
    """The lowest other uid of the round that sent the same pixels; only for uids that have one below them."""
    first: dict[str, int] = {}
    found: dict[int, int] = {}
    for item in sorted(judged, key=lambda item: item.arrival.uid):
        digest, uid = item.verdict.adversarial_pixels, item.arrival.uid
        if digest and first.setdefault(digest, uid) != uid:
            found[uid] = first[digest]
    return found
