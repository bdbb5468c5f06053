"""Two histories under one name: the witness sees them, and the file convinces a stranger."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from perturbnet.errors import BundleError, NoteError
from perturbnet.ledger import Leaf, merkle
from perturbnet.transparency.checkpoints import Checkpoint, encode_hash, sign_checkpoint
from perturbnet.transparency.delegation import build_genesis
from perturbnet.transparency.fraud import FraudStatement, find_conflict, verify_fraud_proof, write_fraud_proof
from perturbnet.transparency.notes import SigningKey
from perturbnet.wire import canonical_json
from perturbnet.wire.keys import Keypair
from tests.support.ledger.samples import skip
from tests.support.transparency.logs import NETUID, hotkey, log_key

ALICE = hotkey("alice")
KEY = log_key("1", ALICE)


def genesis(owner: Keypair = ALICE, key: SigningKey = KEY) -> Leaf:
    return build_genesis(owner, key, network="local", netuid=NETUID, created_ms=1)


def statement(leaves: list[bytes], key: SigningKey = KEY, *delegations: Leaf) -> FraudStatement:
    """A signed head over some leaves."""
    root = merkle.root(map(merkle.leaf_hash, leaves))
    return FraudStatement(
        sign_checkpoint(Checkpoint(key.name, len(leaves), root), key), delegations or (genesis(ALICE, key),)
    )


def subtree(leaves: list[bytes]) -> merkle.Subtree:
    return merkle.subtrees_of([merkle.leaf_hash(leaf) for leaf in leaves])


@given(st.integers(1, 40), st.integers(0, 40), st.data())
def test_any_two_histories_are_proven_to_conflict(size: int, more: int, data: st.DataObject) -> None:
    one = [b"%d" % number for number in range(size)]
    two = [b"%d" % number for number in range(size + more)]
    assert find_conflict(statement(one), statement(two), subtree(two)) is None
    changed = data.draw(st.integers(0, size - 1))
    two[changed] = b"rewritten"
    for pair in ((one, two), (two, one)):
        proof = write_fraud_proof(statement(pair[0]), statement(pair[1]), subtree(two))
        found = verify_fraud_proof(proof, hotkey=ALICE.ss58_address)
        assert f"{ALICE.ss58_address} signed two logs of one name" in found.describe()


ONE = [b"%d" % number for number in range(5)]
TWO = [b"a", *ONE[1:], b"b", b"c"]
PROOF = write_fraud_proof(statement(ONE), statement(TWO), subtree(TWO))


def test_an_honest_log_cannot_be_accused() -> None:
    longer = [*ONE, b"5", b"6"]
    for other in (ONE, longer, []):
        with pytest.raises(BundleError, match="do not conflict"):
            write_fraud_proof(statement(ONE), statement(other), subtree(longer))
    value = json.loads(PROOF)
    value["second"]["note"] = statement(longer).note.encode().decode()
    hashes = merkle.consistency_proof(5, 7, subtree(longer))
    value["hashes"] = [encode_hash(item) for item in hashes]
    with pytest.raises(BundleError, match="begins with the smaller"):
        verify_fraud_proof(canonical_json.encode(value))
    value["second"] = value["first"]
    with pytest.raises(BundleError, match="the same: nothing is proven"):
        verify_fraud_proof(canonical_json.encode(value))


def _with(**changes: object) -> bytes:
    return canonical_json.encode({**json.loads(PROOF), **changes})


BOB, BOB_KEY = hotkey("bob"), log_key("1", hotkey("bob"))
BOBS = (genesis(BOB, BOB_KEY),)
BOB_PROOF = json.loads(
    write_fraud_proof(statement(TWO, BOB_KEY, *BOBS), statement(ONE, BOB_KEY, *BOBS), subtree(TWO))
)
NOTE, GENESIS = (json.loads(PROOF)["first"][name] for name in ("note", "delegations"))
BOB_NOTE = BOB_PROOF["second"]["note"]
FIRST = "a statement has the fields"

_NOTHING: dict[str, tuple[bytes, type[Exception], str]] = {
    "empty": (b"", BundleError, "canonical JSON"),
    "no fields": (b"{}", BundleError, "has the fields"),
    "too long": (b"a" * (1 << 21), BundleError, "at most 1048576"),
    "another format": (_with(format="x"), BundleError, "of the format 'x'"),
    "another field": (_with(more=1), BundleError, "of the format"),
    "no hashes": (_with(hashes=[]), BundleError, "do not lead to the root"),
    "other hashes": (_with(hashes=[encode_hash(bytes(32))] * 3), BundleError, "do not lead to the root"),
    "a number": (_with(hashes=[1]), BundleError, "do not lead to the root"),
    "a short hash": (_with(hashes=["AAAA"]), NoteError, "not the base64 of a hash"),
    "many hashes": (_with(hashes=["A"] * 99), BundleError, "of the format"),
    "no statement": (_with(first={}), BundleError, FIRST),
    "no note": (_with(first={"note": "", "delegations": GENESIS}), NoteError, "empty line"),
    "no delegation": (_with(first={"note": NOTE, "delegations": []}), BundleError, "a list of 1 to 100"),
    "another's note": (_with(second={"note": BOB_NOTE, "delegations": GENESIS}), NoteError, "no known key"),
    "another's log": (_with(second=BOB_PROOF["second"]), NoteError, "of two logs"),
    "no genesis": (
        _with(first={"note": NOTE, "delegations": [skip(1).encode().decode()]}),
        NoteError,
        "expected genesis",
    ),
    "no leaf": (_with(first={"note": NOTE, "delegations": ["{"]}), BundleError, "no leaf"),
}


@pytest.mark.parametrize("name", _NOTHING)
def test_files_that_prove_nothing(name: str) -> None:
    data, kind, said = _NOTHING[name]
    with pytest.raises(kind, match=said):
        verify_fraud_proof(data)


def test_a_proof_is_against_somebody() -> None:
    with pytest.raises(NoteError, match="a proof against"):
        verify_fraud_proof(PROOF, hotkey=hotkey("bob").ss58_address)


@given(st.binary(max_size=60), st.integers(0, len(PROOF)))
@example(PROOF.replace(b'"created_ms\\":1', b'"created_ms\\":0'), 0)
def test_no_bytes_do_more_than_be_refused_or_prove_the_same(data: bytes, place: int) -> None:
    """The time at which a log was begun is nobody's claim and proves nothing: it alone may be another."""
    changed = PROOF[:place] + data + PROOF[place + len(data) :]
    try:
        found = verify_fraud_proof(changed)
    except (BundleError, NoteError):
        return
    proven, again = verify_fraud_proof(PROOF), (found.first, found.second)
    assert [said.note for said in again] == [said.note for said in (proven.first, proven.second)]
    assert [said.authority() for said in again] == [
        said.authority() for said in (proven.first, proven.second)
    ]
