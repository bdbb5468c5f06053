"""An audit from beginning to end: the history once, then round after round; all of it, a sample, or a part.

The history needs the whole log and no image; rounds need images and, for step 8, the model. So they are two
kinds of parts: one part `log`, and parts of the range of leaves, which any number of machines share.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from perturbnet.auditing.answers import RoundCheck
from perturbnet.auditing.challenges import check_skip, skipped_without_reason
from perturbnet.auditing.findings import WHOLE_LOG, AuditReport, AuditStep, Finding
from perturbnet.auditing.heads import check_anchors, check_authority, check_signature
from perturbnet.auditing.history import Expected, History
from perturbnet.datasets import ImageSource
from perturbnet.errors import DatasetError, LedgerError, RowUnreadable
from perturbnet.ledger.leaves import GenesisLeaf, ReceiptLeaf
from perturbnet.rounds.logged import Log, read_rounds
from perturbnet.rules.classification import Engine
from perturbnet.runtime.progress import Stages
from perturbnet.transparency.anchors import Anchor
from perturbnet.transparency.bundle import Bundle


@dataclass(frozen=True)
class Means:
    """What the auditor has: a copy of the data set, and the model. What needs the missing one is left out."""

    source: ImageSource | None = None
    engine: Engine | None = None


@dataclass(frozen=True)
class Scope:
    """How much is looked at.

    `history` is the part `log`. `start` to before `stop` are the leaves whose challenges' receipts are
    recomputed, all of them or `sample` drawn at random.
    """

    size: int
    start: int = 0
    stop: int = 0
    history: bool = True
    sample: int | None = None

    @classmethod
    def whole(cls, size: int, *, since: int = 0, sample: int | None = None) -> Scope:
        """Everything, or the receipts from a leaf on."""
        return cls(size, min(since, size), size, sample=sample)

    @classmethod
    def log(cls, size: int) -> Scope:
        """The part `log`: the history alone."""
        return cls(size)

    @classmethod
    def part(cls, size: int, number: int, of: int, *, sample: int | None = None) -> Scope:
        """Part `number` (from 1) of `of` equal ranges of leaves, without the history."""
        start, stop = (size * edge // of for edge in (number - 1, number))
        return cls(size, start, stop, history=False, sample=sample)


@dataclass
class Audit:
    """One run over one log."""

    log: Log
    expected: Expected
    means: Means
    scope: Scope
    progress: Stages = lambda _what, _done, _of: None
    dice: random.Random = field(default_factory=random.SystemRandom)
    report: AuditReport = field(default_factory=AuditReport)

    def run_history(self) -> History:
        """Steps 3, 4, 5, 6 and 9."""
        history = History(self.expected, self.report)
        try:
            for entry in self.log.entries(0, self.scope.size):
                history.take(entry)
                self.progress("leaves", entry.position + 1, self.scope.size)
        except LedgerError as error:
            self._unreadable(history.taken, error)
        history.close()
        if self.means.source is not None:
            self._check_skips(history, self.means.source)
        return history

    def run_answers(self) -> None:
        """Steps 6 (images), 7 and 8 for the rounds in scope."""
        start, stop = self.scope.start, self.scope.stop
        if start >= stop:
            return
        if self.means.source is None:
            self.report.unchecked["leaves whose images and answers were not looked at"] += stop - start
            return
        try:
            check = RoundCheck(self.log, self.means.source.read, self.means.engine, self._draw_sample())
            check.report, check.local = self.report, self._is_local()
            for logged in read_rounds(self.log.entries(start, self.scope.size), stop=stop):
                check.check(logged)
                self.progress("rounds", min(logged.opened.position + 1, stop) - start, stop - start)
            self.progress("rounds", stop - start, stop - start)
        except LedgerError as error:
            self._unreadable(WHOLE_LOG, error)
        if self.means.engine is None:
            self.report.unchecked["labels (no model was asked)"] += self.report.checked["receipts recomputed"]

    def _is_local(self) -> bool:
        """Whether the log says that its network lives on one machine; its name, in leaf 0, says so too."""
        first = next(iter(self.log.entries(0, 1)), None)
        return first is not None and isinstance(first.leaf, GenesisLeaf) and first.leaf.network == "local"

    def _draw_sample(self) -> frozenset[int] | None:
        """Positions of receipts to recompute, by the auditor's own dice; None for all of them."""
        if self.scope.sample is None:
            return None
        entries = self.log.entries(self.scope.start, self.scope.stop)
        places = [
            entry.position
            for entry in entries
            if isinstance(entry.leaf, ReceiptLeaf) and entry.leaf.adversarial_pixels
        ]
        return frozenset(self.dice.sample(places, min(self.scope.sample, len(places))))

    def _check_skips(self, history: History, source: ImageSource) -> None:
        """Step 6 for rows that were skipped: each must be one that makes no challenge."""
        for skipped, rules in history.skipped:
            try:
                explained = check_skip(skipped, source.read(skipped.leaf.row), rules, self.means.engine)
            except RowUnreadable:
                self.report.checked["skipped rows"] += 1
                continue
            except DatasetError as error:
                self.report.findings.append(skipped_without_reason(skipped.entry, error.message))
                continue
            if explained is None:
                self.report.unchecked["skipped rows that only the model can explain"] += 1
            elif explained:
                self.report.checked["skipped rows"] += 1
            else:
                self.report.findings.append(skipped_without_reason(skipped.entry, skipped.leaf.reason))

    def _unreadable(self, leaf: int, error: LedgerError) -> None:
        """Step 3: the log cannot be read on from here."""
        got = f"{type(error).__name__}: {error.message}"
        finding = Finding(AuditStep.LEAVES, leaf, "leaf", "one that leads to the checkpoint's root", got)
        self.report.findings.append(finding)


def audit_bundle(audit: Audit, bundle: Bundle, anchors: Sequence[Anchor]) -> AuditReport:
    """All steps that are in scope. Anchors come from outside; see `heads`."""
    if audit.scope.history:
        hinted = check_signature(bundle, audit.expected, audit.report)
        check_anchors(bundle, anchors, audit.expected, audit.report)
        pinned = tuple(sorted((anchor.size, anchor.block) for anchor in anchors))
        audit.expected = replace(audit.expected, anchored=pinned)
        history = audit.run_history()
        if audit.scope.size == bundle.size and not history.broken:
            check_authority(hinted, history.authority, audit.report)
    audit.run_answers()
    return audit.report
