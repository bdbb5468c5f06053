"""A witness: another validator that remembers how far it has seen a log, and signs only what extends that.

Rules (C2SP tlog-witness)
- Of each log, by its name, the newest checkpoint that was cosigned is kept. The next one is cosigned only if
  it is signed by the log's key, no smaller, and proven to begin with the kept one; what is new is on the disk
  before the cosignature leaves.
- The witness reads the published log (`witness_bundle`) and computes the proof from its tiles; it serves
  nobody. What it checks is what the protocol asks of a witness (`add_checkpoint`).
- A log that contradicts what was seen is not cosigned: the two checkpoints are a fraud proof, which is kept.
- A witness cosigns under its own log's name and key; how far it trusts a log's clock is not said.

Source: c2sp.org/tlog-witness, c2sp.org/tlog-cosignature.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from perturbnet.errors import BundleError, LedgerError, LedgerForked, NoteError
from perturbnet.ledger.leaves import KeyLeaf, Leaf
from perturbnet.ledger.merkle import EMPTY_ROOT, verify_consistency
from perturbnet.runtime.artifacts import write_durably
from perturbnet.runtime.clock import Clock
from perturbnet.runtime.folders import make_folder
from perturbnet.transparency.bundle import Bundle
from perturbnet.transparency.checkpoints import Checkpoint, parse_checkpoint
from perturbnet.transparency.delegation import Authority
from perturbnet.transparency.fraud import (
    SUFFIX,
    FraudStatement,
    encode_delegations,
    find_conflict,
    parse_delegations,
)
from perturbnet.transparency.notes import MAX_NOTE_BYTES, Note, Signature, SigningKey, parse_note
from perturbnet.wire import canonical_json
from perturbnet.wire.digests import sha256_hex

WITNESS_FOLDER = "witness"


@dataclass(frozen=True)
class WitnessRequest:
    """What `add-checkpoint` says: the size the witness is believed to have, a proof, the new checkpoint."""

    old_size: int
    proof: tuple[bytes, ...]
    note: Note


@dataclass
class Witness:
    """What one witness has seen, in a folder; one process at a time."""

    folder: Path
    key: SigningKey
    clock: Clock

    def seen(self, origin: str) -> Note | None:
        """The newest checkpoint of a log that this witness cosigned.

        Raises:
            LedgerError: it cannot be read. NoteError: it is damaged.

        """
        path = self.note_path(origin)
        try:
            if path.stat().st_size > MAX_NOTE_BYTES:
                raise NoteError(f"{path} is larger than {MAX_NOTE_BYTES} bytes")
            note = parse_note(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LedgerError(f"{path} cannot be read: {error.strerror}") from error
        if parse_checkpoint(note.text).origin != origin:
            raise NoteError(f"{path} holds another log than {origin}")
        return note

    def add_checkpoint(self, request: WitnessRequest, authority: Authority) -> Signature:
        """Cosign a checkpoint, after the protocol's checks in its order.

        Raises:
            NoteError: it is not signed by the log's key.
            LedgerForked: the old size is not what was seen last, the same size has another root, or the proof
                does not show the new tree to begin with the one seen.
            LedgerError: what was seen cannot be kept.

        """
        checkpoint = authority.verify(request.note)
        known = self.seen(checkpoint.origin)
        old = parse_checkpoint(known.text) if known else Checkpoint(checkpoint.origin, 0, EMPTY_ROOT)
        if request.old_size > checkpoint.size:
            raise LedgerForked(f"the old size {request.old_size} is above the new one, {checkpoint.size}")
        if request.old_size != old.size:
            found = f"the last cosigned size is {old.size}, not {request.old_size}"
            raise LedgerForked(f"{checkpoint.origin}: {found}")
        if not verify_consistency(old.size, checkpoint.size, request.proof, old.root, checkpoint.root):
            seen = f"do not begin with the {old.size} that were seen"
            raise LedgerForked(f"{checkpoint.origin}: {checkpoint.size} leaves {seen}")
        line = self.key.cosign(request.note.text, self.clock.time_ns() // 10**9)
        self._keep(self.note_path(checkpoint.origin), request.note.signed_by(line).encode())
        return line

    def witness_bundle(self, bundle: Bundle) -> Note:
        """Check a published log against what was seen of it, and cosign it; the note with the new line.

        Raises:
            LedgerForked: it contradicts what was seen, or is older. Where it contradicts, the message names
                the fraud proof that was kept.
            NoteError, BundleError: it is malformed, tampered with, or not signed by its key.

        """
        authority = bundle.verify_signature()
        delegations = _delegations(bundle)
        known = self.seen(authority.origin)
        old = parse_checkpoint(known.text) if known else None
        if known is not None and old is not None:
            self._compare(known, old, bundle, delegations)
        since = old.size if old else 0
        proof = tuple(bundle.prove_consistency(since)) if since else ()
        self._keep(self._keys_path(authority.origin), canonical_json.encode(encode_delegations(delegations)))
        line = self.add_checkpoint(WitnessRequest(since, proof, bundle.signed), authority)
        return bundle.signed.signed_by(line)

    def note_path(self, origin: str) -> Path:
        """Where the newest cosigned checkpoint of a log lies."""
        return self.folder / sha256_hex(origin.encode())

    def _compare(self, known: Note, old: Checkpoint, bundle: Bundle, delegations: tuple[Leaf, ...]) -> None:
        if bundle.size < old.size:
            raise LedgerForked(
                f"{old.origin}: {bundle.size} leaves are published, {old.size} were cosigned: an older state"
            )
        first = FraudStatement(known, self._seen_delegations(old.origin) or delegations)
        second = FraudStatement(bundle.signed, delegations)
        fraud = find_conflict(first, second, bundle.tree.subtree)
        if fraud is None:
            return
        data = fraud.encode()
        name = f"{sha256_hex(data)[:16]}{SUFFIX}"
        self._keep(self.folder / name, data)
        raise LedgerForked(f"fraud: {fraud.describe()}", hint=f"the proof is {self.folder / name}")

    def _keys_path(self, origin: str) -> Path:
        return self.note_path(origin).with_suffix(".keys.json")

    def _seen_delegations(self, origin: str) -> tuple[Leaf, ...]:
        """The delegations that held when the log was last seen: a log begun anew has others."""
        try:
            value = canonical_json.decode(self._keys_path(origin).read_bytes())
        except FileNotFoundError:
            return ()
        except (OSError, canonical_json.NotCanonical) as error:
            raise LedgerError(f"{self._keys_path(origin)} cannot be read: {error}") from error
        return parse_delegations(value)

    def _keep(self, path: Path, data: bytes) -> None:
        try:
            make_folder(path.parent)
            write_durably(path, data)
        except OSError as error:
            raise LedgerError(f"{path} cannot be written: {error.strerror}") from error


def _delegations(bundle: Bundle) -> tuple[Leaf, ...]:
    """The genesis leaf and the key leaves."""
    leaves = [bundle.entry(index).leaf for index in (0, *bundle.key_indices())]
    if not all(isinstance(leaf, KeyLeaf) for leaf in leaves[1:]):
        raise BundleError("a hint to a key leaf that is none")
    return tuple(leaves)
