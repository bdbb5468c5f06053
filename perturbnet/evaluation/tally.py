"""What was found so far, for the eyes of whoever waits; certificate and report have their own, full count."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from perturbnet.errors import Reject
from perturbnet.ledger import Entry
from perturbnet.ledger.leaves import ChallengeLeaf, ReceiptLeaf, SkipLeaf
from perturbnet.wire.units import from_ppb


@dataclass
class Tally:
    """Counts of images and attempts. An image is broken when some attack was accepted on it."""

    images: int = 0
    broken: int = 0
    skipped: int = 0
    attempts: int = 0
    score_ppb: int = 0

    def add(self, receipts: Iterable[ReceiptLeaf]) -> None:
        """Take in an image that was judged, by its receipts."""
        codes = []
        for receipt in receipts:
            codes.append(receipt.reject)
            self.score_ppb += receipt.score_ppb
        self.images += 1
        self.broken += Reject.OK.value in codes
        self.attempts += len(codes)

    @property
    def stability(self) -> float:
        """The share of images that no attack broke; 0 where there is none."""
        return 1 - self.broken / self.images if self.images else 0.0

    @property
    def mean_score(self) -> float:
        """What the attempts earned in the mean, failures included."""
        return from_ppb(self.score_ppb) / self.attempts if self.attempts else 0.0


def tally_entries(entries: Iterable[Entry]) -> Tally:
    """The tally of a log; a round that is still open is left out."""
    found = Tally()
    challenge: ChallengeLeaf | None = None
    receipts: list[ReceiptLeaf] = []
    for entry in entries:
        match entry.leaf:
            case ChallengeLeaf() as leaf:
                challenge, receipts = leaf, []
            case SkipLeaf():
                found.skipped += 1
            case ReceiptLeaf() as leaf if challenge is not None:
                receipts.append(leaf)
                if len(receipts) == len(challenge.asked):
                    found.add(receipts)
                    challenge = None
            case _:
                pass
    return found
