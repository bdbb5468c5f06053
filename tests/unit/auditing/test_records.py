"""Records that are missing, moved, or there twice: the history names the first leaf that cannot follow."""

from __future__ import annotations

from perturbnet.auditing.findings import AuditStep
from perturbnet.ledger.leaves import ChallengeLeaf, WeightsLeaf
from tests.support.auditing.honest import Honest, a_challenge, first, named, renumbered


def test_a_dropped_record_is_named(honest: Honest) -> None:
    place = honest.receipts()[3]
    leaves = honest.leaves()
    del leaves[place]
    report = honest.audit(leaves)
    assert first(report, AuditStep.SEQUENCE).leaf >= place
    assert report.unchecked["leaves after the break"] > 0


def test_a_record_dropped_and_the_rest_renumbered_is_a_challenge_without_its_receipts(honest: Honest) -> None:
    place = honest.receipts()[3]
    leaves = honest.leaves()
    del leaves[place]
    found = first(honest.audit(renumbered(leaves, place)), AuditStep.SEQUENCE)
    closing = (ChallengeLeaf, WeightsLeaf)
    following = next(at for at, leaf in enumerate(leaves[place:], place) if isinstance(leaf, closing))
    assert (found.leaf, found.field, found.expected) == (following, "kind", "1 more receipts")


def test_two_records_in_another_order_are_named(honest: Honest) -> None:
    start = honest.places(ChallengeLeaf)[2]
    leaves = honest.leaves()
    leaves[start], leaves[start + 1] = leaves[start + 1], leaves[start]
    found = first(honest.audit(leaves), AuditStep.SEQUENCE)
    assert (found.leaf, found.field, found.expected) == (start, "challenge", "none")


def test_a_record_that_is_there_twice_is_named(honest: Honest) -> None:
    place = honest.receipts()[2]
    leaves = honest.leaves()
    leaves.insert(place, leaves[place])
    found = honest.audit(leaves).findings[0]
    assert (found.step, found.leaf, found.field) == (AuditStep.SEQUENCE, place + 1, "uid")


def test_a_receipt_from_an_older_round_is_named(honest: Honest) -> None:
    old, new = honest.receipts()[0], honest.receipts()[-1]
    leaves = honest.leaves()
    leaves[new] = leaves[old]
    assert (AuditStep.SEQUENCE, new, "challenge") in named(honest.audit(leaves))


def test_a_receipt_without_its_challenge_is_named(honest: Honest) -> None:
    place, _ = a_challenge(honest)
    leaves = honest.leaves()
    del leaves[place]
    found = honest.audit(renumbered(leaves, place)).findings[0]
    assert (found.step, found.leaf, found.field, found.expected) == (
        AuditStep.SEQUENCE,
        place,
        "challenge",
        "none",
    )


def test_a_challenge_without_receipts_is_named(honest: Honest) -> None:
    place, leaf = a_challenge(honest)
    leaves = honest.leaves()
    count = len(leaf.asked)
    del leaves[place + 1 : place + 1 + count]
    found = honest.audit(renumbered(leaves, place + 1, count)).findings[0]
    assert (found.step, found.field, found.expected) == (AuditStep.SEQUENCE, "kind", f"{count} more receipts")


def test_a_challenge_without_receipts_at_the_end_is_counted(honest: Honest) -> None:
    place = honest.places(ChallengeLeaf)[-1]
    report = honest.audit(honest.leaves()[: place + 1])
    assert report.findings == []
    assert report.unchecked["rounds still open at the end"] == 1
