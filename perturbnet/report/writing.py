"""Making a report: read the log once, rebuild a few pictures, write one file whole or not at all."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from perturbnet.certificate.envelope import Certificate
from perturbnet.datasets import ImageSource
from perturbnet.errors import OutputError
from perturbnet.report.certificate import put_beside
from perturbnet.report.facts import read_facts
from perturbnet.report.folding import Findings, fold, newest_config
from perturbnet.report.gallery import Gallery, hang
from perturbnet.report.page import Report, render_report
from perturbnet.runtime.artifacts import write_durably
from perturbnet.runtime.clock import Clock, SystemClock
from perturbnet.runtime.progress import Progress
from perturbnet.transparency.bundle import Bundle
from perturbnet.version import __version__

PICTURES = 8
NO_SOURCE = "The data set is not on this machine: perturb bootstrap prepares it."
NOT_ASKED = "They were not asked for."
NOBODY = "No answer was accepted."
OpenPictures = Callable[[str], tuple[ImageSource | None, str]]
"""open_pictures(repository): the data set; or None, and why in a sentence"""


@dataclass(frozen=True)
class ReportOptions:
    """What is wanted: leaves from `since` to before `until`, a model ("": the newest), how many pictures."""

    since: int = 0
    until: int | None = None
    model: str = ""
    pictures: int = PICTURES


def make_report(
    bundle: Bundle,
    wish: ReportOptions,
    *,
    open_pictures: OpenPictures,
    place: str = "BUNDLE",
    progress: Progress = lambda _done, _of: None,
    clock: Clock | None = None,
) -> Report:
    """Read the log and rebuild the pictures.

    Args:
        bundle: the published log.
        wish: which part of it.
        open_pictures: opens the data set for the pictures; None and a sentence where it cannot.
        place: how the page's commands name the log.
        progress: is told how far the reading is.
        clock: says when the page was made.

    Raises:
        OutputError: a range that the log does not have, or no round of that model in it.
        NoteError: the log's own key did not sign it.
        LedgerError: a leaf or a round that is not what it should be.

    """
    log = read_facts(bundle, place, wish.since, wish.until)
    config = newest_config(bundle, wish.since, log.size)
    model = wish.model or config.model_digest
    findings = fold(bundle, since=wish.since, size=log.size, model=model, progress=progress)
    if findings.last is not None:
        config = findings.last.config
    elif wish.model:
        raise OutputError(
            f"no complete round of the model {wish.model} in these leaves",
            hint=f"The newest one's digest is {config.model_digest}.",
        )
    gallery = _gallery(bundle, findings, wish, partial(open_pictures, str(config.dataset.get("repository"))))
    now_ms = (clock or SystemClock()).time_ns() // 10**6
    return Report(log, config, findings, gallery, now_ms, __version__)


def given(source: ImageSource | None, reason: str = NO_SOURCE) -> OpenPictures:
    """For whoever has the data set at hand, or none."""
    return lambda _repository: (source, reason)


def _gallery(
    bundle: Bundle,
    findings: Findings,
    wish: ReportOptions,
    open_: Callable[[], tuple[ImageSource | None, str]],
) -> Gallery:
    if not wish.pictures:
        return Gallery((), NOT_ASKED)
    examples = findings.strongest.best()
    if not examples:
        return Gallery((), NOBODY)
    source, reason = open_()
    return Gallery((), reason) if source is None else hang(bundle, examples, source, wish.pictures)


def write_report(path: Path, report: Report, certificate: Certificate | None = None) -> int:
    """Write the page, whole or not at all, with a word on a certificate; returns its size in bytes.

    Raises:
        OutputError: the file cannot be written, or the certificate is not one of this model and log.

    """
    beside = None if certificate is None else put_beside(certificate, report)
    return write_page(path, render_report(report, beside))


def write_page(path: Path, text: str) -> int:
    """Write one page durably; returns its size in bytes. Raises `OutputError`."""
    data = text.encode()
    try:
        write_durably(path, data)
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        hint = "Free some space." if full else "Name a file in a folder that exists and may be written to."
        raise OutputError(f"{path}: {error.strerror}", hint=hint) from None
    return len(data)
