"""Counting rounds into images: what counts, what is left out by which reason, what an image comes to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from perturbnet.errors import LedgerCorrupt, OutputError, Reject
from perturbnet.ledger.leaves import ChallengeLeaf, ConfigLeaf, ReceiptLeaf
from perturbnet.rounds.attempts import Attempt, ImageAttempts
from perturbnet.rounds.terms import Terms
from perturbnet.statistics.robustness import ABSENT, EXCLUSIONS, Count, count_log
from perturbnet.wire.messages import Rules
from tests.support.auditing.honest import MemoryLog, live
from tests.support.ledger.samples import plain

MODEL = "ab" * 32


def a_round(row: int, *codes: str, truth: str = "cat", block: int = 7, model: str = MODEL) -> ImageAttempts:
    """A round on an image that the model calls a cat; accepted answers are `ok:<linf>`."""
    receipts = []
    for uid, code in enumerate(codes):
        reject, _, linf = code.partition(":")
        pixels = "cd" * 32 if reject in ("ok", "label_unchanged") else ""
        leaf = plain(
            ReceiptLeaf,
            uid=uid,
            hotkey=f"k{uid}",
            reject=reject,
            linf_u8=int(linf or -1),
            adversarial_pixels=pixels,
        )
        receipts.append(Attempt(100 + uid, "", leaf))
    challenge = plain(ChallengeLeaf, row=row, block=block, true_label="cat", source_label=truth)
    config = plain(ConfigLeaf, model_digest=model, fingerprint="f")
    terms = Terms(7, "v", Rules.model_construct(), "record", "float64", model, ())
    return ImageAttempts(99, "", challenge, config, terms, tuple(receipts))


def test_an_image_is_broken_by_any_miner_in_any_round() -> None:
    count = Count(MODEL)
    for done in (a_round(1, "timeout", "ok:3"), a_round(2, "no_image"), a_round(2, "ok:5", "ok:2", block=9)):
        assert count.add(done)
    assert count.add(a_round(3, "label_unchanged", "offline", block=4))
    found = count.finish(200)
    assert (found.images, found.broken, found.images_again, found.rounds) == (3, 2, 1, 4)
    assert (found.stability.successes, found.stability.trials, found.stability.share) == (1, 3, "0.333333")
    assert found.smallest_linf_u8 == {"2": 1, "3": 1}
    assert (found.attempts, found.accepted, found.timeouts, found.miners) == (6, 3, 1, 2)
    assert found.outcomes == {"label_unchanged": 1, "no_image": 1, "offline": 1, "ok": 3, "timeout": 1}
    assert found.rounds_without_an_image == 1
    assert (found.first_block, found.last_block) == (4, 9)


@pytest.mark.parametrize("code", sorted(ABSENT))
def test_a_round_in_which_nobody_tried_is_left_out_by_its_reason(code: Reject) -> None:
    count = Count(MODEL)
    assert not count.add(a_round(1, code, "offline"))
    reason = code.value if code.value in EXCLUSIONS else "nobody_served"
    found = count.finish(9, cut_off=2)
    assert {name: rounds for name, rounds in found.excluded.items() if rounds} == {reason: 1, "cut_off": 2}
    assert (found.images, found.stability.share, found.stability.exact.upper) == (0, "", "1.000000")


def test_a_round_of_another_model_is_left_out() -> None:
    count = Count(MODEL)
    assert not count.add(a_round(1, "ok:1", model="cd" * 32))
    assert count.finish(9).excluded["other_model"] == 1


def test_accuracy_is_against_the_sources_class_and_only_where_it_names_one() -> None:
    count = Count(MODEL)
    rounds = [
        a_round(1, "ok:1"),
        a_round(2, "timeout"),
        a_round(3, "timeout", truth="dog"),
        a_round(4, "timeout", truth=""),
    ]
    for done in (*rounds, a_round(5, "timeout"), a_round(5, "timeout", truth="dog")):
        count.add(done)
    found = count.finish(9)
    assert (found.images, found.labelled) == (5, 4)
    assert (found.clean_accuracy.successes, found.robust_accuracy.successes) == (2, 1)
    assert {found.clean_accuracy.trials, found.robust_accuracy.trials} == {4}


def test_a_code_that_there_is_not_refused() -> None:
    done = a_round(1, "ok:1")
    leaf = structs.replace(done.attempts[0].leaf, reject="fine")
    with pytest.raises(LedgerCorrupt, match="the code 'fine' is unknown"):
        Count(MODEL).add(replace(done, attempts=(replace(done.attempts[0], leaf=leaf),)))


def test_a_log_is_counted_the_same_by_everybody(tmp_path_factory: pytest.TempPathFactory) -> None:
    honest = live(tmp_path_factory.mktemp("honest"))
    log = MemoryLog(honest.entries, honest.blobs)
    model = honest.engine.model_digest
    found, again = count_log(log, model), count_log(log, model)
    assert found.encode() == again.encode()
    assert len(found.digest()) == 64
    receipts = [entry.leaf for entry in honest.entries if isinstance(entry.leaf, ReceiptLeaf)]
    assert sum(found.outcomes.values()) == len(receipts)
    assert found.accepted == sum(leaf.reject == Reject.OK for leaf in receipts)
    halves = count_log(log, model, until=log.size // 2), count_log(log, model, since=log.size // 2)
    cut = halves[0].excluded["cut_off"]
    assert halves[0].rounds + halves[1].rounds + cut == found.rounds
    for since, until in ((-1, 5), (5, 5), (0, log.size + 1)):
        with pytest.raises(OutputError, match="the log has leaves 0 to before"):
            count_log(log, model, since=since, until=until)
