"""Fraud: two checkpoints of one log that cannot both be true, in one file that convinces anybody offline.

Rules
- A proof holds the delegations by which a hotkey let its keys sign, two signed checkpoints of the same log,
  and the hashes that show them to conflict.
- Two roots of one size conflict by themselves. Of two sizes, the hashes lead to the larger tree's root and
  give, on the way, the root its first leaves have: another one than the smaller checkpoint says. They are a
  consistency proof of the larger tree with the root of its beginning before it.
- Nothing else is needed: no network, no chain, no ledger. A file that proves nothing is refused by name.

Source: RFC 9162, section 2.1.4; c2sp.org/tlog-checkpoint ("a log MUST not sign ... inconsistent").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from perturbnet.errors import BundleError, LedgerCorrupt, NoteError
from perturbnet.ledger.leaves import Leaf, decode_leaf
from perturbnet.ledger.merkle import MAX_PROOF_HASHES, Subtree, consistency_proof, consistency_roots
from perturbnet.transparency.checkpoints import Checkpoint, encode_hash, parse_checkpoint, parse_hash
from perturbnet.transparency.delegation import Authority, follow_keys, read_genesis
from perturbnet.transparency.notes import Note, parse_note
from perturbnet.wire import canonical_json

FORMAT = "perturb/fraud/1"
SUFFIX = ".fraud.json"
MAX_FRAUD_BYTES = 1 << 20
MAX_DELEGATIONS = 100


@dataclass(frozen=True)
class FraudStatement:
    """A checkpoint as it was signed, with the leaves that say who may sign: genesis, then key leaves."""

    note: Note
    delegations: tuple[Leaf, ...]

    @property
    def checkpoint(self) -> Checkpoint:
        """What was signed; nothing is verified."""
        return parse_checkpoint(self.note.text)

    def authority(self) -> Authority:
        """Who signed.

        Raises:
            NoteError: a delegation does not hold, or no key that was ever delegated signed the note.

        """
        genesis, *changes = self.delegations
        authority = read_genesis(genesis)
        keys = [authority.key]
        for leaf in changes:
            authority = follow_keys(authority, [leaf])
            keys.append(authority.key)
        self.note.verify(keys)
        if self.checkpoint.origin != authority.origin:
            raise NoteError(f"a checkpoint of {self.checkpoint.origin}, expected {authority.origin}")
        return authority


@dataclass(frozen=True)
class FraudProof:
    """Two statements of one log that contradict each other; `hashes` show it where their sizes differ."""

    first: FraudStatement
    second: FraudStatement
    hashes: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """The file's bytes."""
        return canonical_json.encode(
            {
                "format": FORMAT,
                "first": _encode_statement(self.first),
                "second": _encode_statement(self.second),
                "hashes": [encode_hash(item) for item in self.hashes],
            }
        )

    def describe(self) -> str:
        """What it proves, in a sentence or two for a person."""
        first, second = self.first.checkpoint, self.second.checkpoint
        hotkey = self.first.authority().hotkey
        heads = (
            f"{first.size} leaves {first.root.hex()[:16]} and {second.size} leaves {second.root.hex()[:16]}"
        )
        if first.size == second.size:
            return f"{hotkey} signed two logs of one name, {first.origin}: {heads}."
        which = "of which one does not begin with the other"
        return f"{hotkey} signed two logs of one name, {first.origin}: {heads}, {which}."


def find_conflict(first: FraudStatement, second: FraudStatement, subtree: Subtree) -> FraudProof | None:
    """The proof that two statements conflict; None when they do not.

    `subtree` is of the larger tree (of any, where the sizes are the same).

    Raises:
        NoteError: they are of two logs, or not signed by the log's keys.

    """
    small, large = sorted((first, second), key=lambda item: item.checkpoint.size)
    old, new = small.checkpoint, large.checkpoint
    if old.size == 0 or (old.size, old.root) == (new.size, new.root):
        return None
    hashes: list[bytes] = []
    if old.size < new.size:
        root = subtree(0, old.size)
        if root == old.root:
            return None
        power = old.size & (old.size - 1) == 0
        hashes = [*([root] if power else []), *consistency_proof(old.size, new.size, subtree)]
    proof = FraudProof(small, large, tuple(hashes))
    check_fraud(proof)
    return proof


