"""The envelope's bytes, the leaf that a ledger takes, and the model card against CycloneDX's own schema."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from msgspec import structs

from perturbnet.auditing.findings import AuditStep
from perturbnet.certificate.cyclonedx import render_model_card
from perturbnet.certificate.envelope import (
    MAX_CERTIFICATE_BYTES,
    PAYLOAD_TYPE,
    encode_pae,
    read_certificate,
)
from perturbnet.certificate.issuing import issue_certificate
from perturbnet.errors import LedgerLocked, OutputError
from perturbnet.ledger.journal import Journal
from perturbnet.ledger.leaves import CertificateLeaf
from perturbnet.transparency.bundle import open_bundle
from perturbnet.validator.certificates import hand_over, read_answer, record_certificate, take_certificates
from tests.support.auditing.honest import LOG_KEY, only
from tests.support.auditing.published import OTHER_KEY
from tests.unit.certificate.conftest import ISSUED_MS, World


def test_pae_as_the_specification_writes_it() -> None:
    assert encode_pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_the_signature_is_over_the_pae(world: World) -> None:
    envelope = json.loads(world.certificate.data)
    payload = base64.b64decode(envelope["payload"])
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    LOG_KEY.private.public_key().verify(signature, encode_pae(PAYLOAD_TYPE, payload))
    statement = json.loads(payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"] == [
        {
            "name": world.certificate.predicate.evidence.model.name,
            "digest": {"sha256": world.certificate.subject},
        }
    ]


def test_a_certificate_is_read_as_it_was_written(world: World) -> None:
    read = read_certificate(world.certificate.data + b"\n")
    assert (read.statement, read.digest) == (world.certificate.statement, world.certificate.digest)


def test_the_same_log_gives_the_same_certificate(world: World) -> None:
    size = world.certificate.predicate.log.size
    with open_bundle(world.bundle) as bundle:
        again = issue_certificate(bundle, LOG_KEY, issued_ms=ISSUED_MS, until=size)
    assert again.predicate.evidence == world.certificate.predicate.evidence
    assert again.predicate.log.root == world.certificate.predicate.log.root


def test_another_form_of_the_same_envelope_refused(world: World) -> None:
    pretty = json.dumps(json.loads(world.certificate.data), indent=1).encode()
    with pytest.raises(OutputError, match="not canonical"):
        read_certificate(pretty)
    with pytest.raises(OutputError, match="at most"):
        read_certificate(b" " * (MAX_CERTIFICATE_BYTES + 2))


def test_issuing_refuses_a_key_a_model_a_range_that_are_not_the_logs(world: World) -> None:
    with open_bundle(world.bundle) as bundle:
        with pytest.raises(OutputError, match="does not sign the log"):
            issue_certificate(bundle, OTHER_KEY, issued_ms=0)
        with pytest.raises(OutputError, match="models of this log"):
            issue_certificate(bundle, LOG_KEY, issued_ms=0, model="resnet")
        with pytest.raises(OutputError, match="the log has leaves 0 to before"):
            issue_certificate(bundle, LOG_KEY, issued_ms=0, until=bundle.size + 1)
        with pytest.raises(OutputError, match="nothing to certify"):
            issue_certificate(bundle, LOG_KEY, issued_ms=0, until=5)


def test_the_model_card_follows_the_schema(world: World) -> None:
    card = render_model_card(world.certificate)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(card.decode()) is None
    model = json.loads(card)["components"][0]
    assert model["hashes"] == [{"alg": "SHA-256", "content": world.certificate.subject}]
    metrics = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    stability = world.certificate.predicate.statistics.stability
    assert metrics[0]["confidenceInterval"]["lowerBound"] == stability.exact.lower


def test_an_auditor_looks_at_the_leaf(world: World) -> None:
    leaves = list(world.leaves)
    report = world.honest.audit(leaves)
    assert report.findings == []
    assert sum(count for what, count in report.attested.items() if what.startswith("certificates")) == 1
    leaves[-1] = structs.replace(leaves[-1], subject="33" * 32)
    only(world.honest.audit(leaves), AuditStep.SEQUENCE, len(leaves) - 1, "subject")
    leaves[-1] = structs.replace(world.leaves[-1], until=len(leaves))
    only(world.honest.audit(leaves), AuditStep.SEQUENCE, len(leaves) - 1, "until")


@pytest.fixture
def journal(world: World, tmp_path: Path) -> Journal:
    journal = Journal(tmp_path)
    journal.append(*world.honest.leaves())
    return journal


def test_a_running_validator_records_what_is_handed_over_once(
    world: World, journal: Journal, tmp_path: Path
) -> None:
    with pytest.raises(LedgerLocked):
        Journal(tmp_path)
    path = hand_over(tmp_path, world.certificate)
    assert read_answer(path) is None
    size = journal.store.size
    assert take_certificates(journal, tmp_path) == 1
    assert read_answer(path) == (True, str(size))
    entry = next(journal.store.entries(size))
    assert isinstance(entry.leaf, CertificateLeaf)
    assert entry.leaf.envelope == world.certificate.digest
    hand_over(tmp_path, world.certificate)  # as after a crash between the leaf and the answer
    take_certificates(journal, tmp_path)
    assert (journal.store.size, read_answer(path)) == (size + 1, (True, str(size)))
    journal.close()
    again = Journal(tmp_path)  # from the snapshot
    assert [leaf.envelope for _, leaf in again.state.certificates] == [world.certificate.digest]
    again.close()


def test_what_is_not_ours_gets_no_leaf(world: World, journal: Journal, tmp_path: Path) -> None:
    wrong = {
        "another key": world.forge(OTHER_KEY, predicate__log__key=OTHER_KEY.public.hex()),
        "another log": world.forge(predicate__log__origin="perturb/else"),
        "did not sign": world.forge(OTHER_KEY),
        "other leaves": world.forge(predicate__log__root="00" * 32),
        "does not name the model": world.forge(subject__0__digest={"sha256": "22" * 32}),
    }
    size = journal.store.size
    for said, certificate in wrong.items():
        with pytest.raises(OutputError, match=said):
            record_certificate(journal, certificate)
        path = hand_over(tmp_path, certificate)
        assert take_certificates(journal, tmp_path) == 0
        answer = read_answer(path)
        assert answer is not None
        assert not answer[0]
        assert said in answer[1]
    assert journal.store.size == size
    journal.close()
