"""What the ledger's commands begin with: settings, this machine's log and its key, notes of others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perturbnet.config import Settings
    from perturbnet.ledger.journal import Journal
    from perturbnet.transparency.anchors import Anchor
    from perturbnet.transparency.notes import Note, SigningKey
    from perturbnet.transparency.publishing import LogSource


@contextmanager
def open_journal(settings: Settings) -> Iterator[Journal]:
    """The log of this machine, closed in the end. Raises `LedgerError` where there is none."""
    from perturbnet.errors import LedgerError
    from perturbnet.ledger.journal import LEDGER_FILE, Journal

    if not (settings.state_dir / LEDGER_FILE).exists():
        raise LedgerError(f"there is no ledger in {settings.state_dir}", hint="name its PERTURB_STATE_DIR")
    journal = Journal(settings.state_dir)
    try:
        yield journal
    finally:
        journal.close()


def log_source(journal: Journal, settings: Settings) -> LogSource:
    """What is published of it. Raises `NoteError` without its key."""
    from perturbnet.transparency.log_key import KEY_FILE, require_log_key
    from perturbnet.transparency.signing import open_source, read_owner

    authority = read_owner(journal)
    path = settings.state_dir / KEY_FILE
    return open_source(journal, require_log_key(path, authority.origin, authority.key.public.hex()))


def noted_anchors(journal: Journal) -> list[Anchor]:
    """The anchors that the log has noted, oldest first."""
    from perturbnet.validator.publication import known_anchors

    return known_anchors(journal)


def old_enough(settings: Settings, journal: Journal) -> int:
    """How many leaves may be published now, as the chain says. Raises `ChainError`."""
    return asyncio.run(_old_enough(settings, journal))


async def _old_enough(settings: Settings, journal: Journal) -> int:
    from perturbnet.chain import open_chain
    from perturbnet.validator.publication import Horizon, read_delay

    chain = open_chain(settings.network, settings.netuid, local_path=settings.local_chain)
    try:
        block = await chain.block() - await read_delay(chain, settings.publish_delay_blocks)
    finally:
        await chain.close()
    horizon = Horizon()
    horizon.look(journal.store.entries())
    return horizon.size_at(block, round_is_open=journal.state.open_round is not None)


def read_note(path: Path) -> Note:
    """The note in a file. Raises `NoteError`."""
    from perturbnet.transparency.notes import MAX_NOTE_BYTES, parse_note
    from perturbnet.transparency.places import Folder

    return parse_note(Folder(path.parent).read(path.name, MAX_NOTE_BYTES))


def witness_key(settings: Settings) -> SigningKey:
    """The key this machine cosigns with. Raises `NoteError` where there is none."""
    from perturbnet.errors import NoteError
    from perturbnet.transparency.log_key import KEY_FILE, load_log_key

    key = load_log_key(settings.state_dir / KEY_FILE)
    if key is None:
        hint = "a validator's log has one after its first start; name its PERTURB_STATE_DIR"
        raise NoteError(f"there is no {KEY_FILE} in {settings.state_dir} to sign with", hint=hint)
    return key
