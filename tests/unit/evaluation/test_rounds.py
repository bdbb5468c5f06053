"""Every image once, whatever kills the run; what was published passes the audit of a stranger."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from perturbnet.attacks import AttackTask
from perturbnet.certificate.envelope import read_certificate
from perturbnet.errors import AttackError, DigestMismatch, LedgerLocked
from perturbnet.evaluation.certifying import certify, verify
from perturbnet.evaluation.session import Session
from perturbnet.evaluation.tally import tally_entries
from perturbnet.ledger.leaves import ChallengeLeaf, ConfigLeaf, GenesisLeaf, ReceiptLeaf
from perturbnet.rounds.logged import read_rounds
from perturbnet.transparency.bundle import open_bundle
from perturbnet.wire.images import Pixels
from tests.support.evaluation.pictures import write_folder, write_picture
from tests.support.evaluation.world import Scripted, check, count, finish, opened
from tests.support.validator.world import Crash, Faults


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "in", count=2)


def nothing(_task: AttackTask, _flipped: Pixels) -> None:
    """Find nothing."""


def receipts_of(session: Session) -> list[ReceiptLeaf]:
    return [entry.leaf for entry in session.journal.store.entries() if isinstance(entry.leaf, ReceiptLeaf)]


def test_every_image_is_judged_once_and_the_audit_finds_nothing(tmp_path: Path, folder: Path) -> None:
    with opened(tmp_path / "out", folder, Scripted()) as session:
        done = finish(session)
        assert sorted(each.challenge.row for each in done) == [0, 1, 2, 3]
        assert session.publish() == session.journal.store.size
        report = check(session)
    assert report.findings == []
    assert report.checked["labels recomputed"] == 4
    assert report.checked["draws"] == 4
    assert report.checked["signatures"] == 4
    assert report.unchecked == {"anchors: none, an offline evaluation": 1}
    assert {each.receipts[0].reject for each in done} == {"ok"}


def test_the_log_says_what_it_is(tmp_path: Path, folder: Path) -> None:
    with opened(tmp_path / "out", folder, Scripted()) as session:
        finish(session)
        session.publish()
    with open_bundle(tmp_path / "out" / "bundle") as bundle:
        assert bundle.verify_signature().origin.startswith("perturb/offline/0/5")
        leaves = [entry.leaf for entry in bundle.entries()]
        rounds = list(read_rounds(bundle.entries(), stop=bundle.size))
    genesis, config = leaves[0], next(leaf for leaf in leaves if isinstance(leaf, ConfigLeaf))
    assert isinstance(genesis, GenesisLeaf)
    assert genesis.network == "offline"
    assert config.environment["attacks"] == "test"
    assert len(rounds) == 4
    assert {leaf.source_label for leaf in leaves if isinstance(leaf, ChallengeLeaf)} == {"heron", "otter"}


def test_several_attacks_are_a_pool(tmp_path: Path, folder: Path) -> None:
    with opened(tmp_path / "out", folder, Scripted(), Scripted("weak", nothing)) as session:
        done = finish(session)
        session.publish()
        assert check(session).findings == []
        tally, counted = tally_entries(session.journal.store.entries()), count(session)
    assert [receipt.uid for receipt in done[0].receipts] == [1, 2]
    assert counted.outcomes == {"no_image": 4, "ok": 4}
    assert (counted.images, counted.broken, counted.miners, counted.attempts) == (4, 4, 2, 8)
    assert (tally.images, tally.broken, tally.attempts, tally.stability) == (4, 4, 8, 0.0)


def test_an_attack_that_finds_nothing_leaves_the_image_stable(tmp_path: Path, folder: Path) -> None:
    with opened(tmp_path / "out", folder, Scripted(do=nothing)) as session:
        finish(session)
        session.publish()
        tally, counted = tally_entries(session.journal.store.entries()), count(session)
    assert (tally.broken, tally.stability) == (0, 1.0)
    assert (counted.stability.successes, counted.labelled, counted.rounds_without_an_image) == (4, 4, 4)
    assert counted.clean_accuracy.successes == counted.robust_accuracy.successes


def test_freshness_is_drawn_only_where_it_is_asked_for(tmp_path: Path, folder: Path) -> None:
    for name, freshness in (("plain", False), ("fresh", True)):
        with opened(tmp_path / name, folder, Scripted(), freshness=freshness) as session:
            done = finish(session)
            session.publish()
            assert check(session).findings == []
        assert all(bool(each.challenge.freshness) == freshness for each in done)


def test_an_answer_after_the_deadline_does_not_count(tmp_path: Path, folder: Path) -> None:
    def late(task: AttackTask, flipped: Pixels) -> None:
        for _ in range(100):  # 25 ms of virtual time each: past 2 s
            task.accepts(task.clean)
        assert task.accepts(flipped)

    with opened(tmp_path / "out", folder, Scripted(do=late), virtual=True) as session:
        finish(session)
        found = receipts_of(session)
    assert {receipt.reject for receipt in found} == {"no_image"}
    assert {receipt.response_ms for receipt in found} == {2000}


def test_an_attack_that_fails_ends_the_run_and_its_image_is_judged_later(
    tmp_path: Path, folder: Path
) -> None:
    def fail(_task: AttackTask, _flipped: Pixels) -> None:
        raise RuntimeError("no memory")

    with (
        opened(tmp_path / "out", folder, Scripted(do=fail)) as session,
        pytest.raises(AttackError, match=r"failed on row \d: RuntimeError\('no memory'\)"),
    ):
        finish(session)
    with opened(tmp_path / "out", folder, Scripted()) as session:
        assert len(finish(session)) == 4
        assert tally_entries(session.journal.store.entries()).broken == 4


def test_a_changed_picture_ends_the_run(tmp_path: Path, folder: Path) -> None:
    with opened(tmp_path / "out", folder, Scripted()) as session:
        write_picture(folder / "heron" / "0.png", "changed")
        with pytest.raises(DigestMismatch, match=r"heron/0\.png changed since"):
            finish(session)


def test_two_processes_do_not_share_an_evaluation(tmp_path: Path, folder: Path) -> None:
    with (
        opened(tmp_path / "out", folder, Scripted()),
        pytest.raises(LedgerLocked),
        opened(tmp_path / "out", folder, Scripted()),
    ):
        pass


def watch(faults: Faults, session: Session) -> None:
    """Die before or after whatever is written, and when an attack begins."""
    journal = session.journal
    faults.watch(journal, "append", "append_epoch")
    faults.watch(journal.store, "note_arrival")
    faults.watch(journal.blobs, "put")
    faults.watch(journal.deltas, "put")


def run_until_done(out: Path, folder: Path, faults: Faults, attack: Scripted) -> int:
    """Run, and run again after each death; how often it ran."""
    for runs in range(1, 4):
        with opened(out, folder, attack) as session:
            watch(faults, session)
            try:
                finish(session)
            except Crash:
                continue
            session.publish()
            assert check(session).findings == []
            return runs
    raise AssertionError("it never ended")


def test_killed_at_any_step_it_goes_on_and_no_image_is_judged_twice(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "in", count=1)
    whole = Faults()
    assert run_until_done(tmp_path / "whole", folder, whole, Scripted()) == 1
    assert len(whole.steps) > 15
    for at in range(len(whole.steps)):
        out, attack = tmp_path / f"at-{at}", Scripted()
        assert run_until_done(out, folder, Faults(at=at), attack) == 2
        with opened(out, folder, Scripted()) as session:
            assert finish(session) == []
            rows = Counter(
                entry.leaf.row
                for entry in session.journal.store.entries()
                if isinstance(entry.leaf, ChallengeLeaf)
            )
            assert rows == {0: 1, 1: 1}
            assert [receipt.reject for receipt in receipts_of(session)] == ["ok", "ok"]
        assert max(Counter(attack.seen).values()) <= 2, "an answer that was noted is not searched again"


def test_the_same_seed_gives_the_same_order(tmp_path: Path, folder: Path) -> None:
    orders = []
    for name in ("a", "b"):
        with opened(tmp_path / name, folder, Scripted()) as session:
            orders.append([(each.challenge.row, each.challenge.epsilon) for each in finish(session)])
    assert orders[0] == orders[1]


def test_a_certificate_is_issued_once_for_what_was_judged(tmp_path: Path, folder: Path) -> None:
    with opened(tmp_path / "out", folder, Scripted()) as session:
        for _ in range(2):
            assert session.evaluation.step() is not None
        session.publish()
        first = certify(session).read_bytes()
        size = session.journal.state.size
        assert certify(session).read_bytes() == first
        assert session.journal.state.size == size
        finish(session)
        session.publish()
        second = certify(session).read_bytes()
        assert check(session).findings == []
        with open_bundle(session.bundle) as bundle:
            model = session.evaluation.arena.engine.model_digest
            found = verify(session.out, bundle, model)
    assert found is not None
    report, certificate = found
    assert certificate is not None
    assert (report.status, certificate.predicate.statistics.images) == ("verified", 4)
    assert read_certificate(first).predicate.statistics.images == 2
    assert second != first
