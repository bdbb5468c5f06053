"""Backups of a validator's state: whole or not there, and checked before they are believed.

    FOLDER/backup.json        what it is, and the SHA-256 of every file but the blobs; written last
    FOLDER/ledger.sqlite      the ledger at one moment, with the epochs' secrets
    FOLDER/log.key, log.*     the keys that sign the log
    FOLDER/blobs, deltas      what the ledger names; each file is named by its own digest

Rules
- A backup is secret: whoever has it knows the images to come and can sign checkpoints. Folder 0700. The
  wallet is not in it.
- Of a running validator the ledger is copied by the validator itself. Whoever may write into its state folder
  puts an empty file there and asks on loopback for it to be filled (`fill_requests`): no secret goes over a
  socket, and a page in somebody's browser can ask in vain.
- Blobs are copied before the ledger and, for what came meanwhile, after it.
- What a crash leaves is called `.NAME.partial`.
- To restore, everything is copied and checked inside the state folder and then moved to its names, the ledger
  last of all. A folder that holds anything is refused, and so is a log that the chain or the place where it
  is published contradicts.
- A backup is older than the log it was made of. The draws that may have been asked since are skipped, by
  leaf, so that no image is asked again whose answer is known. What was acknowledged since cannot be kept.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

from perturbnet.datasets import SourceIdentity
from perturbnet.errors import DigestMismatch, LedgerCorrupt, LedgerError, PerturbError
from perturbnet.ledger import LedgerStore
from perturbnet.ledger.journal import BLOBS_FOLDER, DELTAS_FOLDER, LEDGER_FILE, Journal
from perturbnet.rounds.draws import EpochDraws
from perturbnet.runtime.artifacts import sha256_file, write_durably
from perturbnet.runtime.clock import Clock
from perturbnet.runtime.folders import sync_folder
from perturbnet.runtime.progress import Stages
from perturbnet.validator.state_check import StateCheck, check_state
from perturbnet.version import __version__

BACKUP_FILE = "backup.json"
BACKUP_PATH = "/backup"  # on loopback
FORMAT = 1
MAX_MANIFEST_BYTES = 1 << 20
REQUEST = ".backup-*.sqlite"
SKIPPED = "restored from a backup: this draw may have been asked before"
_KEYS = "log.*"
_FOLDERS = (BLOBS_FOLDER, DELTAS_FOLDER)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BackupManifest:
    """What a backup says about itself."""

    format: int
    made_ms: int  # wall time since 1970
    code_version: str
    origin: str
    hotkey: str
    size: int  # leaves
    root: str
    rounds: int
    blobs: int
    files: dict[str, str]  # name: SHA-256


def write_backup(
    state_dir: Path,
    target: Path,
    copy_ledger: Callable[[Path], None],
    clock: Clock,
    progress: Stages = lambda *_: None,
) -> BackupManifest:
    """Write a backup of `state_dir` to the new folder `target`; `copy_ledger` fills an empty file.

    Raises:
        LedgerError: there is something at `target`, it cannot be written, or the copy is not whole.

    """
    if target.exists():
        raise LedgerError(
            f"{target} is there already; a backup is never written over", hint="name a new folder"
        )
    partial = target.with_name(f".{target.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        manifest = _fill(state_dir, partial, copy_ledger, clock, progress)
        partial.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        raise LedgerError(f"no backup was made in {target}: {error.strerror}: {error.filename}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def read_backup(folder: Path) -> BackupManifest:
    """What the backup in `folder` says it is, every file but the blobs compared with its digest.

    Raises:
        LedgerError: there is no backup, or none of this format.
        DigestMismatch: a file is not what was written.

    """
    path = folder / BACKUP_FILE
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise LedgerCorrupt(f"{path} is larger than {MAX_MANIFEST_BYTES} bytes")
        manifest = BackupManifest(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise LedgerError(f"{folder} is no backup: it has no {BACKUP_FILE}") from None
    except (OSError, ValueError, TypeError) as error:
        raise LedgerCorrupt(f"{path} cannot be read: {error}") from error
    if manifest.format != FORMAT:
        raise LedgerError(f"{path} has format {manifest.format!r}; this program reads {FORMAT}")
    for name, expected in manifest.files.items():
        if Path(name).name != name or not (folder / name).is_file():
            raise LedgerCorrupt(f"{folder}: its file {name!r} is not there")
        found = sha256_file(folder / name)
        if found != expected:
            raise DigestMismatch(str(folder / name), expected, found)
    return manifest


def restore_backup(
    backup: Path,
    state_dir: Path,
    accept: Callable[[Journal, StateCheck], None],
    progress: Stages = lambda *_: None,
) -> StateCheck:
    """Put a backup into the empty folder `state_dir`. `accept` refuses by raising, or makes it ready.

    Raises:
        LedgerError: `state_dir` is not empty, or cannot be written.
        LedgerCorrupt, DigestMismatch: the backup is not whole.
        LedgerForked: see `accept`.

    """
    manifest = read_backup(backup)
    if state_dir.exists() and any(state_dir.iterdir()):
        raise LedgerError(
            f"{state_dir} is not empty: nothing is written over",
            hint="move what is in it away, or name another PERTURB_STATE_DIR",
        )
    partial = state_dir / ".restore.partial"
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        partial.mkdir(mode=0o700)
        for name in manifest.files:
            _copy_file(backup / name, partial / name)
        for folder in _FOLDERS:
            _copy_blobs(backup / folder, partial / folder, progress)
        checked = check_state(partial, progress)
        if (checked.state.size, checked.root.hex()) != (manifest.size, manifest.root):
            raise LedgerCorrupt(f"{backup} holds another log than its {BACKUP_FILE} says")
        with closing(Journal(partial)) as journal:
            accept(journal, checked)
        _move_in(partial, state_dir)
    except OSError as error:
        raise LedgerError(f"nothing was restored: {error.strerror}: {error.filename}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return checked


def draws_to_skip(newest_ms: int, now_ms: int, *, interval_s: float, attempts: int) -> int:
    """How many draws a validator may have made since its newest challenge, at most.

    A clock that went back is no reason to skip nothing: one round's attempts are always skipped.
    """
    elapsed_s = max(0, now_ms - newest_ms) / 1000
    return ceil(elapsed_s / max(1.0, interval_s)) + attempts


def skip_draws(journal: Journal, count: int, progress: Stages = lambda *_: None) -> int:
    """Skip the next draws of the epoch, by leaf; returns how many, for it may end before."""
    config, epoch = journal.state.config, journal.state.epoch
    if config is None or epoch is None or epoch.abandoned:
        return 0
    dataset: dict[str, Any] = dict(
        config[1].dataset
    )  # `EpochDraws` compares its fingerprint with the epoch's
    draws = EpochDraws(journal, SourceIdentity(**dataset), lambda _: secrets.token_bytes(32))
    count = min(count, epoch.leaf.rows - epoch.cursor)
    for number in range(count):
        draws.skip(draws.next().draw, SKIPPED, quiet=True)
        progress("draws skipped", number + 1, count)
    return count


def make_request(state_dir: Path) -> Path:
    """An empty file as only somebody can make who may write into `state_dir`; the caller removes it.

    Raises:
        LedgerError: it cannot be made.

    """
    path = state_dir / REQUEST.replace("*", secrets.token_hex(16))
    try:
        owner = state_dir.stat()
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        if os.geteuid() == 0:
            os.chown(path, owner.st_uid, owner.st_gid)  # the validator has to write into it
    except OSError as error:
        raise LedgerError(f"{state_dir} cannot be written to: {error.strerror}") from error
    return path


def fill_requests(store: LedgerStore, state_dir: Path) -> bytes:
    """Fill the empty files that ask for a copy of the ledger; JSON: what became of each, by name."""
    done: dict[str, str] = {}
    for path in sorted(state_dir.glob(REQUEST)):
        if path.is_symlink() or not path.is_file() or path.stat().st_size:
            continue
        try:
            store.copy_to(path)
            done[path.name] = "filled"
            log.info("The ledger was copied for a backup: %s", path.name)
        except PerturbError as error:
            done[path.name] = error.message
            log.warning("The ledger was not copied for a backup: %s", error.message)
    return json.dumps(done).encode()


def _fill(
    state_dir: Path, partial: Path, copy_ledger: Callable[[Path], None], clock: Clock, progress: Stages
) -> BackupManifest:
    for folder in _FOLDERS:
        _copy_blobs(state_dir / folder, partial / folder, progress)
    ledger = partial / LEDGER_FILE
    os.close(os.open(ledger, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    copy_ledger(ledger)
    keys = sorted(path for path in state_dir.glob(_KEYS) if path.is_file())
    for path in keys:
        _copy_file(path, partial / path.name)
    with LedgerStore(ledger) as store:
        named = dict(zip(_FOLDERS, (store.bodies(), store.deltas()), strict=True))
    for folder, digests in named.items():
        _copy_blobs(state_dir / folder, partial / folder, progress, only=digests)
    checked = check_state(partial, progress)
    manifest = BackupManifest(
        format=FORMAT,
        made_ms=clock.time_ns() // 10**6,
        code_version=__version__,
        origin=checked.authority.origin,
        hotkey=checked.authority.hotkey,
        size=checked.state.size,
        root=checked.root.hex(),
        rounds=checked.state.rounds,
        blobs=checked.blobs,
        files={name: sha256_file(partial / name) for name in (LEDGER_FILE, *(path.name for path in keys))},
    )
    write_durably(partial / BACKUP_FILE, json.dumps(asdict(manifest), indent=2).encode(), mode=0o600)
    return manifest


def _copy_blobs(source: Path, target: Path, progress: Stages, *, only: set[str] | None = None) -> None:
    """Copy the blobs that are not there yet; one that retention took meanwhile is left out."""
    paths = sorted(source.glob("[0-9a-f][0-9a-f]/" + "[0-9a-f]" * 64))
    for number, path in enumerate(paths, 1):
        copy = target / path.parent.name / path.name
        if not copy.exists() and (only is None or path.name in only):
            copy.parent.mkdir(parents=True, exist_ok=True)
            try:
                _copy_file(path, copy)
            except FileNotFoundError:
                continue
        progress(source.name, number, len(paths))


def _copy_file(source: Path, target: Path) -> None:
    """A copy that is on the disk, for its owner only."""
    shutil.copyfile(source, target)
    target.chmod(0o600)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _move_in(partial: Path, state_dir: Path) -> None:
    """Give everything its name; the ledger last, for it is what makes a folder a validator's state."""
    for folder in sorted(path for path in partial.rglob("*") if path.is_dir()):
        sync_folder(folder)
    names = sorted(path.name for path in partial.iterdir() if path.name != LEDGER_FILE)
    for name in (*names, LEDGER_FILE):
        (partial / name).rename(state_dir / name)
        sync_folder(state_dir)
