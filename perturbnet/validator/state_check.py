"""Is a validator's state whole? Leaves, heads, keys, secrets and blobs are looked at; nothing is repaired.

1. the ledger's file: every leaf hashed anew, every node and head compared (`LedgerStore.verify`)
2. the fold: every leaf can follow the ones before it
3. the log's key is the one that the newest leaf names
4. every epoch's secret opens the commitments of its leaf
5. every body and delta that the ledger names: there, and of its digest

Bodies and deltas go after some rounds, the files first and then the rows that name them, so a crash can leave
a row without its file. What is missing is counted, and is an error only for the round that is still open.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from perturbnet.errors import ArtifactMissing, LedgerCorrupt, LedgerError, LedgerForked, NoteError
from perturbnet.ledger import BlobStore, Entry, LedgerState, LedgerStore
from perturbnet.ledger.journal import BLOBS_FOLDER, DELTAS_FOLDER, LEDGER_FILE
from perturbnet.ledger.leaves import ChallengeLeaf, EpochLeaf
from perturbnet.rules.traversal import commit_to_keys
from perturbnet.runtime.progress import Stages
from perturbnet.transparency.delegation import Authority, read_authority
from perturbnet.transparency.log_key import KEY_FILE, load_log_key, next_key


@dataclass(frozen=True)
class StateCheck:
    """A state that holds. `missing` counts bodies and deltas of closed rounds that are not there."""

    state: LedgerState
    root: bytes
    authority: Authority
    last_challenge: ChallengeLeaf | None
    blobs: int
    missing: int


def check_state(state_dir: Path, progress: Stages = lambda *_: None) -> StateCheck:
    """Look at everything in `state_dir`; see the module's steps.

    Raises:
        LedgerLocked: a validator runs on it.
        LedgerCorrupt, DigestMismatch: the first thing that is not what was written.
        LedgerForked, NoteError: the log's key is missing, or another's.
        LedgerError: there is no ledger.

    """
    path = state_dir / LEDGER_FILE
    if not path.exists():
        raise LedgerError(f"there is no ledger in {state_dir}", hint="name its PERTURB_STATE_DIR")
    with LedgerStore(path) as store:
        store.verify()  # 1
        state, newest = LedgerState(), None
        for entry in store.entries():
            state.apply(entry)  # 2
            if isinstance(entry.leaf, EpochLeaf):
                check_secret(store, entry, entry.leaf)  # 4
            if isinstance(entry.leaf, ChallengeLeaf):
                newest = entry.leaf
            progress("leaves", state.size, store.size)
        authority = check_key(state_dir, state)  # 3
        if state.open_round is not None:
            for row in store.arrivals(state.open_round.position):
                if row.body and not BlobStore(state_dir / BLOBS_FOLDER).path(row.body).is_file():
                    raise LedgerCorrupt(f"the answer {row.body} of the open round is not in {state_dir}")
        bodies, deltas = store.bodies(), store.deltas()
        root = store.root()
    found = [
        check_blobs(BlobStore(state_dir / folder), digests, progress, folder)
        for folder, digests in ((BLOBS_FOLDER, bodies), (DELTAS_FOLDER, deltas))
    ]  # 5
    return StateCheck(state, root, authority, newest, len(bodies) + len(deltas), sum(found))


def check_secret(store: LedgerStore, entry: Entry, leaf: EpochLeaf) -> None:
    """Whether an epoch's secret opens its commitments; raises `LedgerCorrupt`."""
    if commit_to_keys(store.secret_of(entry.position), leaf.rows) != leaf.commitments:
        raise LedgerCorrupt(f"the secret of epoch {leaf.epoch} does not open the commitments of its leaf")


def check_key(state_dir: Path, state: LedgerState) -> Authority:
    """Whose log it is, if the key that signs it lies beside it; raises `NoteError` or `LedgerForked`."""
    if state.genesis is None:
        raise NoteError(f"the log in {state_dir} has no genesis leaf: it cannot be signed")
    authority = read_authority(state.genesis, [leaf for _, leaf in state.keys])
    path = state_dir / KEY_FILE
    keys = [key for key in (load_log_key(path), load_log_key(next_key(path))) if key is not None]
    if not keys:
        raise NoteError(
            f"{path} is missing: nobody can sign {authority.origin}", hint="perturb ledger rotate-key"
        )
    if authority.key.public not in [key.public for key in keys]:
        raise LedgerForked(f"{path} is not the key {authority.key.public.hex()} that the log names")
    return authority


def check_blobs(store: BlobStore, digests: Iterable[str], progress: Stages, what: str) -> int:
    """How many of the blobs are missing; raises `DigestMismatch` for one that is damaged."""
    missing, named = 0, sorted(digests)
    for number, digest in enumerate(named, 1):
        try:
            store.get(digest)
        except ArtifactMissing:
            missing += 1
        progress(what, number, len(named))
    return missing
