"""A witness signs what extends what it saw, and keeps the proof of what contradicts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from perturbnet.errors import LedgerForked, NoteError
from perturbnet.ledger import merkle
from perturbnet.transparency.bundle import open_bundle
from perturbnet.transparency.delegation import read_authority
from perturbnet.transparency.fraud import verify_fraud_proof
from perturbnet.transparency.notes import KeyKind, Note, SigningKey, parse_note
from perturbnet.transparency.publishing import publish
from perturbnet.transparency.witnessing import Witness, WitnessRequest
from tests.support.fakes import VirtualClock
from tests.support.ledger.samples import skip
from tests.support.transparency.logs import SignedLog, signed_log


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    return Witness(tmp_path / "witness", SigningKey.from_seed("witness", bytes(32)), VirtualClock())


def test_a_witness_cosigns_what_extends(witness: Witness, log: SignedLog) -> None:
    known = [log.key.verifier(), witness.key.verifier(KeyKind.COSIGNATURE)]
    for size in (10, 10, 300, 600):
        publish(log.source, log.target, size)
        with open_bundle(log.target.path) as bundle:
            note = witness.witness_bundle(bundle)
        assert note.verify(known) == known
        assert parse_note(witness.note_path(log.key.name).read_bytes()).text == note.text


def test_a_witness_keeps_the_proof_of_a_fork(witness: Witness, published: SignedLog, tmp_path: Path) -> None:
    with open_bundle(published.target.path) as bundle:
        witness.witness_bundle(bundle)
    for number, (seed_key, grown) in enumerate([("1", 700), ("2", 599)]):
        fork = signed_log(tmp_path / f"fork{number}", key=seed_key, leaves=100)
        fork.grow(*[skip(place, "another") for place in range(grown - 100)])
        publish(fork.source, fork.target, fork.store.size)
        fork.store.close()
        with (
            open_bundle(fork.target.path) as bundle,
            pytest.raises(LedgerForked, match=r"fraud: .* two logs") as caught,
        ):
            witness.witness_bundle(bundle)
        file = Path(caught.value.hint.removeprefix("the proof is "))
        proof = verify_fraud_proof(file.read_bytes(), hotkey=published.owner.ss58_address)
        assert proof.first.checkpoint.size == min(600, grown + 1)
    note = witness.seen(published.key.name)
    assert note is not None
    assert "\n600\n" in note.text


def test_a_witness_refuses_an_older_state(witness: Witness, log: SignedLog, tmp_path: Path) -> None:
    for target, size in ((log.target, 600), (type(log.target)(tmp_path / "old"), 300)):
        publish(log.source, target, size)
    with open_bundle(log.target.path) as bundle:
        witness.witness_bundle(bundle)
    with open_bundle(tmp_path / "old") as bundle, pytest.raises(LedgerForked, match="an older state"):
        witness.witness_bundle(bundle)


def test_the_protocol_s_request(witness: Witness, log: SignedLog) -> None:
    authority = read_authority(next(log.store.entries()).leaf, [])

    def request(old: int, new: int, *proof: bytes) -> WitnessRequest:
        return WitnessRequest(old, proof, log.source.sign(new))

    proof = merkle.consistency_proof(100, 600, log.store.subtree)
    line = witness.add_checkpoint(request(0, 100), authority)
    assert witness.key.verifier(KeyKind.COSIGNATURE).accepts(log.source.sign(100).text, line.data)
    for bad, said in (
        (request(0, 600), "the last cosigned size is 100, not 0"),
        (request(700, 600), "above the new one"),
        (request(100, 600), "do not begin with the 100"),
        (request(100, 600, *proof[:-1]), "do not begin with the 100"),
        (request(100, 50), "above the new one"),
    ):
        with pytest.raises(LedgerForked, match=said):
            witness.add_checkpoint(bad, authority)
    witness.add_checkpoint(request(100, 600, *proof), authority)
    stranger = Note(log.source.sign(600).text, ()).signed_by(log.key.sign("x\n"))
    with pytest.raises(NoteError, match="is not over this text"):
        witness.add_checkpoint(WitnessRequest(600, (), stranger), authority)
