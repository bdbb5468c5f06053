"""The log's key and its owner: made when a log begins, and found again each time it is opened."""

from __future__ import annotations

from pathlib import Path

from perturbnet.errors import LedgerForked, NoteError
from perturbnet.ledger.journal import Journal
from perturbnet.runtime.clock import Clock
from perturbnet.transparency.delegation import (
    Authority,
    build_genesis,
    build_key_leaf,
    check_owner,
    origin_of,
    read_authority,
)
from perturbnet.transparency.log_key import (
    KEY_FILE,
    create_log_key,
    load_log_key,
    next_key,
    require_log_key,
)
from perturbnet.transparency.notes import SigningKey, VerifierKey
from perturbnet.transparency.publishing import LogSource
from perturbnet.wire.keys import Keypair


def begin_log(
    journal: Journal, state_dir: Path, keypair: Keypair, *, network: str, netuid: int, clock: Clock
) -> LogSource:
    """Write the genesis leaf of a new log, or find the key of one that was begun; returns what to publish.

    A crash between the key's file and the leaf leaves a key that nobody has heard of; it is used then.

    Raises:
        LedgerForked: the log is another hotkey's or subnet's, or the key is another log's.
        NoteError: there is no key, or the log has no genesis leaf.

    """
    path, hotkey = state_dir / KEY_FILE, keypair.ss58_address
    if journal.state.size == 0:
        origin = origin_of(network, netuid, hotkey)
        key = load_log_key(path) or create_log_key(path, origin)
        if key.name != origin:
            raise LedgerForked(f"{path} is the key of {key.name}, and the ledger is empty: move both away")
        created_ms = clock.time_ns() // 10**6
        journal.append(build_genesis(keypair, key, network=network, netuid=netuid, created_ms=created_ms))
    authority = read_owner(journal)
    check_owner(authority, hotkey=hotkey, netuid=netuid)
    return open_source(journal, require_log_key(path, authority.origin, authority.key.public.hex()))


def read_owner(journal: Journal) -> Authority:
    """Who may sign the log now, as its own leaves say.

    Raises:
        NoteError: it has no genesis leaf, or a delegation does not hold.

    """
    if journal.state.genesis is None:
        raise NoteError("the log has no genesis leaf: it cannot be signed")
    return read_authority(journal.state.genesis, [leaf for _, leaf in journal.state.keys])


def open_source(journal: Journal, key: SigningKey) -> LogSource:
    """What is published: the log with this key and those before it."""
    genesis, changes = journal.state.genesis, journal.state.keys
    publics = [genesis.key] if genesis else []
    publics += [leaf.key for _, leaf in changes]
    old = tuple(VerifierKey(key.name, bytes.fromhex(public)) for public in publics[:-1])
    return LogSource(journal.store, journal.deltas, key, old, tuple(position for position, _ in changes))


def rotate_key(journal: Journal, state_dir: Path, keypair: Keypair) -> SigningKey:
    """Give the log a new key, signed by the hotkey and, where it is still there, by the key before.

    The new key is on the disk before the leaf that names it, under a name of its own; the old file is kept
    beside it. A crash in between leaves the log with the key that its newest leaf names.

    Raises:
        NoteError: as `read_owner`; or the old key is lost and the hotkey is another than the log's.
        LedgerError: it cannot be recorded.

    """
    authority, path = read_owner(journal), state_dir / KEY_FILE
    found = load_log_key(path)
    old = found if found is not None and found.public == authority.key.public else None
    if old is None and keypair.ss58_address != authority.hotkey:
        raise NoteError(
            f"{path} is not the log's key: only the hotkey {authority.hotkey} can go on without it"
        )
    key = create_log_key(next_key(path), authority.origin)
    journal.append(build_key_leaf(authority, keypair, key, old=old))
    return require_log_key(path, authority.origin, key.public.hex())
