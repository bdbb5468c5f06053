"""A certificate as a page, and beside a report: only one whose signature and numbers hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from perturbnet.certificate.envelope import Certificate, sign_statement
from perturbnet.certificate.issuing import issue_certificate
from perturbnet.certificate.predicate import Predicate
from perturbnet.errors import OutputError
from perturbnet.report import Report, ReportOptions, given, make_report, render_certificate, render_report
from perturbnet.report.certificate import put_beside
from perturbnet.transparency.bundle import open_bundle
from tests.support.auditing.honest import LOG_KEY, Honest
from tests.support.auditing.published import OTHER_KEY
from tests.support.report.pages import HOSTILE, Tags


@pytest.fixture(scope="module")
def certificate(bundle: Path) -> Certificate:
    with open_bundle(bundle) as opened:
        return issue_certificate(opened, LOG_KEY, issued_ms=1_700_000_000_000)


@pytest.fixture(scope="module")
def report(bundle: Path) -> Report:
    with open_bundle(bundle) as opened:
        return make_report(opened, ReportOptions(), open_pictures=given(None))


def restate(certificate: Certificate, *, signed: bool = True, **changes: object) -> Certificate:
    """The certificate with another predicate, signed again by the log's key, or with the old signature."""
    predicate: Predicate = msgspec.structs.replace(certificate.predicate, **changes)
    statement = msgspec.structs.replace(certificate.statement, predicate=predicate)
    made = sign_statement(statement, LOG_KEY)
    return made if signed else replace(made, signature=certificate.signature)


def test_the_page_says_all_that_the_certificate_says(certificate: Certificate) -> None:
    tags = Tags(render_certificate(certificate))
    predicate = certificate.predicate
    stability = predicate.statistics.stability
    assert f"{stability.successes} of {stability.trials} distinct images" in tags.words
    assert certificate.digest in tags.words
    assert certificate.subject in tags.words
    assert predicate.log.root in tags.words
    for caveat in predicate.caveats:
        assert caveat in tags.words
    for mapping in predicate.mappings:
        assert mapping["reference"] in tags.words
    assert predicate.evidence.threat_model.summary in tags.words
    assert not tags.of("script")
    assert not tags.of("img")


def test_a_certificate_that_was_changed_gets_no_page(certificate: Certificate) -> None:
    other = restate(certificate, signed=False, issued_ms=1)
    with pytest.raises(OutputError, match="not signed by the key that it names"):
        render_certificate(other)
    forged = sign_statement(certificate.statement, OTHER_KEY)
    with pytest.raises(OutputError, match="not signed by the key that it names"):
        render_certificate(forged)


def test_a_strangers_words_are_words(certificate: Certificate) -> None:
    tags = Tags(render_certificate(restate(certificate, caveats=[HOSTILE], issued_with=HOSTILE)))
    assert not tags.of("script")
    assert not tags.of("img")
    assert "alert(1)" in tags.words


def test_beside_a_report_of_the_same_leaves(certificate: Certificate, report: Report) -> None:
    beside = put_beside(certificate, report)
    assert beside.same
    words = Tags(render_report(report, beside)).words
    assert "A certificate of these very leaves states the same numbers" in words
    assert certificate.digest in words


def test_beside_a_report_of_other_leaves(bundle: Path, honest: Honest, report: Report) -> None:
    until = report.log.size - 5
    with open_bundle(bundle) as opened:
        made = issue_certificate(opened, LOG_KEY, issued_ms=0, until=until)
    beside = put_beside(made, report)
    assert not beside.same
    assert f"of leaves 0 to {until} of this log" in Tags(render_report(report, beside)).words


def test_an_edited_number_is_refused(certificate: Certificate, report: Report) -> None:
    evidence = certificate.predicate.evidence
    better = msgspec.structs.replace(evidence.statistics, broken=0)
    other = restate(certificate, evidence=msgspec.structs.replace(evidence, statistics=better))
    with pytest.raises(OutputError, match="other numbers than these leaves give"):
        put_beside(other, report)


def test_a_certificate_of_another_model_or_log_is_refused(certificate: Certificate, report: Report) -> None:
    config = msgspec.structs.replace(report.config, model_digest="ab" * 32)
    with pytest.raises(OutputError, match="another model"):
        put_beside(certificate, replace(report, config=config))
    with pytest.raises(OutputError, match="another log"):
        put_beside(certificate, replace(report, log=replace(report.log, origin="perturb/other/1/5x")))
