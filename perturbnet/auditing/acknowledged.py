"""A miner's acknowledgements against a published log: promises kept or broken, answers judged right or not.

    1. the acknowledgement is signed by the validator, for this miner
    2. the log is that validator's: its head is signed by a key that the hotkey delegated
    3. the leaf it names is in the log: then its hash is the one that was promised, or the promise is broken
    4. what the leaf says is what the miner was told: challenge, body, code, score
    5. with the body: the verdict that the validator's own code gives for it

A broken promise is proven by two signatures of the validator that contradict each other: the acknowledgement,
and the checkpoint under which another leaf stands at that place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from perturbnet.auditing.findings import AuditStep, Finding
from perturbnet.datasets import ImageSource
from perturbnet.errors import PerturbError, Reject
from perturbnet.ledger import Entry, OpenRound
from perturbnet.ledger.leaves import ChallengeLeaf, ReceiptLeaf
from perturbnet.rounds.challenges import clean_image
from perturbnet.rounds.logged import Contexts
from perturbnet.rounds.receipts import build_task
from perturbnet.rules.classification import Engine
from perturbnet.rules.verification import verify
from perturbnet.transparency.bundle import Bundle
from perturbnet.transparency.delegation import check_owner
from perturbnet.transport import SignedMessage, parse_signed, verify_signed
from perturbnet.wire.messages import Acknowledgement, body_digest, parse


class Status(StrEnum):
    """What became of a promise."""

    LOGGED = "logged"
    PENDING = "not published yet"
    BROKEN = "left out"
    DIFFERENT = "logged otherwise"


@dataclass
class AcknowledgementOutcome:
    """An acknowledgement and what the log says to it. `proof` is a .tlog-proof of the leaf at its place."""

    acknowledgement: Acknowledgement
    validator: str
    miner: str
    acknowledged_ns: int
    status: Status
    receipt: ReceiptLeaf | None = None
    findings: list[Finding] = field(default_factory=list)
    proof: bytes = b""


def read_acknowledgements(data: bytes) -> list[SignedMessage]:
    """The messages in a miner's file, one a line; a line that a crash cut off is left out.

    Raises:
        AuthenticationError: there is none, or the only line is no message.

    """
    found, last = [], None
    for line in data.splitlines():
        try:
            found.append(parse_signed(line))
        except PerturbError as error:
            last = error
    if not found and last is not None:
        raise last
    return found


def check_acknowledgement(message: SignedMessage, bundle: Bundle, *, netuid: int) -> AcknowledgementOutcome:
    """Steps 1 to 4.

    Raises:
        AuthenticationError: the validator did not sign this.
        MessageError: it signed something else than an acknowledgement.
        NoteError, LedgerForked: the log is not that validator's.
        BundleError: the log cannot be read.

    """
    signed_ns = verify_signed(message)  # 1
    told = parse(Acknowledgement, message.body, max_bytes=len(message.body))
    check_owner(bundle.verify_signature(), hotkey=message.sender, netuid=netuid)  # 2
    outcome = AcknowledgementOutcome(told, message.sender, message.receiver, signed_ns, Status.PENDING)
    if told.leaf >= bundle.size:
        return outcome
    entry = bundle.entry(told.leaf)  # 3
    outcome.proof = bundle.proof(told.leaf).encode()
    if entry.hash != told.leaf_hash:
        outcome.status = Status.BROKEN
        outcome.findings.append(_finding(entry, "hash", told.leaf_hash, entry.hash))
        return outcome
    outcome.findings += _compare(entry, told, message.receiver)  # 4
    outcome.receipt = entry.leaf if isinstance(entry.leaf, ReceiptLeaf) else None
    outcome.status = Status.DIFFERENT if outcome.findings else Status.LOGGED
    return outcome


def check_body(
    outcome: AcknowledgementOutcome, body: bytes, bundle: Bundle, source: ImageSource, engine: Engine
) -> None:
    """Step 5: judge the miner's own bytes again; what differs is added to the outcome's findings.

    Raises:
        PerturbError: the challenge's image or terms cannot be had.

    """
    receipt = outcome.receipt
    if receipt is None:
        return
    entry = bundle.entry(outcome.acknowledgement.leaf)
    if body_digest(body) != receipt.body:
        outcome.findings.append(_finding(entry, "body", body_digest(body), receipt.body))
        return
    asked = bundle.entry(receipt.challenge)
    if not isinstance(asked.leaf, ChallengeLeaf):
        outcome.findings.append(_finding(entry, "challenge", "a challenge leaf", asked.leaf.kind))
        return
    terms = Contexts(bundle).terms_of(asked.leaf)
    clean = clean_image(source.read(asked.leaf.row), asked.leaf.freshness)
    task = build_task(OpenRound(asked.position, asked.hash, asked.leaf), terms, clean)
    verdict = verify(task, body, engine, signed_pixels=receipt.signed_pixels or None)
    for name in ("reject", "adversarial_pixels", "linf_u8", "sum_sq", "label_after", "logits_after"):
        expected, got = getattr(verdict, name), getattr(receipt, name)
        if expected != got:
            outcome.findings.append(_finding(entry, name, expected, got))


def _compare(entry: Entry, told: Acknowledgement, miner: str) -> list[Finding]:
    leaf = entry.leaf
    if not isinstance(leaf, ReceiptLeaf):
        return [_finding(entry, "kind", "receipt", leaf.kind)]
    facts: list[tuple[str, object, object]] = [
        ("hotkey", miner, leaf.hotkey),
        ("challenge_id", told.challenge_id, leaf.challenge_id),
        ("body", told.body_digest or "", leaf.body),
        ("reject", told.reject, Reject(leaf.reject) if leaf.reject in set(Reject) else leaf.reject),
        ("score_ppb", told.score_ppb, leaf.score_ppb),
    ]
    return [_finding(entry, name, wanted, got) for name, wanted, got in facts if wanted != got]


def _finding(entry: Entry, name: str, expected: object, got: object) -> Finding:
    return Finding(AuditStep.ANSWERS, entry.position, name, str(expected), str(got))
