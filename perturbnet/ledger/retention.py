"""How long responses are kept: their bodies and the notes of their arrival go in time, leaves never do."""

from __future__ import annotations

from perturbnet.ledger.blobs import BlobStore
from perturbnet.ledger.store import LedgerStore


def forget_responses(store: LedgerStore, blobs: BlobStore, *, keep_rounds: int) -> int:
    """Forget the responses of all but the newest `keep_rounds` rounds that had any; return how many.

    To be called between rounds. A body that a kept response names too (the same bytes were sent again) stays.
    Blobs go first: a crash in between leaves notes whose bodies are gone, and the next call removes those.
    """
    if keep_rounds < 1:
        raise ValueError(f"keep_rounds is {keep_rounds}; at least the newest round is kept")
    challenges = store.challenges_with_arrivals()
    if len(challenges) <= keep_rounds:
        return 0
    oldest_kept = challenges[-keep_rounds]
    for digest in store.bodies_before(oldest_kept):
        blobs.drop(digest)
    return store.forget_arrivals(oldest_kept)
