"""The key that signs a log: one file beside the ledger, for its owner only.

The file holds the key on paper (`notes.SigningKey.encode`), so it also says the log's name; whoever has it
can sign checkpoints in the operator's name, and nothing else. It is written before the genesis leaf that
names it.
"""

from __future__ import annotations

import logging
import secrets
from pathlib import Path

from perturbnet.errors import LedgerError, LedgerForked, NoteError
from perturbnet.runtime.artifacts import write_durably
from perturbnet.runtime.folders import make_folder, sync_folder
from perturbnet.transparency.notes import KEY_BYTES, SigningKey, parse_signing_key

KEY_FILE = "log.key"
MAX_KEY_BYTES = 4096

log = logging.getLogger(__name__)


def create_log_key(path: Path, origin: str) -> SigningKey:
    """Make a random key for the log of this name and write it durably, mode 0600.

    Raises:
        LedgerError: it cannot be written.

    """
    key = SigningKey.from_seed(origin, secrets.token_bytes(KEY_BYTES))
    try:
        make_folder(path.parent)
        write_durably(path, f"{key.encode()}\n".encode(), mode=0o600)
    except OSError as error:
        raise LedgerError(f"{path} was not written: {error.strerror}") from error
    log.info("The log %s is signed with a new key: %s", origin, key.verifier().encode())
    return key


def load_log_key(path: Path) -> SigningKey | None:
    """The key in the file; None when there is no file.

    Raises:
        NoteError: it is no key. What it holds is not quoted.
        LedgerError: it cannot be read.

    """
    try:
        if path.stat().st_size > MAX_KEY_BYTES:
            raise NoteError(f"{path} is larger than {MAX_KEY_BYTES} bytes, so not a key")
        text = path.read_bytes().decode().strip()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise NoteError(f"{path} is no key") from None
    except OSError as error:
        raise LedgerError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return parse_signing_key(text)
    except NoteError as error:
        raise NoteError(
            f"{path}: {error.message}", hint="restore it, or: perturb ledger rotate-key"
        ) from None


def require_log_key(path: Path, origin: str, public: str) -> SigningKey:
    """The key that the log names: `public`, in hex. A key that was made to follow takes its place.

    Raises:
        LedgerForked: the file is of another log, or holds another key than the log says.
        NoteError: there is none, or it is no key.

    """
    key, following = load_log_key(path), load_log_key(next_key(path))
    if following is not None and following.public.hex() == public:
        _take_over(path, key)
        key = following
    if key is None:
        raise NoteError(f"{path} is missing: nobody can sign {origin}", hint="perturb ledger rotate-key")
    if (key.name, key.public.hex()) != (origin, public):
        raise LedgerForked(
            f"{path} is the key {key.public.hex()} of {key.name}, the log says {public} of {origin}",
            hint="restore the key that belongs to this log, or: perturb ledger rotate-key",
        )
    return key


def next_key(path: Path) -> Path:
    """Where the key lies that is to follow the one at `path`."""
    return path.with_suffix(".next")


def _take_over(path: Path, old: SigningKey | None) -> None:
    """Give the next key its name; the old one stays beside it, under its id."""
    try:
        if old is not None:
            path.replace(path.with_suffix(f".{old.verifier().id.hex()}"))
        next_key(path).replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise LedgerError(f"{path} cannot be replaced: {error.strerror}") from error
