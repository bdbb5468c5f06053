"""From the answers of a round to its receipts: pure, and the same for validator and auditor.

Rules
- Everyone who was asked gets a receipt. Who has no verdict was cut off by the validator itself
  (`interrupted`).
- An answer that never became bytes keeps the code that the transport gave it. One that did is verified: from
  its whole body, or, where only its pixels are kept, from check 4 on.
- An answer that is not kept at all stands as it was recorded (`Answer.recorded`); only an auditor has those.
- Scores depend on the round as a whole: identical pixels are settled after all verdicts are known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from perturbnet.errors import Reject
from perturbnet.ledger import ArrivalRow, OpenRound
from perturbnet.ledger.leaves import ReceiptLeaf
from perturbnet.rounds.terms import Terms
from perturbnet.rules.classification import Classification, Engine
from perturbnet.rules.scoring import score_verdict, settle_duplicates
from perturbnet.rules.verification import Task, Verdict, inspect_pixels, judge_inspected, read_pixels
from perturbnet.wire.images import Pixels
from perturbnet.wire.messages import Rules, response_limit_bytes
from perturbnet.wire.target import Target

NO_ONE = -1


@dataclass(frozen=True)
class Answer:
    """One miner's answer as it was noted, with what is kept of it: the body, the pixels, or the record."""

    row: ArrivalRow
    body: bytes | None = None
    pixels: Pixels | None = None
    recorded: Verdict | None = None


@dataclass(frozen=True)
class Judged:
    """An arrival with its verdict and score, and the pixels that came out of it, if any did."""

    arrival: ArrivalRow
    verdict: Verdict
    score_ppb: int = 0
    pixels: Pixels | None = None
    delta: str = ""  # digest of the blob with the miner's changes, where there is one


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


def judge_answers(
    task: Task,
    answers: Sequence[Answer],
    engine: Engine,
    *,
    duplicates: str,
    clean: Classification | None = None,
) -> list[Judged]:
    """Verify and score the answers of a round, in their order.

    Args:
        task: the round's challenge.
        answers: one for each arrival.
        engine: the judge.
        duplicates: the rule for identical pixels, see `scoring.settle_duplicates`.
        clean: the clean image's classification where it is known already.

    """
    read = [_read(task, answer) for answer in answers]
    found = [item if isinstance(item, Verdict) else inspect_pixels(task, item) for item in read]
    verdicts = judge_inspected(task, found, engine, clean)
    judged = [
        Judged(answer.row, verdict, pixels=None if isinstance(item, Verdict) else item)
        for answer, verdict, item in zip(answers, verdicts, read, strict=True)
    ]
    return score_round(task, judged, duplicates=duplicates)


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


def _read(task: Task, answer: Answer) -> Pixels | Verdict:
    if answer.row.reject != Reject.OK:
        return Verdict(Reject(answer.row.reject))
    if answer.body is not None:
        return read_pixels(task, answer.body, signed_pixels=answer.row.pixels or None)
    if answer.pixels is not None:
        return answer.pixels
    return answer.recorded or Verdict(Reject.INTERRUPTED)


def _interrupted(opened: OpenRound, target: Target) -> Judged:
    row = ArrivalRow(opened.position, target.uid, target.hotkey, Reject.INTERRUPTED.value, "", "", "", "", 0)
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
        signature=row.signature,
        signed_pixels=row.pixels,
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
