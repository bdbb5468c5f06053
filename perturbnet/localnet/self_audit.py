"""How a local network ends: it audits its own published log, as a stranger would, and says so in one line.

The anchor comes from the chain, the images from the data set, the labels from the model; nothing from the
validator's own state. The acknowledgements that its miners kept are compared with the log too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from perturbnet.auditing.acknowledged import check_acknowledgement, read_acknowledgements
from perturbnet.auditing.findings import AuditReport, Finding
from perturbnet.auditing.history import Expected
from perturbnet.auditing.run import Audit, Means, Scope, audit_bundle
from perturbnet.bootstrap.holdings import open_manifest
from perturbnet.bootstrap.records import Workplace
from perturbnet.chain import LocalChain
from perturbnet.classifier import open_engine
from perturbnet.datasets import ImageSource
from perturbnet.errors import PerturbError
from perturbnet.localnet.network import NETUID, LocalNetwork
from perturbnet.miner.keepsakes import ACKNOWLEDGEMENTS_FILE
from perturbnet.runtime.progress import Stages
from perturbnet.transparency.anchors import read_commitment
from perturbnet.transparency.bundle import Bundle, open_bundle


@dataclass
class SelfAudit:
    """What came of it; `error` where the log could not be read at all."""

    report: AuditReport = field(default_factory=AuditReport)
    promises: int = 0
    error: str = ""

    @property
    def passed(self) -> bool:
        """Whether everything was recomputed and nothing was found."""
        return not self.error and not self.report.findings

    def line(self) -> str:
        """For the end of the run."""
        if self.error:
            return f"NOT done: {self.error}"
        if self.report.findings:
            return f"{len(self.report.findings)} findings; the first: {self.report.findings[0].sentence()}"
        checked = self.report.checked
        told = f"{checked['leaves']} leaves, {checked['labels recomputed']} answers, "
        told += f"{checked['weight vectors']} weight vectors recomputed"
        return f"nothing found: {told}; {self.promises} acknowledgements kept"


async def audit_itself(
    network: LocalNetwork, chain: LocalChain, source: ImageSource, progress: Stages
) -> SelfAudit:
    """Audit the network's published log, all of it, with the model."""
    done = SelfAudit()
    hotkey = network.validator.wallet.hotkey.ss58_address
    plan = network.plan
    found = read_commitment(await chain.commitment(hotkey))
    try:
        engine = open_engine(plan.profile, cache_dir=plan.cache_dir.expanduser(), device="cpu")
        manifest = open_manifest(Workplace(plan.cache_dir.expanduser().absolute(), plan.profile))
        expected = Expected(hotkey, NETUID, source.identity, engine.model_digest, manifest.digest)
        with open_bundle(network.bundle) as bundle:
            audit = Audit(
                bundle,
                expected,
                Means(source, engine),
                Scope.whole(bundle.size),
                progress,
                report=done.report,
            )
            audit_bundle(audit, bundle, [] if found is None else [found[0]])
            for member in network.members[1:]:
                done.promises += _keep_promises(
                    plan.folder / member.name / ACKNOWLEDGEMENTS_FILE, bundle, done.report.findings
                )
    except PerturbError as error:
        done.error = error.message
    return done


def _keep_promises(file: Path, bundle: Bundle, findings: list[Finding]) -> int:
    """How many promises in a miner's file the log keeps."""
    if not file.exists():
        return 0
    outcomes = [
        check_acknowledgement(message, bundle, netuid=NETUID)
        for message in read_acknowledgements(file.read_bytes())
    ]
    for outcome in outcomes:
        findings += outcome.findings
    return sum(not outcome.findings for outcome in outcomes)
