"""An honest log has no findings, and the counts say what was looked at."""

from __future__ import annotations

import random

from perturbnet.auditing.run import Scope
from perturbnet.errors import Reject
from perturbnet.ledger.leaves import ChallengeLeaf, MetagraphLeaf, ReceiptLeaf, SegmentLeaf, WeightsLeaf
from tests.support.auditing.honest import Honest


def test_an_honest_log_has_no_findings(honest: Honest) -> None:
    report = honest.audit()
    assert report.findings == []
    assert report.checked["leaves"] == len(honest.entries)
    assert report.checked["challenges"] == len(honest.places(ChallengeLeaf))
    assert report.checked["weight vectors"] == len(honest.places(WeightsLeaf)) > 0
    assert report.checked["draws"] > 0 < len(honest.places(SegmentLeaf))
    assert report.checked["skipped rows"] == 1
    assert report.checked["signatures"] == len(honest.receipts()) + len(honest.receipts(Reject.LINF_LOW))
    assert report.checked["labels recomputed"] == report.checked["receipts recomputed"]


def test_what_nobody_can_recompute_is_counted_as_attested(honest: Honest) -> None:
    attested = honest.audit().attested
    assert attested["no image: timeout"] == len(honest.receipts(Reject.TIMEOUT)) > 0
    assert attested["no image: bad_message"] == len(honest.receipts(Reject.BAD_MESSAGE)) > 0
    assert attested["snapshots of the metagraph"] == len(honest.places(MetagraphLeaf))
    assert attested["response times"] > 0


def test_without_the_model_everything_but_labels_is_checked(honest: Honest) -> None:
    honest.engine.calls.clear()
    report = honest.audit(model=False)
    assert report.findings == []
    assert honest.engine.calls == []
    assert report.checked["labels recomputed"] == 0
    assert report.unchecked["labels (no model was asked)"] == report.checked["receipts recomputed"] > 0


def test_a_sample_looks_at_so_many_receipts_and_counts_the_rest(honest: Honest) -> None:
    report = honest.audit(scope=lambda size: Scope.whole(size, sample=4), dice=random.Random(1))
    assert report.findings == []
    assert report.checked["receipts recomputed"] == 4
    with_pixels = len(honest.receipts()) + len(honest.receipts(Reject.LINF_LOW))
    assert report.unchecked["receipts outside the sample"] == with_pixels - 4


def test_since_leaves_out_older_receipts_but_not_the_history(honest: Honest) -> None:
    middle = honest.places(ChallengeLeaf)[4]
    report = honest.audit(scope=lambda size: Scope.whole(size, since=middle))
    later = [place for place in honest.places(ReceiptLeaf) if place > middle]
    assert report.findings == []
    assert report.checked["leaves"] == len(honest.entries)
    assert 0 < report.checked["receipts recomputed"] <= len(later)


def test_parts_add_up_to_the_whole(honest: Honest) -> None:
    whole = honest.audit()
    parts = honest.audit(scope=Scope.log)
    for number in range(1, 4):
        parts.add(honest.audit(scope=lambda size, number=number: Scope.part(size, number, 3)))  # type: ignore[misc]
    assert parts.findings == []
    assert parts.checked == whole.checked
    assert parts.attested == whole.attested
    assert parts.unchecked == whole.unchecked
