"""Pictures are those that the log names, or a sentence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from perturbnet.contact_sheet import enlarge_difference
from perturbnet.datasets import ImageSource
from perturbnet.errors import ArtifactMissing, BundleError, DigestMismatch, PerturbError
from perturbnet.images import decode_png, pixel_digest
from perturbnet.overview import AnswerView, RoundView
from perturbnet.web import Pictures
from perturbnet.web.pages import best_answers
from perturbnet.web.pictures import KEPT
from tests.unit.web.conftest import Site


def a_success(site: Site) -> tuple[RoundView, AnswerView]:
    return next(
        (found, answer) for found in site.overview.latest for answer in found.answers if answer.reject == "ok"
    )


def test_they_are_what_the_log_names(site: Site) -> None:
    found, answer = a_success(site)
    made = site.pictures().make(found, answer)
    clean, adversarial, difference = (
        decode_png(made.pngs[k]) for k in ("clean", "adversarial", "difference")
    )
    assert pixel_digest(clean) == found.clean_pixels
    assert pixel_digest(adversarial) == answer.adversarial_pixels
    assert int(np.abs(adversarial.astype(int) - clean).max()) == answer.linf_u8
    assert np.array_equal(difference, enlarge_difference(clean, adversarial))
    assert clean.shape == (made.height, made.width, 3)


def test_other_pixels_than_the_logs_are_not_shown(site: Site) -> None:
    found, answer = a_success(site)
    with pytest.raises(DigestMismatch, match="the image that was sent"):
        site.pictures().make(replace(found, clean_pixels="0" * 64), answer)
    with pytest.raises(DigestMismatch, match="the answer"):
        site.pictures().make(found, replace(answer, adversarial_pixels="0" * 64))
    with pytest.raises(PerturbError):
        site.pictures().make(replace(found, row=10**9), answer)
    with pytest.raises(PerturbError):
        site.pictures().make(replace(found, freshness={"height": 10**9}), answer)
    with pytest.raises(BundleError):
        site.pictures().make(found, replace(answer, delta="../../secret"))
    with pytest.raises(PerturbError, match="no image"):
        site.pictures().make(found, replace(answer, delta=""))


def test_without_the_data_set_the_page_says_so(site: Site) -> None:
    def missing() -> ImageSource:
        raise ArtifactMissing("the data set is not here", hint="perturb bootstrap")

    shown = best_answers(site.overview, Pictures(missing, site.feed.blob))
    assert shown
    assert {one.reason for one in shown} == {"the data set is not here. perturb bootstrap"}


def test_they_are_made_once_and_the_oldest_go(site: Site) -> None:
    found, answer = a_success(site)
    pictures = site.pictures()
    reads = site.honest.source.reads
    before = len(reads)
    for _ in range(3):
        pictures.make(found, answer)
    assert len(reads) == before + 1
    for number in range(KEPT):
        pictures._made["other", str(number)] = pictures._made[found.clean_pixels, answer.adversarial_pixels]
    pictures.make(found, answer)
    assert len(reads) == before + 1
    won = [(one, a) for one in site.overview.latest for a in one.answers if a.reject == "ok" and a != answer]
    for one, other in won:
        pictures.make(one, other)
    assert len(pictures._made) == KEPT
