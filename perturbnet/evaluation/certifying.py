"""The certificate of an evaluation: issued over all of its log, recorded in it, verified as a reader would.

A certificate is a leaf of the log that it is about, so the next one would count one leaf more and say the
same: nothing is issued again until another image was judged.
"""

from __future__ import annotations

from pathlib import Path

from perturbnet.certificate.envelope import MAX_CERTIFICATE_BYTES, Certificate, read_certificate
from perturbnet.certificate.findings import VerificationReport
from perturbnet.certificate.issuing import issue_certificate
from perturbnet.certificate.verification import Reader, verify_certificate
from perturbnet.errors import OutputError
from perturbnet.evaluation.session import Session
from perturbnet.runtime.artifacts import write_durably
from perturbnet.runtime.clock import Clock, SystemClock
from perturbnet.transparency.bundle import Bundle, open_bundle
from perturbnet.validator.certificates import record_certificate

CERTIFICATE_FILE = "certificate.json"


def certify(session: Session, clock: Clock | None = None) -> Path:
    """Issue the certificate of what was published, record it and publish again; returns its file.

    The file is on the disk before the leaf that names it; a crash in between issues another one.

    Raises:
        OutputError: nothing in the log counts, or the file cannot be written.
        LedgerError: it cannot be recorded or published.

    """
    path = session.out / CERTIFICATE_FILE
    state = session.journal.state
    newest = state.certificates[-1] if state.certificates else None
    if newest and newest[0] == state.size - 1 and _digest(path) == newest[1].envelope:
        return path
    now_ms = (clock or SystemClock()).time_ns() // 10**6
    model = session.evaluation.arena.engine.model_digest
    with open_bundle(session.bundle) as bundle:
        certificate = issue_certificate(bundle, session.source.key, issued_ms=now_ms, model=model)
    try:
        write_durably(path, certificate.data + b"\n")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from None
    record_certificate(session.journal, certificate)
    session.publish()
    return path


def read(out: Path) -> Certificate:
    """The certificate in `out`.

    Raises:
        OutputError: there is none, or it is malformed.

    """
    data = _read(out / CERTIFICATE_FILE)
    if data is None:
        raise OutputError(
            f"{out / CERTIFICATE_FILE} does not exist", hint="evaluate again: it is issued anew"
        )
    return read_certificate(data)


def verify(out: Path, bundle: Bundle, model: str) -> tuple[VerificationReport, Certificate | None] | None:
    """Verify the certificate in `out` against its published log; None where there is none.

    Raises:
        OutputError: it cannot be read.
        LedgerError: the log is not what it should be.

    """
    data = _read(out / CERTIFICATE_FILE)
    if data is None:
        return None
    reader = Reader(bundle, hotkey=bundle.authority().hotkey, model=model)
    return verify_certificate(data, reader)


def _digest(path: Path) -> str:
    """Which certificate the file holds; empty for none."""
    data = _read(path)
    try:
        return read_certificate(data).digest if data is not None else ""
    except OutputError:
        return ""


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(MAX_CERTIFICATE_BYTES + 2)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror}") from None
