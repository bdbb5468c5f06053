"""Steps 1 and 2: who signed the log's head, and whether what stands on chain is a beginning of this log.

Anchors come from the chain, or from a file that the auditor vouches for, never from the bundle. The bundle's
own list of older anchors counts as far as an anchor from outside pins it by the chain of digests.
"""

from __future__ import annotations

from collections.abc import Sequence

from perturbnet.auditing.findings import WHOLE_LOG, AuditReport, AuditStep, Finding
from perturbnet.auditing.history import Expected
from perturbnet.errors import LedgerError
from perturbnet.transparency.anchors import Anchor, check_chain, check_pinned
from perturbnet.transparency.bundle import Bundle
from perturbnet.transparency.delegation import Authority, check_owner


def check_signature(bundle: Bundle, expected: Expected, report: AuditReport) -> Authority | None:
    """Step 1. Returns who may sign, as far as the bundle's hints say; None where nobody may."""
    try:
        authority = bundle.verify_signature()
        check_owner(authority, hotkey=expected.hotkey, netuid=expected.netuid)
    except LedgerError as error:
        wanted = f"a note signed by a key that {expected.hotkey} delegated on netuid {expected.netuid}"
        report.findings.append(Finding(AuditStep.SIGNATURE, WHOLE_LOG, "checkpoint", wanted, error.message))
        return None
    report.checked["signatures of the checkpoint"] += 1
    return authority


def check_authority(hinted: Authority | None, read: Authority | None, report: AuditReport) -> None:
    """Step 1 again, when all leaves are read: no key leaf was hidden from the first look."""
    if hinted is not None and hinted != read:
        got = f"{hinted.key.public.hex()} of {hinted.hotkey}"
        wanted = "nobody" if read is None else f"{read.key.public.hex()} of {read.hotkey}"
        report.findings.append(Finding(AuditStep.SIGNATURE, WHOLE_LOG, "key", wanted, got))


def check_anchors(bundle: Bundle, anchors: Sequence[Anchor], expected: Expected, report: AuditReport) -> None:
    """Step 2: every anchor from outside, and those of the bundle's list that they pin."""
    if not anchors:
        wanted = "at least one anchor, from the chain or from a file that you trust"
        report.findings.append(Finding(AuditStep.ANCHORS, WHOLE_LOG, "anchors", wanted, "none"))
        return
    for anchor in anchors:
        if anchor.netuid != expected.netuid:
            got = f"{anchor.netuid}, at block {anchor.block}"
            finding = Finding(AuditStep.ANCHORS, WHOLE_LOG, "netuid of an anchor", str(expected.netuid), got)
            report.findings.append(finding)
    try:
        check_chain(anchors) if len(anchors) > 1 else None
        check_pinned(anchors, bundle.size, bundle.tree.subtree)
        older = _pinned_list(bundle, anchors[-1])
        check_chain(older)
        check_pinned(older, bundle.size, bundle.tree.subtree)
    except LedgerError as error:
        wanted = "anchors that each pin a beginning of this log"
        report.findings.append(Finding(AuditStep.ANCHORS, WHOLE_LOG, "anchors", wanted, error.message))
        return
    report.checked["anchors"] += len({anchor.digest for anchor in (*anchors, *older)})
    newest = max(anchor.size for anchor in anchors)
    report.checked["leaves that an anchor pins"] += newest
    if bundle.size > newest:
        report.unchecked["leaves newer than the newest anchor"] += bundle.size - newest


def _pinned_list(bundle: Bundle, newest: Anchor) -> list[Anchor]:
    """The bundle's anchors up to the newest from outside; none where that one is not among them."""
    listed = bundle.anchors
    digests = [anchor.digest for anchor in listed]
    return listed[: digests.index(newest.digest) + 1] if newest.digest in digests else []
