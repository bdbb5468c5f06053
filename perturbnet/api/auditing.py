"""`audit`: a validator's published log, recomputed."""

from __future__ import annotations

from pathlib import Path

from perturbnet.api.arguments import machine_settings, read_count, read_subnet, require_one_of
from perturbnet.api.models import PROFILES
from perturbnet.auditing.findings import AuditReport
from perturbnet.auditing.opening import open_means, read_anchors
from perturbnet.auditing.parts import AuditPlan
from perturbnet.auditing.request import AuditRequest
from perturbnet.auditing.run import Means, Scope
from perturbnet.transparency.bundle import open_bundle


def audit(
    bundle: str | Path,
    *,
    hotkey: str,
    netuid: int,
    anchors: str | Path | None = None,
    profile: str | None = None,
    labels: bool = True,
    sample: int | None = None,
) -> AuditReport:
    """Recompute a validator's published log, as a stranger does. A finding is no error; it is in the report.

    As `perturb audit`; docs/audit.md says what each step proves and what only the validator attests.

    Args:
        bundle: the published log: a folder, or its http(s) address.
        hotkey: the validator, ss58.
        netuid: the subnet.
        anchors: where the anchors come from: `chain`, or a file of `perturb audit anchors`. Never the bundle:
            None is a finding.
        profile: data set and model that `perturb bootstrap` prepared on this machine, `reference` or
            `imagenet100`. None leaves out what needs images (the images of challenges, answers, labels).
        labels: False leaves out the model, so labels and logits.
        sample: recompute so many answers, drawn at random; None means all.

    Returns:
        `findings`, `passed` (there are none), and how much was `checked`, `attested` and `unchecked`.

    Raises:
        ArgumentError: an argument that is not allowed.
        LedgerError: the log cannot be read at all (`BundleMissing`, `BundleTampered`, `NoteError`).
        AuditError: the file of anchors cannot be read.
        ArtifactMissing, DigestMismatch: this machine has not prepared the profile, or holds something else.
        ChainError: the chain does not answer.

    Example:
        >>> import perturbnet
        >>> perturbnet.audit("nowhere", hotkey="me", netuid=1)
        Traceback (most recent call last):
        perturbnet.errors.ArgumentError: hotkey: 'me' is not allowed; expected an ss58 address

    """
    read_subnet(hotkey, netuid)
    if profile is not None:
        require_one_of("profile", profile, PROFILES)
    asked = read_count("sample", sample)
    settings = machine_settings(NETUID=str(netuid), PERTURB_PROFILE=profile)
    given = read_anchors(None if anchors is None else str(anchors), hotkey, settings)
    means, manifest = open_means(settings, data=True, model=labels) if profile else (Means(), "")
    with open_bundle(bundle) as opened:
        plan = AuditPlan.of(opened)
        scope = Scope.whole(plan.size, sample=asked)
        return AuditRequest(hotkey, netuid, given, means, manifest).run(opened, plan, scope).report
