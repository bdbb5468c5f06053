"""`perturb state`: look at a validator's state, back it up, restore it."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perturbnet.commands.given import read_settings, settings_options
from perturbnet.commands.printing import JSON_HELP, print_facts
from perturbnet.display.bars import open_bars

if TYPE_CHECKING:
    from perturbnet.config import Settings
    from perturbnet.ledger.journal import Journal
    from perturbnet.validator.state_check import StateCheck

COPY_WITHIN_S = 3600.0
MAX_ANSWER_BYTES = 1 << 16


@click.group()
def state() -> None:
    """A validator's state: its ledger, the log's keys, the epochs' secrets, answers and deltas.

    \b
    perturb state verify [FOLDER]     hash every leaf and blob anew; of PERTURB_STATE_DIR, or of a backup
    perturb state backup FOLDER       of a stopped validator, or of a running one through itself
    perturb state restore FOLDER      into an empty PERTURB_STATE_DIR, unless the chain says it is too old

    Nothing is ever repaired or reset: what is damaged is named, and left as it is. Exit code 3: the state was
    refused.
    """


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    return settings_options(click.option("--json", "json_file", metavar="FILE", help=JSON_HELP)(command))


@state.command()
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@_options
@click.pass_context
def verify(
    ctx: click.Context, folder: Path | None, pairs: tuple[str, ...], file: Path | None, json_file: str | None
) -> None:
    """Look at every leaf, head, key, secret and blob. Exit code 1: a blob of a closed round is missing.

    FOLDER is a state folder or a backup; without it, PERTURB_STATE_DIR. A validator that runs holds its state
    locked and has looked at it when it started: verify a backup of it instead.
    """
    from perturbnet.validator.backups import BACKUP_FILE, read_backup
    from perturbnet.validator.state_check import check_state

    where = folder or read_settings(pairs, file).state_dir
    if (where / BACKUP_FILE).exists():
        read_backup(where)
    with open_bars() as progress:
        checked = check_state(where, progress)
    print_facts({"state": str(where), **_facts(checked)}, json_file)
    if checked.missing:
        ctx.exit(1)


@state.command()
@click.argument("folder", type=click.Path(path_type=Path))
@_options
def backup(folder: Path, pairs: tuple[str, ...], file: Path | None, json_file: str | None) -> None:
    """Write a backup of PERTURB_STATE_DIR into the new FOLDER, and check it.

    A validator that runs goes on meanwhile: it copies its ledger itself, asked on PERTURB_METRICS_PORT.
    FOLDER then holds everything but the wallet: keep it as secret as the state.
    """
    from perturbnet.runtime.clock import SystemClock
    from perturbnet.validator.backups import write_backup

    settings = read_settings(pairs, file)
    with open_bars() as progress:
        made = write_backup(
            settings.state_dir,
            folder.absolute(),
            lambda path: _copy_ledger(settings, path),
            SystemClock(),
            progress,
        )
    facts = {"backup": str(folder), "log": made.origin, "leaves": made.size, "root": made.root}
    print_facts({**facts, "rounds": made.rounds, "blobs": made.blobs}, json_file)


@state.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--skip-draws", type=click.IntRange(0), help="Draws to skip  [default: as many as time allowed]"
)
@click.option("--without-chain", is_flag=True, help="Do not ask the chain now; the validator's start does.")
@_options
def restore(
    *,
    folder: Path,
    skip_draws: int | None,
    without_chain: bool,
    pairs: tuple[str, ...],
    file: Path | None,
    json_file: str | None,
) -> None:
    """Restore the backup in FOLDER into PERTURB_STATE_DIR, which must be empty.

    It is checked before anything gets a name. Refused is a log that does not begin with what the chain pins
    (NETWORK, NETUID) or with what is published (PERTURB_PUBLISH_TO): the newest backup, or none.

    The draws that may have been asked since the backup are skipped, so that no image comes twice.
    """
    from perturbnet.runtime.clock import SystemClock
    from perturbnet.validator.backups import draws_to_skip, read_backup, restore_backup
    from perturbnet.validator.backups import skip_draws as skip

    settings, now_ms = read_settings(pairs, file), SystemClock().time_ns() // 10**6
    made_ms, skipped = read_backup(folder).made_ms, 0
    with open_bars() as progress:

        def accept(journal: Journal, checked: StateCheck) -> None:
            nonlocal skipped
            _refuse_older(settings, journal, checked, ask_chain=not without_chain)
            newest = checked.last_challenge
            since_ms = made_ms if newest is None else newest.created_ms
            count = skip_draws
            if count is None:
                interval_s = float(settings.query_interval_seconds)
                attempts = settings.max_challenge_attempts
                count = draws_to_skip(since_ms, now_ms, interval_s=interval_s, attempts=attempts)
            skipped = skip(journal, count, progress)

        checked = restore_backup(folder, settings.state_dir, accept, progress)
    print_facts({"state": str(settings.state_dir), **_facts(checked), "draws skipped": skipped}, json_file)


def _refuse_older(settings: Settings, journal: Journal, checked: StateCheck, *, ask_chain: bool) -> None:
    """Raise `LedgerForked` for a log that the chain, or the place where it is published, contradicts."""
    import asyncio

    from perturbnet.chain import open_chain
    from perturbnet.transparency.log_key import KEY_FILE, require_log_key
    from perturbnet.transparency.places import open_target
    from perturbnet.transparency.publishing import published_checkpoint
    from perturbnet.transparency.signing import open_source
    from perturbnet.validator.publication import take_up_anchor

    async def compare() -> None:
        chain = open_chain(settings.network, settings.netuid, local_path=settings.local_chain)
        try:
            await take_up_anchor(journal, chain, checked.authority.hotkey)
        finally:
            await chain.close()

    if ask_chain:
        asyncio.run(compare())
    if settings.publish_to is not None:
        authority = checked.authority
        path = journal.store.path.with_name(KEY_FILE)
        key = require_log_key(path, authority.origin, authority.key.public.hex())
        published_checkpoint(open_source(journal, key), open_target(settings.publish_to))


def _copy_ledger(settings: Settings, target: Path) -> None:
    """Copy the ledger, or have the validator that holds it do so."""
    from perturbnet.errors import LedgerError, LedgerLocked
    from perturbnet.ledger import LedgerStore
    from perturbnet.ledger.journal import LEDGER_FILE

    path = settings.state_dir / LEDGER_FILE
    if not path.exists():
        raise LedgerError(f"there is no ledger in {settings.state_dir}", hint="name its PERTURB_STATE_DIR")
    try:
        store = LedgerStore(path)
    except LedgerLocked:
        _ask_validator(settings, target)
        return
    with closing(store):
        store.copy_to(target)


def _ask_validator(settings: Settings, target: Path) -> None:
    import shutil

    from perturbnet.errors import LedgerError, LedgerLocked
    from perturbnet.validator.backups import make_request

    hint = "name its PERTURB_METRICS_PORT, or stop it and try again"
    if not settings.metrics_port:
        raise LedgerLocked(f"{settings.state_dir} is in use, and PERTURB_METRICS_PORT is 0", hint=hint)
    request = make_request(settings.state_dir)
    try:
        answer = _get(settings.metrics_port).get(request.name)
        if answer != "filled":
            said = answer or "it knows nothing of this state folder"
            raise LedgerError(
                f"the validator on port {settings.metrics_port} made no copy: {said}", hint=hint
            )
        shutil.copyfile(request, target)
        with target.open("rb") as copied:
            os.fsync(copied.fileno())
    finally:
        for path in (request, request.with_name(f"{request.name}-journal")):
            path.unlink(missing_ok=True)


def _get(port: int) -> dict[str, str]:
    """What the validator on loopback says that it copied; raises `LedgerLocked` where none answers."""
    from perturbnet.errors import LedgerLocked
    from perturbnet.telemetry.loopback import HOST
    from perturbnet.validator.backups import BACKUP_PATH

    with closing(http.client.HTTPConnection(HOST, port, timeout=COPY_WITHIN_S)) as line:
        try:
            line.request("GET", BACKUP_PATH)
            found = json.loads(line.getresponse().read(MAX_ANSWER_BYTES))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise LedgerLocked(
                f"the ledger is in use, and no validator answers on {HOST}:{port}: {error}",
                hint="name its PERTURB_METRICS_PORT, or stop it and try again",
            ) from None
    return {str(name): str(what) for name, what in found.items()} if isinstance(found, dict) else {}


def _facts(checked: StateCheck) -> dict[str, Any]:
    return {
        "log": checked.authority.origin,
        "leaves": checked.state.size,
        "root": checked.root.hex(),
        "rounds": checked.state.rounds,
        "open round": checked.state.open_round is not None,
        "blobs": checked.blobs,
        "blobs missing": checked.missing,
    }
