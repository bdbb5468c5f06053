"""Rounds and logs as a test wants them: made from an honest log's leaves, with other values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msgspec import structs

from perturbnet.errors import Reject
from perturbnet.ledger import Leaf, leaf_hash
from perturbnet.ledger.leaves import ChallengeLeaf, ConfigLeaf, ReceiptLeaf
from perturbnet.rounds.attempts import Attempt, ImageAttempts, read_attempts
from tests.support.auditing.honest import Honest, MemoryLog
from tests.support.auditing.published import publish

ACCEPTED = {
    "reject": Reject.OK.value,
    "linf_u8": 2,
    "changed": 100,
    "sum_sq": 200,
    "ssim_ppb": 999_000_000,
    "psnr_micro_db": 50_000_000,
    "score_ppb": 700_000_000,
    "label_after": "other",
    "adversarial_pixels": "ab" * 32,
}


@dataclass(frozen=True)
class Rounds:
    """Makes rounds after the pattern of an honest log's first."""

    honest: Honest

    @property
    def pattern(self) -> ImageAttempts:
        return next(iter(read_attempts(MemoryLog(self.honest.entries, self.honest.blobs))))

    def make(
        self,
        *answers: dict[str, Any],
        row: int = 0,
        number: int = 0,
        model: str = "",
        **challenge: Any,
    ) -> ImageAttempts:
        """A round with these answers; an empty one is accepted, whatever it names stands in its receipt."""
        pattern = self.pattern
        receipt = pattern.attempts[0].leaf
        attempts = tuple(
            Attempt(
                1000 * number + place,
                f"{number:032x}{place:032x}",
                structs.replace(receipt, **({"uid": place, "hotkey": f"5miner{place}"} | ACCEPTED | answer)),
            )
            for place, answer in enumerate(answers, start=1)
        )
        leaf = structs.replace(pattern.challenge, row=row, round=number, **challenge)
        config = structs.replace(pattern.config, model_digest=model) if model else pattern.config
        return replace(pattern, position=1000 * number, challenge=leaf, config=config, attempts=attempts)

    def long_log(self, rounds: int) -> Iterator[Leaf]:
        """An honest log's head, then so many rounds of differing scores, distances and refusals."""
        leaves = self.honest.leaves()
        first = next(place for place, leaf in enumerate(leaves) if isinstance(leaf, ChallengeLeaf))
        pattern = leaves[first]
        assert isinstance(pattern, ChallengeLeaf)
        receipts = [leaf for leaf in leaves if isinstance(leaf, ReceiptLeaf) and leaf.challenge == first]
        rows = next(int(leaf.dataset["rows"]) for leaf in leaves if isinstance(leaf, ConfigLeaf))
        yield from leaves[:first]
        place = first
        for number in range(rounds):
            challenge = structs.replace(
                pattern,
                round=number,
                row=number % rows,
                draw=number,
                block=10 + number,
                nonce=f"{number:064x}",
            )
            yield challenge
            for order, receipt in enumerate(receipts):
                yield _vary(receipt, place, leaf_hash(challenge.encode()), number, order)
            place += 1 + len(receipts)


def _vary(receipt: ReceiptLeaf, challenge: int, challenge_id: str, number: int, order: int) -> ReceiptLeaf:
    known = {"challenge": challenge, "challenge_id": challenge_id, "round": number, "block": 10 + number}
    dice = (number * 7919 + order * 104_729) % 1000
    if dice < 600:
        linf = 1 + dice % 7
        figures = {"linf_u8": linf, "changed": 500 + dice, "sum_sq": (500 + dice) * linf**2}
        return structs.replace(receipt, **(ACCEPTED | known | figures | {"score_ppb": 10**9 - linf * 10**8}))
    code = (Reject.TIMEOUT, Reject.LABEL_UNCHANGED, Reject.NO_IMAGE)[dice % 3]
    nothing = dict.fromkeys(("linf_u8", "changed", "sum_sq", "ssim_ppb", "psnr_micro_db"), -1)
    return structs.replace(
        receipt,
        **(known | nothing | {"reject": code.value, "score_ppb": 0, "adversarial_pixels": "", "delta": ""}),
    )


def publish_leaves(leaves: Iterable[Leaf], honest: Honest, folder: Path) -> Path:
    """A bundle of these leaves, with the honest log's blobs."""
    return publish(list(leaves), folder, honest.blobs.folder)
