"""How long blobs are kept: bodies and deltas go in time, leaves never do; what a crash left goes too."""

from __future__ import annotations

from perturbnet.ledger.blobs import BlobStore
from perturbnet.ledger.store import LedgerStore


def forget_responses(store: LedgerStore, blobs: BlobStore, *, keep_rounds: int) -> int:
    """Forget the responses of all but the newest `keep_rounds` rounds that had any; return how many.

    To be called between rounds. A body that a kept response names too (the same bytes were sent again) stays.
    Blobs go first: a crash in between leaves notes whose bodies are gone, and the next call removes those.
    """
    oldest_kept = _oldest_kept(store.challenges_with_arrivals(), keep_rounds)
    if oldest_kept is None:
        return 0
    for digest in store.bodies_before(oldest_kept):
        blobs.drop(digest)
    return store.forget_arrivals(oldest_kept)


def forget_deltas(store: LedgerStore, deltas: BlobStore, *, keep_rounds: int) -> list[str]:
    """Forget the deltas of all but the newest `keep_rounds` rounds that had any; return their digests.

    As `forget_responses`: one that a kept receipt names too stays, and blobs go first.
    """
    oldest_kept = _oldest_kept(store.challenges_with_deltas(), keep_rounds)
    if oldest_kept is None:
        return []
    forgotten = store.deltas_before(oldest_kept)
    for digest in forgotten:
        deltas.drop(digest)
    store.forget_deltas(oldest_kept)
    return forgotten


def sweep_orphans(store: LedgerStore, bodies: BlobStore, deltas: BlobStore) -> int:
    """Remove the blobs that nothing names, and unfinished files; return how many.

    A blob is on the disk before the row that names it, so a crash in between leaves one. To be called when
    the ledger is opened, before anything is written; an open round writes its deltas again when it closes.
    """
    return bodies.sweep(store.bodies()) + deltas.sweep(store.deltas())


def _oldest_kept(challenges: list[int], keep_rounds: int) -> int | None:
    """The oldest of the newest `keep_rounds` challenges; None when there is no older one."""
    if keep_rounds < 1:
        raise ValueError(f"keep_rounds is {keep_rounds}; at least the newest round is kept")
    return challenges[-keep_rounds] if len(challenges) > keep_rounds else None
