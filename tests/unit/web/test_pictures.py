"""Pictures are those that the log names, or a sentence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from perturbnet.datasets import ImageSource
from perturbnet.display.contact_sheet import enlarge_difference
from perturbnet.errors import ArtifactMissing, BundleError, DigestMismatch, PerturbError
from perturbnet.overview import AnswerView, RoundView
from perturbnet.web import Pictures
from perturbnet.web.pages import best_answers
from perturbnet.wire.images import decode_png, pixel_digest
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


def test_they_are_made_once_and_the_oldest_go(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [(found, one) for found in site.overview.latest for one in found.answers if one.reject == "ok"]
    distinct = list({(a.clean_pixels, b.adversarial_pixels): (a, b) for a, b in pairs}.values())
    pictures, reads = site.pictures(), site.honest.source.reads
    before = len(reads)
    sizes = [pictures.make(*pair).size_bytes for pair in distinct]
    for pair in distinct:
        pictures.make(*pair)
    assert len(reads) == before + len(distinct)
    monkeypatch.setattr("perturbnet.web.pictures.KEPT_BYTES", sum(sizes) - 1)
    few = site.pictures()
    for pair in distinct:
        few.make(*pair)
    assert few._kept_bytes == sum(one.size_bytes for one in few._made.values()) < sum(sizes)
    before = len(reads)
    few.make(*distinct[-1])
    assert len(reads) == before
    few.make(*distinct[0])
    assert len(reads) == before + 1


def test_a_huge_image_is_a_sentence(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perturbnet.web.pictures.MOST_PIXELS", 100)
    with pytest.raises(PerturbError, match="pixels are shown"):
        site.pictures().make(*a_success(site))
