"""Which view of a row was sent: chosen again by whoever has the model; logs of the old form stay valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from perturbnet.auditing.findings import AuditStep
from perturbnet.ledger.leaves import ChallengeLeaf, RulesLeaf
from perturbnet.rounds import policy
from perturbnet.rules.freshness import FRESHNESS_RANGES, apply_freshness, draw_freshness
from perturbnet.wire.images import pixel_digest
from tests.support.auditing.honest import Honest, a_challenge, live, named, tampered


def test_the_model_chooses_the_view_again(honest: Honest) -> None:
    report = honest.audit()
    assert report.findings == []
    assert report.checked["choices among views"] == report.checked["clean images"] > 0
    without = honest.audit(model=False)
    assert without.checked["choices among views"] == 0
    unasked = without.unchecked["choices among views (the model was not asked)"]
    assert unasked == report.checked["choices among views"]


def test_a_view_that_the_model_would_not_choose_is_named(honest: Honest) -> None:
    """A validator that sends its friends another view of the same draw, in every other way as it should."""
    place, leaf = a_challenge(honest)
    pixels = honest.source.read(leaf.row).pixels
    other = (int(leaf.freshness["view"]) + 1) % FRESHNESS_RANGES.views
    seed = bytes.fromhex(str(leaf.freshness["seed"]))
    sent = draw_freshness(seed, pixels.shape[0], pixels.shape[1], view=other)
    digest = pixel_digest(apply_freshness(pixels, sent))
    changed = tampered(honest, place, freshness=sent.to_leaf(), clean_pixels=digest)
    assert (AuditStep.CHALLENGES, place, "freshness.view") in named(honest.audit(changed))


@pytest.mark.parametrize("view", [FRESHNESS_RANGES.views, 2**40])
def test_a_view_that_the_seed_does_not_name_is_named(view: int, honest: Honest) -> None:
    place, leaf = a_challenge(honest)
    changed = tampered(honest, place, freshness={**leaf.freshness, "view": view})
    assert (AuditStep.CHALLENGES, place, "freshness") in named(honest.audit(changed))


def test_freshness_of_an_unknown_form_is_named(honest: Honest) -> None:
    place = honest.places(RulesLeaf)[0]
    rules = honest.entries[place].leaf
    assert isinstance(rules, RulesLeaf)
    report = honest.audit(tampered(honest, place, challenges={**rules.challenges, "augment": 9}))
    first = honest.places(ChallengeLeaf)[0]
    assert (AuditStep.CHALLENGES, first, "augment") in named(report)


def test_a_log_of_the_old_form_still_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "FRESHNESS_FORM", 1)
    old = live(tmp_path, rounds=4)
    report = old.audit()
    assert report.findings == []
    assert report.checked["clean images"] == len(old.places(ChallengeLeaf)) > 0
    assert report.checked["choices among views"] == 0
    place, leaf = a_challenge(old)
    plain = {name: value for name, value in leaf.freshness.items() if name != "view"}
    found = named(old.audit(tampered(old, place, freshness=plain)))
    assert {step for step, *_ in found} == {
        AuditStep.ANSWERS
    }  # signatures are over another leaf's hash: no more
