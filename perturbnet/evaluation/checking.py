"""What a stranger does with an evaluation: recompute all of its published log from images and weights.

It is the network's own audit (`perturbnet.auditing`), step by step, but for two that have no object here:
there is no chain, so no anchor; and no weights. The order of images follows from a seed that is no secret.
"""

from __future__ import annotations

from perturbnet.auditing.findings import AuditReport
from perturbnet.auditing.heads import check_authority, check_signature
from perturbnet.auditing.history import Expected
from perturbnet.auditing.run import Audit, Means, Scope
from perturbnet.datasets import ImageSource
from perturbnet.evaluation.attackers import NETUID
from perturbnet.rules.classification import Engine
from perturbnet.runtime.progress import Stages
from perturbnet.transparency.bundle import Bundle

NO_ANCHOR = "anchors: none, an offline evaluation"


def check_bundle(
    bundle: Bundle,
    images: ImageSource,
    engine: Engine,
    plan_digest: str,
    progress: Stages = lambda _what, _done, _of: None,
) -> AuditReport:
    """Audit an evaluation's published log, all of it, with images and model.

    Args:
        bundle: the published log; whose it is, it says itself.
        images: the images that it names.
        engine: the model that it names; in float64 only the same machine gives the same bits for sure.
        plan_digest: of the plan that its config must name.
        progress: told (what, done, of).

    Raises:
        NoteError: nobody may sign the log.
        BundleError: a file of it is missing or damaged.
        DigestMismatch: an image is not the one that was recorded.

    """
    hotkey = bundle.authority().hotkey
    expected = Expected(hotkey, NETUID, images.identity, engine.model_digest, plan_digest)
    audit = Audit(bundle, expected, Means(images, engine), Scope.whole(bundle.size), progress)
    hinted = check_signature(bundle, expected, audit.report)
    history = audit.run_history()
    check_authority(hinted, history.authority, audit.report)
    audit.run_answers()
    audit.report.unchecked[NO_ANCHOR] += 1
    return audit.report
