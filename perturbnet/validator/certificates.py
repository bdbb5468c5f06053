"""A certificate becomes a leaf of the log that it is about.

    STATE/certificates/<digest>.json       handed over, to be recorded at the next round's edge
    STATE/certificates/<digest>.recorded   what became of it: the leaf's number
    STATE/certificates/<digest>.refused    or why not

Rules
- Only a running validator holds its ledger, so it is asked: whoever may write into its state folder puts the
  certificate there. Where none runs, `record_certificate` is called on the ledger itself.
- What is recorded is ours: signed by the key that signs the log now, over leaves that are in it under
  the root that it names, about a model that they name. Whether its numbers are right is for readers to count.
- The leaf is on the disk before the answer is, and a certificate that has a leaf gets no second one: after a
  crash the file is simply taken up again.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from perturbnet.certificate.envelope import MAX_CERTIFICATE_BYTES, Certificate, read_certificate
from perturbnet.certificate.verification import leaf_of
from perturbnet.errors import LedgerError, NoteError, OutputError, PerturbError
from perturbnet.ledger.journal import Journal
from perturbnet.ledger.leaves import ConfigLeaf
from perturbnet.runtime.artifacts import write_durably
from perturbnet.runtime.folders import make_folder
from perturbnet.transparency.signing import read_owner

FOLDER = "certificates"
WAITING, RECORDED, REFUSED = ".json", ".recorded", ".refused"

log = logging.getLogger(__name__)


def record_certificate(journal: Journal, certificate: Certificate) -> int:
    """Append a certificate's leaf; returns where it stands. One that has a leaf keeps it.

    Raises:
        OutputError: it is not of this log, or says something that this log does not.
        LedgerError: it cannot be recorded now: a round is open, or the disk.

    """
    for position, leaf in journal.state.certificates:
        if leaf.envelope == certificate.digest:
            return position
    _require_ours(journal, certificate)
    return journal.append(leaf_of(certificate))[0].position


def hand_over(state_dir: Path, certificate: Certificate) -> Path:
    """Put a certificate where the validator that runs on `state_dir` finds it; returns the file.

    Raises:
        LedgerError: it cannot be written.

    """
    folder = state_dir / FOLDER
    path = folder / f"{certificate.digest}{WAITING}"
    try:
        make_folder(folder)
        for suffix in (RECORDED, REFUSED):
            path.with_suffix(suffix).unlink(missing_ok=True)
        write_durably(path, certificate.data)
        if os.geteuid() == 0:  # the validator has to take the file away again
            owner = state_dir.stat()
            for made in (folder, path):
                os.chown(made, owner.st_uid, owner.st_gid)
    except OSError as error:
        raise LedgerError(f"{path} cannot be written: {error.strerror}") from error
    return path


def read_answer(path: Path) -> tuple[bool, str] | None:
    """What became of a file that was handed over: whether it is recorded, and the answer; None as yet."""
    for suffix in (RECORDED, REFUSED):
        answer = path.with_suffix(suffix)
        if answer.exists():
            return suffix == RECORDED, answer.read_text(encoding="utf-8").strip()
    return None


def take_certificates(journal: Journal, state_dir: Path) -> int:
    """Record what was handed over; to be called between rounds. Returns how many got a leaf.

    What is refused is said in the log and beside the file, and what cannot be recorded now stays.
    """
    taken = 0
    for path in sorted((state_dir / FOLDER).glob(f"*{WAITING}")):
        if path.is_symlink() or not path.is_file():
            continue
        try:
            taken += _take(journal, path)
        except (OSError, LedgerError) as error:
            log.warning("The certificate %s waits: %s", path.name, error)
    return taken


def _take(journal: Journal, path: Path) -> bool:
    try:
        if path.stat().st_size > MAX_CERTIFICATE_BYTES + 1:
            raise OutputError(f"larger than {MAX_CERTIFICATE_BYTES} bytes")
        position = record_certificate(journal, read_certificate(path.read_bytes()))
    except (OutputError, NoteError) as error:
        log.warning("The certificate %s is refused: %s", path.name, error.message)
        _answer(path, REFUSED, error)
        return False
    log.info("The certificate %s is leaf %d", path.name, position)
    _answer(path, RECORDED, position)
    return True


def _answer(path: Path, suffix: str, what: PerturbError | int) -> None:
    """Write the answer, then take the question away."""
    write_durably(path.with_suffix(suffix), f"{what}\n".encode())
    path.unlink()


def _require_ours(journal: Journal, certificate: Certificate) -> None:
    authority, head = read_owner(journal), certificate.predicate.log
    for name, expected, got in (
        ("log", authority.origin, head.origin),
        ("hotkey", authority.hotkey, head.hotkey),
        ("key", authority.key.public.hex(), head.key),
        ("range", certificate.predicate.statistics.until, head.size),
    ):
        if expected != got:
            raise OutputError(f"a certificate of another {name}: expected {expected}, got {got}")
    if not certificate.signed_by(authority.key):
        raise OutputError("a certificate that the log's key did not sign")
    size = journal.store.size
    if not 0 < head.size <= size:
        raise OutputError(f"a certificate of {head.size} leaves; the log has {size}")
    root = journal.store.subtree(0, head.size).hex()
    if root != head.root:
        raise OutputError(f"a certificate of other leaves: expected the root {root}, got {head.root}")
    _require_model(journal, certificate)


def _require_model(journal: Journal, certificate: Certificate) -> None:
    for item in certificate.predicate.evidence.configurations:
        if not 0 <= item.leaf < certificate.predicate.log.size:
            raise OutputError(f"a certificate that names leaf {item.leaf}, which is not among its leaves")
        entry = next(journal.store.entries(item.leaf))
        if not isinstance(entry.leaf, ConfigLeaf) or entry.leaf.model_digest != certificate.subject:
            raise OutputError(f"leaf {item.leaf} does not name the model {certificate.subject}")
    if not certificate.predicate.evidence.configurations:
        raise OutputError("a certificate without a configuration")
