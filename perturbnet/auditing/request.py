"""One audit as it is asked for: whose log, the anchors from outside, and what of this machine is used."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from perturbnet.auditing.history import Expected
from perturbnet.auditing.parts import AuditPart, AuditPlan
from perturbnet.auditing.run import Audit, Means, Scope, audit_bundle
from perturbnet.runtime.progress import Stages
from perturbnet.transparency.anchors import Anchor
from perturbnet.transparency.bundle import Bundle


@dataclass(frozen=True)
class AuditRequest:
    """Who is audited, by which anchors, with which data set and model.

    `manifest` is the digest of what this machine has prepared (`opening.open_means`), empty without data.
    """

    hotkey: str
    netuid: int
    anchors: Sequence[Anchor] = ()
    means: Means = field(default_factory=Means)
    manifest: str = ""

    def run(
        self, bundle: Bundle, plan: AuditPlan, scope: Scope, progress: Stages = lambda _what, _done, _of: None
    ) -> AuditPart:
        """Audit the scope of an open log; what does not follow from the log's own rules is a finding.

        Raises:
            LedgerError: the log cannot be read at all.
            ArtifactError, DatasetError: the data set of this machine is not what it was.

        """
        started_s = time.monotonic()
        source, engine = self.means.source, self.means.engine
        expected = Expected(
            self.hotkey,
            self.netuid,
            source.identity if source else None,
            engine.model_digest if engine else None,
            self.manifest or None,
        )
        audit = Audit(bundle, expected, self.means, scope, progress)
        report = audit_bundle(audit, bundle, self.anchors)
        return AuditPart(plan, scope, report, engine is not None, time.monotonic() - started_s)
