"""Wrong certificates are refused, each by the step and the words that name what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from perturbnet.certificate.findings import StepOutcome, VerificationStep
from perturbnet.statistics.intervals import anytime, clopper_pearson
from perturbnet.transparency.anchors import Anchor
from tests.support.auditing.published import OTHER_KEY, anchor_of, publish
from tests.unit.certificate.conftest import World, refusals

RATE = "predicate__evidence__statistics"


def only(report: Any, step: VerificationStep, said: str) -> None:
    found = refusals(report)
    assert {line.step for line in found} == {step}, found
    assert any(said in line.text for line in found), found
    assert report.status == "refused"


def only_in(report: Any, step: VerificationStep, said: str) -> None:
    """Among other refusals, this one."""
    assert any(line.step is step and said in line.text for line in refusals(report)), report.lines
    assert report.status == "refused"


def test_an_honest_certificate_is_verified_up_to_the_block(world: World) -> None:
    model = world.certificate.subject
    report = world.verify(hotkey=world.certificate.predicate.log.hotkey, model=model)
    assert report.status == "verified", report.lines
    assert {line.outcome for line in report.lines} == {StepOutcome.CHECKED}
    assert report.lines[-1].text.endswith(f"since block {world.anchor.block} ({world.anchor.size} leaves)")


def test_without_a_log_it_says_what_it_could_not_check(world: World) -> None:
    report = world.verify(bundle=None)
    assert report.status == "incomplete"
    unchecked = {line.step for line in report.lines if line.outcome is StepOutcome.UNCHECKED}
    assert unchecked >= {
        VerificationStep.DELEGATION,
        VerificationStep.LOG,
        VerificationStep.EVIDENCE,
        VerificationStep.LEAF,
        VerificationStep.ANCHOR,
    }


def test_another_model_than_the_readers_refused(world: World) -> None:
    only(world.verify(model="00" * 32), VerificationStep.SUBJECT, "another model: yours is 0000")


def test_a_subject_that_was_not_counted_refused(world: World) -> None:
    forged = world.forge(subject__0__digest={"sha256": "11" * 32})
    only_in(world.verify(forged), VerificationStep.SUBJECT, "expected")


def test_an_edited_number_refused_by_the_signature(world: World) -> None:
    broken = world.forge(**{f"{RATE}__broken": lambda n: n - 1})
    stolen = type(broken)(broken.payload, broken.statement, broken.keyid, world.certificate.signature)
    only_in(world.verify(stolen), VerificationStep.SIGNATURE, "edited, or by another key")


def test_an_edited_number_refused_by_counting_again_where_the_signer_lies(
    world: World, tmp_path: Path
) -> None:
    forged = world.forge(**{f"{RATE}__timeouts": lambda n: n + 1})
    place, anchor = world.publish_with(forged, tmp_path / "log")
    report = world.verify(forged, place=place, anchors=[anchor])
    only(report, VerificationStep.EVIDENCE, "statistics.timeouts: counted")


def test_another_key_refused(world: World) -> None:
    swapped = world.forge(OTHER_KEY, predicate__log__key=OTHER_KEY.public.hex())
    report = world.verify(swapped)
    assert not [line for line in refusals(report) if line.step is VerificationStep.SIGNATURE]  # it did sign
    only_in(report, VerificationStep.DELEGATION, "key: the log says")


def test_a_signature_of_another_key_refused(world: World) -> None:
    forged = world.forge(OTHER_KEY)
    renamed = type(forged)(forged.payload, forged.statement, world.certificate.keyid, forged.signature)
    only_in(world.verify(renamed), VerificationStep.SIGNATURE, "did not sign this")
    only_in(world.verify(forged), VerificationStep.SIGNATURE, "key id: expected")


def test_another_validator_refused(world: World) -> None:
    only(world.verify(hotkey="5Other"), VerificationStep.DELEGATION, "another validator: expected 5Other")


def test_an_interval_over_attempts_refused(world: World, tmp_path: Path) -> None:
    found = world.certificate.predicate.statistics
    assert found.attempts != found.images
    unbroken = found.attempts - found.accepted
    forged = world.forge(
        **{
            f"{RATE}__stability__exact": _plain(clopper_pearson(unbroken, found.attempts)),
            f"{RATE}__stability__anytime": _plain(anytime(unbroken, found.attempts)),
        }
    )
    place, anchor = world.publish_with(forged, tmp_path / "log")
    said = f"stability: an interval over {found.attempts} attempts instead of {found.images} images"
    only_in(world.verify(forged, place=place, anchors=[anchor]), VerificationStep.ARITHMETIC, said)


def test_a_bound_that_is_too_narrow_refused(world: World) -> None:
    forged = world.forge(**{f"{RATE}__stability__exact__upper": "0.500000"})
    only_in(world.verify(forged), VerificationStep.ARITHMETIC, "stability: expected")


def test_caveats_that_were_left_out_refused(world: World) -> None:
    forged = world.forge(predicate__caveats=[])
    only_in(world.verify(forged), VerificationStep.ARITHMETIC, "caveats")


def test_leaves_outside_the_bundle_refused(world: World, tmp_path: Path) -> None:
    shorter = world.honest.leaves()[:-4]
    place = publish(shorter, tmp_path / "short", world.honest.blobs.folder)
    report = world.verify(place=place, anchors=[anchor_of(shorter)])
    only_in(report, VerificationStep.LOG, "leaves outside the bundle")


def test_other_leaves_refused(world: World) -> None:
    only_in(world.verify(world.forge(predicate__log__root="00" * 32)), VerificationStep.LOG, "root over")


def test_a_certificate_without_a_leaf_refused(world: World) -> None:
    other = world.forge(predicate__issued_ms=1)
    only(world.verify(other), VerificationStep.LEAF, "no leaf from")


def test_no_anchor_is_never_verified(world: World) -> None:
    report = world.verify(anchors=None)
    assert report.status == "incomplete"
    assert report.lines[-1].text.startswith("no anchor: none were given")
    only(world.verify(anchors=[]), VerificationStep.ANCHOR, "no anchor pins leaf")


def test_an_anchor_before_the_leaf_refused(world: World) -> None:
    earlier = anchor_of(world.honest.leaves())
    only(world.verify(anchors=[earlier]), VerificationStep.ANCHOR, "no anchor pins leaf")


def test_an_anchor_of_another_log_refused(world: World) -> None:
    other = Anchor(world.anchor.netuid, world.anchor.size, b"\x09" * 32, world.anchor.previous, 7)
    only(world.verify(anchors=[other]), VerificationStep.ANCHOR, "anchor 0 (block 7) pins")


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[1]", b"\xff", b'{"payload":"","payloadType":"x","signatures":[]}']
)
def test_what_is_no_certificate_refused(world: World, data: bytes) -> None:
    report = world.verify(data)
    assert [line.step for line in report.lines] == [VerificationStep.FORM]
    assert report.status == "refused"


def _plain(interval: Any) -> dict[str, Any]:
    return {name: getattr(interval, name) for name in interval.__struct_fields__}
