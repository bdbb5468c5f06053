"""A published log that was tampered with: hashes, signatures and anchors; and the finding that names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from perturbnet.auditing.findings import WHOLE_LOG, AuditReport, AuditStep
from perturbnet.auditing.heads import check_signature
from perturbnet.auditing.run import Audit, Means, Scope, audit_bundle
from perturbnet.errors import BundleError, BundleMissing, BundleTampered, NoteError
from perturbnet.ledger import Leaf, merkle
from perturbnet.ledger.leaves import ReceiptLeaf
from perturbnet.transparency.anchors import Anchor
from perturbnet.transparency.bundle import blob_path, open_bundle
from perturbnet.transparency.delegation import build_key_leaf, read_genesis
from perturbnet.transparency.fraud import verify_fraud_proof, write_fraud_proof
from tests.support.auditing.honest import LOG_KEY, Honest, first, named, tampered
from tests.support.auditing.published import (
    OTHER_KEY,
    anchor_of,
    prove_fraud,
    publish,
    publish_honest,
    sign_head,
    statement_of,
    write_anchors,
)
from tests.support.fakes import NETUID, keypair


def look(folder: Path, honest: Honest, *anchors: Anchor) -> AuditReport:
    """Audit a bundle as `perturb audit` does."""
    with open_bundle(folder) as bundle:
        means = Means(honest.source, honest.engine)
        audit = Audit(bundle, honest.expected, means, Scope.whole(bundle.size))
        return audit_bundle(audit, bundle, anchors)


@pytest.fixture
def anchors(honest: Honest) -> list[Anchor]:
    """What the chain holds: an older anchor, and one of the whole log."""
    older = anchor_of(honest.leaves()[:20], block=50)
    return [older, anchor_of(honest.leaves(), previous=older)]


def entries_file(folder: Path) -> Path:
    """The one entry bundle of the log."""
    return next(path for path in (folder / "tile" / "entries").rglob("*") if path.is_file())


def test_an_honest_bundle_has_no_findings(honest: Honest, folder: Path, anchors: list[Anchor]) -> None:
    report = look(publish_honest(honest, folder / "log"), honest, *anchors)
    assert report.findings == []
    assert report.checked["anchors"] == 2
    assert report.checked["leaves that an anchor pins"] == len(honest.entries)
    assert report.checked["signatures of the checkpoint"] == 1


def test_leaves_behind_the_newest_anchor_are_counted(
    honest: Honest, folder: Path, anchors: list[Anchor]
) -> None:
    report = look(publish_honest(honest, folder / "log"), honest, anchors[0])
    assert report.findings == []
    assert report.unchecked["leaves newer than the newest anchor"] == len(honest.entries) - 20


# Bytes.


def test_one_byte_changed_in_a_record_is_named(honest: Honest, folder: Path, anchors: list[Anchor]) -> None:
    publish_honest(honest, folder / "log")
    path = entries_file(folder / "log")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    found = first(look(folder / "log", honest, *anchors), AuditStep.LEAVES)
    assert "BundleTampered" in found.got
    assert 0 < found.leaf < len(honest.entries)


def test_every_byte_of_a_checkpoint_matters(honest: Honest, folder: Path) -> None:
    publish_honest(honest, folder / "log")
    path = folder / "log" / "checkpoint"
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        report = AuditReport()
        try:
            with open_bundle(folder / "log") as bundle:
                check_signature(bundle, honest.expected, report)
        except (NoteError, BundleError):
            continue
        assert first(report, AuditStep.SIGNATURE).leaf == WHOLE_LOG, place


def test_one_byte_changed_in_a_tile_is_refused_when_it_is_opened(honest: Honest, folder: Path) -> None:
    publish_honest(honest, folder / "log")
    path = next(path for path in (folder / "log" / "tile" / "0").rglob("*") if path.is_file())
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleTampered):
        open_bundle(folder / "log")


def test_one_byte_changed_in_a_blob_is_named(honest: Honest, folder: Path, anchors: list[Anchor]) -> None:
    publish_honest(honest, folder / "log")
    place = honest.receipts()[0]
    leaf = honest.entries[place].leaf
    assert isinstance(leaf, ReceiptLeaf)
    path = folder / "log" / blob_path(leaf.delta)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    found = first(look(folder / "log", honest, *anchors), AuditStep.ANSWERS)
    assert (found.leaf, found.field) == (place, "delta")


# A cut tail.


def test_a_tail_cut_in_a_record_is_named(honest: Honest, folder: Path, anchors: list[Anchor]) -> None:
    publish_honest(honest, folder / "log")
    path = entries_file(folder / "log")
    path.write_bytes(path.read_bytes()[:-10])
    assert "ends in its leaf" in first(look(folder / "log", honest, *anchors), AuditStep.LEAVES).got


def test_a_tail_cut_between_records_is_named(honest: Honest, folder: Path, anchors: list[Anchor]) -> None:
    publish_honest(honest, folder / "log")
    path = entries_file(folder / "log")
    last = len(honest.entries[-1].leaf.encode()) + 2
    path.write_bytes(path.read_bytes()[:-last])
    count = len(honest.entries)
    found = first(look(folder / "log", honest, *anchors), AuditStep.LEAVES)
    assert f"holds {count - 1} leaves, expected {count}" in found.got


def test_a_tail_cut_with_its_checkpoint_is_named_by_the_anchor(
    honest: Honest, folder: Path, anchors: list[Anchor]
) -> None:
    publish(honest.leaves()[:-5], folder / "log", honest.blobs.folder)
    found = first(look(folder / "log", honest, *anchors), AuditStep.ANCHORS)
    assert f"pins {len(honest.entries)} leaves, the log has {len(honest.entries) - 5}" in found.got


def test_a_missing_file_is_named(honest: Honest, folder: Path, anchors: list[Anchor]) -> None:
    publish_honest(honest, folder / "log")
    entries_file(folder / "log").unlink()
    assert "BundleMissing" in first(look(folder / "log", honest, *anchors), AuditStep.LEAVES).got
    (folder / "log" / "checkpoint").unlink()
    with pytest.raises(BundleMissing):
        open_bundle(folder / "log")


# Signatures.


def test_a_head_signed_by_a_key_that_nobody_delegated_is_named(
    honest: Honest, folder: Path, anchors: list[Anchor]
) -> None:
    publish(honest.leaves(), folder / "log", honest.blobs.folder, key=OTHER_KEY)
    report = look(folder / "log", honest, *anchors)
    assert named(report) == {(AuditStep.SIGNATURE, WHOLE_LOG, "checkpoint")}


def test_a_delegation_by_another_hotkey_is_named(honest: Honest, folder: Path, anchors: list[Anchor]) -> None:
    publish(tampered(honest, 0, signature="0" * 128), folder / "log", honest.blobs.folder)
    found = first(look(folder / "log", honest, *anchors), AuditStep.SIGNATURE)
    assert "did not sign the key" in found.got


def test_the_log_of_another_hotkey_is_named(honest: Honest, folder: Path, anchors: list[Anchor]) -> None:
    publish_honest(honest, folder / "log")
    other = replace(honest.expected, hotkey=keypair(9).ss58_address)
    with open_bundle(folder / "log") as bundle:
        audit = Audit(bundle, other, Means(), Scope.log(bundle.size))
        report = audit_bundle(audit, bundle, anchors)
    assert "belongs to" in first(report, AuditStep.SIGNATURE).got


def test_a_key_leaf_that_is_hidden_is_named(honest: Honest, folder: Path) -> None:
    """The log was handed to another key, and its operator lets readers believe that it was not."""
    authority = read_genesis(honest.leaves()[0])
    handed = [*honest.leaves(), build_key_leaf(authority, keypair(1), OTHER_KEY, old=LOG_KEY)]
    publish(handed, folder / "log", honest.blobs.folder)
    report = look(folder / "log", honest, anchor_of(handed))
    assert named(report) == {(AuditStep.SIGNATURE, WHOLE_LOG, "key")}


def test_two_heads_that_contradict_each_other_are_a_proof_against_their_signer(honest: Honest) -> None:
    proof = verify_fraud_proof(prove_fraud(honest), hotkey=honest.expected.hotkey)
    assert f"{honest.expected.hotkey} signed two logs of one name" in proof.describe()
    with pytest.raises(NoteError, match="not against"):
        verify_fraud_proof(prove_fraud(honest), hotkey=keypair(9).ss58_address)


def test_two_heads_of_a_log_that_only_grew_prove_nothing(honest: Honest) -> None:
    hashes = [merkle.leaf_hash(leaf.encode()) for leaf in honest.leaves()]
    older, newer = statement_of(honest.leaves()[:9]), statement_of(honest.leaves())
    with pytest.raises(BundleError, match="nothing is proven"):
        write_fraud_proof(older, newer, lambda start, stop: merkle.root(hashes[start:stop]))


# Anchors.


def test_without_anchors_an_audit_fails(honest: Honest, folder: Path) -> None:
    report = look(publish_honest(honest, folder / "log"), honest)
    assert named(report) == {(AuditStep.ANCHORS, WHOLE_LOG, "anchors")}
    assert report.findings[0].got == "none"


def test_anchors_of_another_subnet_are_named(honest: Honest, folder: Path) -> None:
    report = look(
        publish_honest(honest, folder / "log"), honest, anchor_of(honest.leaves(), netuid=NETUID + 1)
    )
    found = first(report, AuditStep.ANCHORS)
    assert (found.field, found.expected) == ("netuid of an anchor", str(NETUID))


def test_a_leaf_from_after_the_block_of_its_anchor_is_named(honest: Honest, folder: Path) -> None:
    early = replace(anchor_of(honest.leaves()), block=2)
    report = look(publish_honest(honest, folder / "log"), honest, early)
    found = first(report, AuditStep.ANCHORS)
    assert (found.field, found.expected) == ("block", "2 or earlier: anchored there")
    assert found.leaf > 0


def test_anchors_that_do_not_follow_each_other_are_named(
    honest: Honest, folder: Path, anchors: list[Anchor]
) -> None:
    broken = [anchors[0], replace(anchors[1], previous=bytes(32))]
    report = look(publish_honest(honest, folder / "log"), honest, *broken)
    assert "names another one before it" in first(report, AuditStep.ANCHORS).got


def rewrite_a_score(honest: Honest) -> list[Leaf]:
    """One receipt made better, and every hash made to fit."""
    place = honest.receipts()[-1]
    return tampered(honest, place, score_ppb=10**9)


def live_another_life(honest: Honest) -> list[Leaf]:
    """A backup from before the anchor, and as many other leaves after it."""
    past = len(honest.entries) * 3 // 4
    return [*honest.leaves()[:past], *reversed(honest.leaves()[past:])]


@pytest.mark.parametrize("rewrite", [rewrite_a_score, live_another_life])
def test_the_operators_own_rewrite_under_his_own_key_is_named_by_the_anchor(
    honest: Honest, folder: Path, anchors: list[Anchor], rewrite: Callable[[Honest], list[Leaf]]
) -> None:
    publish(rewrite(honest), folder / "log", honest.blobs.folder)
    found = first(look(folder / "log", honest, *anchors), AuditStep.ANCHORS)
    assert "with the root" in found.got


def test_a_restored_backup_is_a_log_that_an_anchor_has_outgrown(
    honest: Honest, folder: Path, anchors: list[Anchor]
) -> None:
    backup = honest.leaves()[: len(honest.entries) // 2]
    publish(backup, folder / "log", honest.blobs.folder)
    found = first(look(folder / "log", honest, *anchors), AuditStep.ANCHORS)
    assert f"the log has {len(backup)}" in found.got


def test_a_list_of_older_anchors_that_the_newest_does_not_pin_counts_for_nothing(
    honest: Honest, folder: Path, anchors: list[Anchor]
) -> None:
    publish_honest(honest, folder / "log")
    write_anchors(folder / "log" / "anchors.json", anchor_of(honest.leaves()[:3]))
    report = look(folder / "log", honest, anchors[-1])
    assert report.findings == []
    assert report.checked["anchors"] == 1
    write_anchors(folder / "log" / "anchors.json", *anchors)
    assert look(folder / "log", honest, anchors[-1]).checked["anchors"] == 2


def test_a_forged_head_over_the_honest_tiles_is_refused(honest: Honest, folder: Path) -> None:
    publish_honest(honest, folder / "log")
    sign_head(folder / "log", len(honest.entries), merkle.leaf_hash(b"another"), LOG_KEY)
    with pytest.raises(BundleTampered):
        open_bundle(folder / "log")
