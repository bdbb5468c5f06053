"""The stream of rounds: complete ones only, in order, each where its challenge stands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec import structs

from perturbnet.errors import DatasetError, DigestMismatch, LedgerCorrupt
from perturbnet.ledger import Leaf
from perturbnet.ledger.leaves import ChallengeLeaf, ReceiptLeaf
from perturbnet.rounds.attempts import Reading, read_attempts
from perturbnet.rounds.pixels import adversarial_pixels, clean_pixels
from perturbnet.wire.images import pixel_digest
from tests.support.auditing.honest import Honest, MemoryLog, chain, live, tampered
from tests.support.fakes import MemorySource


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Honest:
    return live(tmp_path_factory.mktemp("honest"), rounds=4)


def log_of(honest: Honest, leaves: Sequence[Leaf] | None = None) -> MemoryLog:
    return MemoryLog(honest.entries if leaves is None else chain(leaves), honest.blobs)


def test_every_round_comes_with_a_receipt_for_everyone_who_was_asked(honest: Honest) -> None:
    reading = Reading()
    rounds = list(read_attempts(log_of(honest), reading=reading))
    assert [one.position for one in rounds] == honest.places(ChallengeLeaf)
    for one in rounds:
        assert sorted(attempt.leaf.uid for attempt in one.attempts) == sorted(one.challenge.asked)
        assert one.image == (one.config.fingerprint, one.challenge.row)
        assert one.terms.model_digest == honest.engine.model_digest
    assert (reading.challenges, reading.rounds, reading.left_out, reading.open_at) == (4, 4, 0, None)


def test_broken_is_an_image_that_some_attempt_broke(honest: Honest) -> None:
    accepted = set(honest.receipts())
    for one in read_attempts(log_of(honest)):
        assert one.broken == any(attempt.position in accepted for attempt in one.attempts)
        assert {attempt.position for attempt in one.attempts if attempt.accepted} <= accepted


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_parts_hold_every_round_once(honest: Honest, cut: int) -> None:
    log = log_of(honest)
    cut = min(cut, log.size)
    parts = [*read_attempts(log, 0, cut), *read_attempts(log, cut)]
    assert [one.position for one in parts] == honest.places(ChallengeLeaf)


def test_a_round_that_is_not_over_is_open_and_one_that_was_cut_off_is_left_out(honest: Honest) -> None:
    last = honest.places(ChallengeLeaf)[-1]
    reading = Reading()
    assert len(list(read_attempts(log_of(honest), size=last + 3, reading=reading))) == 3
    assert (reading.left_out, reading.open_at) == (1, last)
    first = honest.places(ChallengeLeaf)[0]
    lost = [leaf for at, leaf in enumerate(honest.leaves()) if at != first + 1]
    reading = Reading()
    with pytest.raises(LedgerCorrupt):  # what follows refers to places that have moved
        list(read_attempts(log_of(honest, lost), reading=reading))
    assert reading.challenges > reading.rounds


@pytest.mark.parametrize("field", ["config", "rules", "metagraph"])
@pytest.mark.parametrize("place", [-1, 0, 10**9])
def test_a_challenge_that_refers_to_no_such_leaf_is_refused(honest: Honest, field: str, place: int) -> None:
    leaves = tampered(honest, honest.places(ChallengeLeaf)[1], **{field: place})
    with pytest.raises(LedgerCorrupt, match="leaf"):
        list(read_attempts(log_of(honest, leaves)))


def test_two_receipts_of_one_miner_are_refused(honest: Honest) -> None:
    leaves, place = honest.leaves(), honest.places(ReceiptLeaf)[0]
    leaves[place + 1] = structs.replace(leaves[place], response_ms=7)
    with pytest.raises(LedgerCorrupt, match="its receipts are of"):
        list(read_attempts(log_of(honest, leaves)))


def test_a_receipt_that_names_another_place_is_refused(honest: Honest) -> None:
    leaves = tampered(honest, honest.places(ReceiptLeaf)[0], challenge=1)
    with pytest.raises(LedgerCorrupt, match="belongs to the one at"):
        list(read_attempts(log_of(honest, leaves)))


def test_pictures_are_those_of_the_round_or_an_error(honest: Honest, tmp_path: Path) -> None:
    log = log_of(honest)
    for one in read_attempts(log):
        clean = clean_pixels(honest.source, one)
        assert pixel_digest(clean) == one.challenge.clean_pixels
        for attempt in one.attempts:
            if attempt.accepted:
                pixels = adversarial_pixels(log, clean, attempt.leaf)
                assert pixel_digest(pixels) == attempt.leaf.adversarial_pixels
                wrong = structs.replace(attempt.leaf, adversarial_pixels="0" * 64)
                with pytest.raises(DigestMismatch, match="expected 0000"):
                    adversarial_pixels(log, clean, wrong)


def test_another_data_set_is_refused_by_name_and_other_pictures_by_digest(honest: Honest) -> None:
    one = next(read_attempts(log_of(honest)))
    with pytest.raises(DatasetError, match="expected repository 'tests/memory'"):
        clean_pixels(MemorySource(6, name="other"), one)
    with pytest.raises(DatasetError, match="expected rows 6"):
        clean_pixels(MemorySource(7), one)
    disguised = MemorySource(6, name="other")
    disguised.identity = MemorySource(6).identity
    disguised.read = lambda row: MemorySource(6, name="other").read(row)  # type: ignore[method-assign]
    with pytest.raises(DigestMismatch, match="the clean image"):
        clean_pixels(disguised, one)