def check_fraud(proof: FraudProof) -> None:
    """Whether it proves what it says.

    Raises:
        NoteError: a statement is not signed by a key of its log, or they are of two logs.
        BundleError: the two do not conflict.

    """
    owners = {(item.origin, item.hotkey) for item in (proof.first.authority(), proof.second.authority())}
    if len(owners) != 1:
        raise NoteError(f"the two checkpoints are of two logs: {sorted(owners)}")
    old, new = proof.first.checkpoint, proof.second.checkpoint
    if old.size == new.size:
        if old.root == new.root:
            raise BundleError("the two checkpoints are the same: nothing is proven")
        return
    roots = consistency_roots(old.size, new.size, proof.hashes)
    if roots is None or roots[1] != new.root:
        raise BundleError(f"the hashes do not lead to the root of {new.size} leaves: nothing is proven")
    if roots[0] == old.root:
        raise BundleError("the larger log begins with the smaller: nothing is proven")


def write_fraud_proof(first: FraudStatement, second: FraudStatement, subtree: Subtree) -> bytes:
    """The file that proves two statements to conflict; see `find_conflict`.

    Raises:
        BundleError: they do not.
        NoteError: as `find_conflict`.

    """
    proof = find_conflict(first, second, subtree)
    if proof is None:
        raise BundleError("the two checkpoints do not conflict: nothing is proven")
    return proof.encode()


def verify_fraud_proof(data: bytes, *, hotkey: str | None = None) -> FraudProof:
    """Read a proof from a stranger and check it; with `hotkey`, that it is against that one.

    Raises:
        NoteError: a signature or a delegation that does not hold, or another hotkey's.
        BundleError: malformed, too long, or it proves nothing.

    """
    proof = _parse(data)
    check_fraud(proof)
    found = proof.first.authority().hotkey
    if hotkey is not None and found != hotkey:
        raise NoteError(f"a proof against {found}, not against {hotkey}")
    return proof


def encode_delegations(delegations: Sequence[Leaf]) -> list[str]:
    """The leaves as texts, for a JSON file."""
    return [leaf.encode().decode() for leaf in delegations]


def parse_delegations(value: Any) -> tuple[Leaf, ...]:
    """Read leaves that delegate; nothing is verified.

    Raises:
        BundleError: not a list of 1 to MAX_DELEGATIONS leaves.

    """
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_DELEGATIONS:
        raise BundleError(f"delegations are a list of 1 to {MAX_DELEGATIONS} leaves, the genesis leaf first")
    try:
        return tuple(decode_leaf(str(text).encode()) for text in value)
    except (LedgerCorrupt, UnicodeEncodeError) as error:
        raise BundleError(f"a delegation that is no leaf: {error}") from None


def _parse(data: bytes) -> FraudProof:
    if len(data) > MAX_FRAUD_BYTES:
        raise BundleError(f"a fraud proof of {len(data)} bytes; at most {MAX_FRAUD_BYTES} are allowed")
    try:
        value: Any = canonical_json.decode(data)
    except canonical_json.NotCanonical as error:
        raise BundleError(f"a fraud proof is canonical JSON: {error.message}") from None
    match value:
        case {"format": str(found), "first": dict(first), "second": dict(second), "hashes": list(hashes)}:
            if found != FORMAT or len(value) != 4 or len(hashes) > MAX_PROOF_HASHES:
                raise BundleError(f"a fraud proof of the format {found[:40]!r}, expected {FORMAT!r}")
            parsed = tuple(parse_hash(item) if isinstance(item, str) else b"" for item in hashes)
            return FraudProof(_parse_statement(first), _parse_statement(second), parsed)
    raise BundleError("a fraud proof has the fields format, first, second and hashes")


def _parse_statement(value: dict[str, Any]) -> FraudStatement:
    match value:
        case {"note": str(note), "delegations": delegations} if len(value) == 2:
            return FraudStatement(
                parse_note(note.encode("utf-8", "surrogatepass")), parse_delegations(delegations)
            )
    raise BundleError("a statement has the fields note and delegations")


def _encode_statement(statement: FraudStatement) -> dict[str, Any]:
    return {
        "note": statement.note.encode().decode(),
        "delegations": encode_delegations(statement.delegations),
    }
