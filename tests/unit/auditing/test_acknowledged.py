"""A miner's acknowledgement against the log: kept, not published yet, broken, or told otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bittensor import http_auth
from msgspec import structs

from perturbnet.auditing.acknowledged import (
    AcknowledgementOutcome,
    Status,
    check_acknowledgement,
    check_body,
    read_acknowledgements,
)
from perturbnet.errors import AuthenticationError, LedgerForked, MessageError, Reject
from perturbnet.ledger import Leaf
from perturbnet.ledger.leaves import ReceiptLeaf
from perturbnet.transparency.bundle import open_bundle
from perturbnet.transparency.proofs import parse_proof
from perturbnet.transport import SignedMessage
from tests.support.auditing.acknowledgements import signed
from tests.support.auditing.honest import LOG_KEY, Honest, renumbered, tampered
from tests.support.auditing.published import publish, publish_honest
from tests.support.fakes import NETUID, keypair


def look(folder: Path, leaves: list[Leaf], honest: Honest, message: SignedMessage) -> AcknowledgementOutcome:
    publish(leaves, folder / "log", honest.blobs.folder)
    with open_bundle(folder / "log") as bundle:
        return check_acknowledgement(message, bundle, netuid=NETUID)


def test_a_promise_that_was_kept(honest: Honest, folder: Path) -> None:
    place = honest.receipts()[0]
    outcome = look(folder, honest.leaves(), honest, signed(honest, place))
    assert (outcome.status, outcome.findings) == (Status.LOGGED, [])
    proof = parse_proof(outcome.proof)
    leaf = bytes.fromhex(honest.entries[place].hash)
    assert proof.verify(leaf, [LOG_KEY.verifier()]).size == len(honest.entries)


def test_a_promise_whose_leaf_is_not_published_yet(honest: Honest, folder: Path) -> None:
    place = honest.receipts()[-1]
    outcome = look(folder, honest.leaves()[:place], honest, signed(honest, place))
    assert (outcome.status, outcome.findings) == (Status.PENDING, [])


def test_an_answer_that_was_left_out_is_proven(honest: Honest, folder: Path) -> None:
    """The operator drops the receipt and renumbers the rest: his own signature contradicts his own head."""
    place = honest.receipts()[3]
    leaves = honest.leaves()
    del leaves[place]
    outcome = look(folder, renumbered(leaves, place), honest, signed(honest, place))
    assert outcome.status is Status.BROKEN
    assert [found.field for found in outcome.findings] == ["hash"]
    assert parse_proof(outcome.proof).index == place


def test_a_score_that_was_changed_afterwards_breaks_the_promise(honest: Honest, folder: Path) -> None:
    place = honest.receipts()[3]
    leaves = tampered(honest, place, score_ppb=1)
    assert look(folder, leaves, honest, signed(honest, place)).status is Status.BROKEN


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"score_ppb": 5}, "score_ppb"),
        ({"reject": Reject.TIMEOUT}, "reject"),
        ({"body_digest": "a" * 64}, "body"),
        ({"challenge_id": "b" * 64}, "challenge_id"),
    ],
)
def test_a_miner_that_was_told_something_else_is_named(
    honest: Honest, folder: Path, changes: dict[str, Any], field: str
) -> None:
    place = honest.receipts()[0]
    outcome = look(folder, honest.leaves(), honest, signed(honest, place, **changes))
    assert outcome.status is Status.DIFFERENT
    assert [found.field for found in outcome.findings] == [field]


def test_a_promise_that_names_no_receipt_is_named(honest: Honest, folder: Path) -> None:
    message = signed(honest, honest.receipts()[0], leaf=0, leaf_hash=honest.entries[0].hash)
    assert look(folder, honest.leaves(), honest, message).findings[0].field == "kind"


def test_an_acknowledgement_that_the_validator_did_not_sign_proves_nothing(
    honest: Honest, folder: Path
) -> None:
    message = signed(honest, honest.receipts()[0])
    with pytest.raises(AuthenticationError, match="BadSignature"):
        look(folder, honest.leaves(), honest, replace(message, body=message.body.replace(b"ok", b"no")))


def test_another_validators_acknowledgement_is_refused(honest: Honest, folder: Path) -> None:
    with pytest.raises(LedgerForked, match="belongs to"):
        look(folder, honest.leaves(), honest, signed(honest, honest.receipts()[0], by=keypair(8)))


def test_another_message_of_the_validator_is_refused(honest: Honest, folder: Path) -> None:
    headers = http_auth.sign(keypair(1), method="POST", path="/", body=b"{}", receiver_ss58="5x", nonce_ns=1)
    with pytest.raises(MessageError):
        look(folder, honest.leaves(), honest, SignedMessage.of("/", headers.items(), b"{}"))


def test_a_file_of_acknowledgements_is_read_around_a_torn_line(honest: Honest) -> None:
    first, second = (signed(honest, place) for place in honest.receipts()[:2])
    data = first.encode() + b'\n{"body":\n' + second.encode() + b"\n"
    assert read_acknowledgements(data) == [first, second]
    with pytest.raises(AuthenticationError):
        read_acknowledgements(b"nothing")


def test_the_answer_itself_is_judged_again(honest: Honest, folder: Path) -> None:
    """An honest verdict holds; one that calls a good answer a broken PNG does not."""
    place = honest.receipts()[0]
    leaf = honest.entries[place].leaf
    assert isinstance(leaf, ReceiptLeaf)
    body = honest.bodies.get(leaf.body)
    outcome = look(folder, honest.leaves(), honest, signed(honest, place))
    with open_bundle(folder / "log") as bundle:
        check_body(outcome, body, bundle, honest.source, honest.engine)
        assert outcome.findings == []
        check_body(outcome, body + b" ", bundle, honest.source, honest.engine)
        assert [found.field for found in outcome.findings] == ["body"]

    publish_honest(honest, folder / "log")
    outcome.findings.clear()
    code = Reject.PNG_CRC.value
    outcome.receipt = structs.replace(leaf, reject=code, adversarial_pixels="", label_after="")
    with open_bundle(folder / "log") as bundle:
        check_body(outcome, body, bundle, honest.source, honest.engine)
    assert {found.field for found in outcome.findings} >= {"reject", "adversarial_pixels"}
