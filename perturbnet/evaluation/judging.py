"""An evaluation that is prepared, to its end: every image that is left, then log, certificate and pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from perturbnet.evaluation.certifying import certify
from perturbnet.evaluation.outcome import EvaluationOutcome, conclude, write_products
from perturbnet.evaluation.run import PreparedEvaluation, open_evaluation
from perturbnet.evaluation.tally import Tally, tally_entries
from perturbnet.runtime.progress import Stages

Judged = Callable[[int, int, str], None]  # (images judged, of, what came of them so far)


def judge_images(prepared: PreparedEvaluation, tell: Judged = lambda _done, _of, _said: None) -> None:
    """Judge every image that is left; then the log is published, and certified.

    Raises:
        LedgerError: the log is damaged, another key's, or open in another process.
        AttackError: an attack failed; nothing may be concluded from that.
        WalletError: no such key.

    """
    total = prepared.images.identity.rows
    with open_evaluation(prepared) as session:
        evaluation, tally = session.evaluation, tally_entries(session.journal.store.entries())
        tell(evaluation.judged, total, _so_far(tally))
        while (done := evaluation.step()) is not None:
            tally.add(done.receipts)
            tell(evaluation.judged, total, _so_far(tally))
        session.publish()
        certify(session)


def conclude_with_products(prepared: PreparedEvaluation, progress: Stages) -> EvaluationOutcome:
    """Check and count what was published, and write the pages for people; raises as both."""
    outcome = conclude(prepared, progress)
    return replace(outcome, files=outcome.files | write_products(prepared))


def _so_far(tally: Tally) -> str:
    return f"stability {tally.stability:.3f}, score {tally.mean_score:.3f}"
