"""The latest rounds of a log, kept while it grows: each leaf is looked at once, and memory stays flat.

The fold (`ledger.folds`) forgets rounds once they count; the tail is what a person wants to see of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from perturbnet.errors import Reject
from perturbnet.ledger import Entry
from perturbnet.ledger.leaves import ChallengeLeaf, ReceiptLeaf, SubmissionLeaf
from perturbnet.ledger.progress import NEVER_COUNTED
from perturbnet.overview.views import AnswerView, RoundView, SeriesView

KEEP_ROUNDS = 24
KEEP_SCORES = 240  # rounds
TAIL_LEAVES = 40_000  # how far back a tail begins: some 400 rounds of 100 miners
ACCEPTED = frozenset({"set", "committed", "applied"})


@dataclass
class OpenView:
    """A challenge and the receipts that came so far."""

    position: int
    leaf: ChallengeLeaf
    answers: list[AnswerView] = field(default_factory=list)

    def view(self) -> RoundView:
        """As it is shown."""
        leaf = self.leaf
        complete = len(self.answers) == len(leaf.asked)
        return RoundView(
            number=leaf.round,
            position=self.position,
            block=leaf.block,
            created_ms=leaf.created_ms,
            task_id=leaf.task_id,
            label=leaf.true_label,
            epsilon=leaf.epsilon,
            row=leaf.row,
            freshness=leaf.freshness,
            clean_pixels=leaf.clean_pixels,
            asked=len(leaf.asked),
            counted=any(answer.reject == Reject.OK for answer in self.answers) if complete else None,
            answers=tuple(sorted(self.answers, key=lambda answer: (-answer.score_ppb, answer.uid))),
        )


@dataclass
class Tail:
    """The latest rounds. `next` is the leaf to look at next; begin it with `Tail.of_size`."""

    next: int = 0
    rounds: deque[OpenView] = field(default_factory=lambda: deque(maxlen=KEEP_ROUNDS))
    scores: deque[tuple[int, dict[int, int]]] = field(default_factory=lambda: deque(maxlen=KEEP_SCORES))
    last_submission: SubmissionLeaf | None = None
    accepted_block: int | None = None

    @classmethod
    def of_size(cls, size: int) -> Tail:
        """A tail for a log of `size` leaves: it begins at most `TAIL_LEAVES` before its end."""
        return cls(next=max(0, size - TAIL_LEAVES))

    def look(self, entries: Iterable[Entry]) -> None:
        """Take in the leaves from `next` on."""
        for entry in entries:
            match entry.leaf:
                case ChallengeLeaf() as leaf:
                    self.rounds.append(OpenView(entry.position, leaf))
                case ReceiptLeaf() as leaf:
                    self._receive(leaf)
                case SubmissionLeaf() as leaf:
                    self.last_submission = leaf
                    self.accepted_block = leaf.block if leaf.outcome in ACCEPTED else self.accepted_block
            self.next = entry.position + 1

    def latest(self) -> tuple[RoundView, ...]:
        """The kept rounds, newest first."""
        return tuple(found.view() for found in reversed(self.rounds))

    def series(self, uids: Iterable[int], window: int) -> tuple[SeriesView, ...]:
        """Each miner's mean over its last `window` scores, as of each counted round that is kept.

        Scores from before the tail's beginning are not known here, so a series begins with fewer.
        """
        found = []
        for uid in uids:
            kept: deque[int] = deque(maxlen=window)
            points = []
            for number, scores in self.scores:
                if uid in scores:
                    kept.append(scores[uid])
                    points.append((number, sum(kept) // len(kept)))
            found.append(SeriesView(uid, tuple(points)))
        return tuple(found)

    def _receive(self, leaf: ReceiptLeaf) -> None:
        current = self.rounds[-1] if self.rounds else None
        if current is None or current.position != leaf.challenge:
            return  # the tail begins inside a round
        current.answers.append(_answer(leaf))
        if len(current.answers) == len(current.leaf.asked):
            scores = {
                answer.uid: answer.score_ppb
                for answer in current.answers
                if answer.reject not in NEVER_COUNTED
            }
            if any(answer.reject == Reject.OK for answer in current.answers):
                self.scores.append((current.leaf.round, scores))


def _answer(leaf: ReceiptLeaf) -> AnswerView:
    return AnswerView(
        uid=leaf.uid,
        hotkey=leaf.hotkey,
        reject=leaf.reject,
        score_ppb=leaf.score_ppb,
        response_ms=leaf.response_ms,
        label_after=leaf.label_after,
        linf_u8=leaf.linf_u8,
        changed=leaf.changed,
        ssim_ppb=leaf.ssim_ppb,
        psnr_micro_db=leaf.psnr_micro_db,
        adversarial_pixels=leaf.adversarial_pixels,
        delta=leaf.delta,
        same_as=leaf.same_as,
    )
