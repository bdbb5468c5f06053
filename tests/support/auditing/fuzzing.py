"""What a hostile server can send: whole files made up, honest files damaged, and logs signed by a liar.

Each target takes hypothesis' data and must end in a value or in an error of the project's own tree. Anything
else (an IndexError, a MemoryError, a hang) is the defect that fuzzing looks for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import strategies as st
from msgspec.structs import replace

from perturbnet.auditing.findings import AuditReport
from perturbnet.auditing.heads import check_anchors, check_signature
from perturbnet.auditing.parts import read_part, read_plan
from perturbnet.auditing.run import Audit, Means, Scope
from perturbnet.errors import BundleError, BundleMissing, PerturbError
from perturbnet.ledger import Leaf, leaf_hash
from perturbnet.ledger.leaves import ChallengeLeaf, ReceiptLeaf, _hints
from perturbnet.transparency.anchors import Anchor, parse_anchors
from perturbnet.transparency.bundle import Bundle
from perturbnet.transparency.checkpoints import parse_checkpoint
from perturbnet.transparency.fraud import verify_fraud_proof
from perturbnet.transparency.notes import parse_note, parse_signing_key, parse_verifier_key
from perturbnet.transparency.proofs import parse_proof
from perturbnet.transport import parse_signed, verify_signed
from perturbnet.wire.deltas import apply_delta
from tests.support.auditing.honest import LOG_KEY, Honest
from tests.support.fakes import texture
from tests.support.ledger.samples import _values

CLEAN = texture("fuzz", 40, 40)


@dataclass
class MemoryPlace:
    """A bundle in memory; keeps `Place`'s rules."""

    files: dict[str, bytes] = field(default_factory=dict)

    def read(self, name: str, limit_bytes: int) -> bytes:
        if name not in self.files:
            raise BundleMissing(f"{name} is not there")
        if len(self.files[name]) > limit_bytes:
            raise BundleError(f"{name} is longer than {limit_bytes} bytes")
        return self.files[name]

    def close(self) -> None:
        """Nothing is held."""


def damaged(data: st.DataObject, honest: bytes) -> bytes:
    """Honest bytes with up to four edits: bytes replaced, cut out, put in, repeated."""
    changed = bytearray(honest)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(changed)))
        kind = data.draw(st.sampled_from(["flip", "cut", "insert", "repeat", "number"]))
        length = data.draw(st.integers(1, 40))
        if kind == "flip" and place < len(changed):
            changed[place] ^= data.draw(st.integers(1, 255))
        elif kind == "cut":
            del changed[place : place + length]
        elif kind == "insert":
            changed[place:place] = data.draw(st.binary(max_size=length))
        elif kind == "repeat":
            changed[place:place] = changed[place : place + length]
        else:
            changed[place : place + 1] = str(data.draw(st.integers(-1, 2**70))).encode()
    return bytes(changed)


def parse_anything(data: st.DataObject, samples: dict[str, bytes]) -> None:
    """Every parser of a foreign file, on bytes that are nearly right or not at all."""
    name = data.draw(st.sampled_from(sorted(PARSERS)))
    sample = samples.get(name, b"")
    given = data.draw(st.binary(max_size=300)) if data.draw(st.booleans()) else damaged(data, sample)
    with contextlib.suppress(PerturbError):
        PARSERS[name](given)


def read_anything(data: st.DataObject, files: dict[str, bytes], honest: Honest, anchor: Anchor) -> None:
    """The whole audit of a bundle of which some files are damaged; sometimes the liar signs the head anew."""
    files = dict(files)
    for name in data.draw(st.lists(st.sampled_from(sorted(files)), min_size=1, max_size=3, unique=True)):
        files[name] = damaged(data, files[name])
        if data.draw(st.integers(0, 9)) == 0:
            del files[name]
    with contextlib.suppress(PerturbError):
        if data.draw(st.booleans()) and "checkpoint" in files:
            note = parse_note(files["checkpoint"])
            files["checkpoint"] = note.text.encode() + b"\n" + LOG_KEY.sign(note.text).encode().encode()
        bundle = Bundle(MemoryPlace(files))
        report = AuditReport()
        audit = Audit(bundle, honest.expected, Means(honest.source), Scope.whole(bundle.size), report=report)
        check_signature(bundle, honest.expected, report)
        check_anchors(bundle, [anchor], honest.expected, report)
        audit.run_history()
        audit.run_answers()


def lie(data: st.DataObject, honest: Honest) -> None:
    """The whole audit of leaves of which some say anything their kind allows, with hashes that fit."""
    leaves = honest.leaves()
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(leaves) - 1))
        hints = _hints(leaves[place].kind)
        name = data.draw(st.sampled_from(sorted(hints)))
        value = data.draw(_values(hints[name]) | st.just(getattr(leaves[place], name)))
        leaves[place] = replace(leaves[place], **{name: value})
        if data.draw(st.booleans()):
            leaves = tampered_like(leaves, place)
    report = honest.audit(leaves)
    report.to_json()


def tampered_like(leaves: list[Leaf], place: int) -> list[Leaf]:
    """Receipts of a changed challenge made to fit its new hash, as a liar would."""
    if not isinstance(leaves[place], ChallengeLeaf):
        return leaves
    new = leaf_hash(leaves[place].encode())
    return [
        replace(leaf, challenge_id=new) if isinstance(leaf, ReceiptLeaf) and leaf.challenge == place else leaf
        for leaf in leaves
    ]


PARSERS: dict[str, Callable[[bytes], object]] = {
    "note": parse_note,
    "checkpoint": lambda data: parse_checkpoint(data.decode(errors="replace")),
    "proof": parse_proof,
    "anchors": parse_anchors,
    "verifier key": lambda data: parse_verifier_key(data.decode(errors="replace")),
    "signing key": lambda data: parse_signing_key(data.decode(errors="replace")),
    "fraud proof": verify_fraud_proof,
    "delta": lambda data: apply_delta(CLEAN, data),
    "acknowledgement": lambda data: verify_signed(parse_signed(data)),
    "part": lambda data: read_part(data.decode(errors="replace")),
    "plan": lambda data: read_plan(data.decode(errors="replace")),
}
