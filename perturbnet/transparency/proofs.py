"""A leaf's inclusion in one file that needs no network: `.tlog-proof`.

    c2sp.org/tlog-proof@v1
    extra <base64>              may be missing; never authenticated
    index <decimal>
    <base64 hashes, from the leaf's sibling upward>

    <the checkpoint as a signed note>

Source: c2sp.org/tlog-proof.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass

from perturbnet.errors import BundleTampered, NoteError
from perturbnet.ledger.merkle import MAX_PROOF_HASHES, verify_inclusion
from perturbnet.transparency.checkpoints import Checkpoint, encode_hash, parse_checkpoint, parse_hash
from perturbnet.transparency.notes import MAX_NOTE_BYTES, Note, VerifierKey, decode_base64, parse_note

HEADER = "c2sp.org/tlog-proof@v1"
MAX_PROOF_BYTES = MAX_NOTE_BYTES + (1 << 18)
SUFFIX = ".tlog-proof"
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,15})")


@dataclass(frozen=True)
class TlogProof:
    """The place of a leaf in a log, with the checkpoint it is proven under."""

    index: int
    hashes: tuple[bytes, ...]
    note: Note
    extra: bytes | None = None

    def encode(self) -> bytes:
        """The file's bytes."""
        extra = [] if self.extra is None else [f"extra {base64.b64encode(self.extra).decode()}"]
        lines = [HEADER, *extra, f"index {self.index}", *map(encode_hash, self.hashes), ""]
        return "".join(f"{line}\n" for line in lines).encode() + self.note.encode()

    def verify(self, leaf: bytes, keys: Iterable[VerifierKey]) -> Checkpoint:
        """The checkpoint under which the leaf of the 32-byte hash `leaf` stands.

        Raises:
            NoteError: no known key signed the checkpoint.
            BundleTampered: the hashes do not lead from the leaf to its root.

        """
        self.note.verify(keys)
        checkpoint = parse_checkpoint(self.note.text)
        if not verify_inclusion(leaf, self.index, checkpoint.size, self.hashes, checkpoint.root):
            where = f"from leaf {self.index} ({leaf.hex()}) to the root of {checkpoint.size}"
            raise BundleTampered(f"the proof does not lead {where}")
        return checkpoint


def parse_proof(data: bytes) -> TlogProof:
    """Read a proof from a stranger; nothing is verified.

    Raises:
        NoteError: too long, or of another form.

    """
    if len(data) > MAX_PROOF_BYTES:
        raise NoteError(f"a proof of {len(data)} bytes; at most {MAX_PROOF_BYTES} are allowed")
    head, gap, note = data.partition(b"\n\n")
    try:
        lines = head.decode().split("\n")
    except UnicodeDecodeError:
        lines = []
    if not gap or lines[:1] != [HEADER]:
        raise NoteError(f"not a proof: its first line is not {HEADER}")
    extra = _parse_extra(lines.pop(1)) if lines[1:] and lines[1].startswith("extra ") else None
    index = _INDEX.fullmatch(lines[1]) if lines[1:] else None
    if index is None:
        raise NoteError("not a proof: the line `index <decimal>` is missing")
    if len(lines) - 2 > MAX_PROOF_HASHES:
        raise NoteError(f"a proof of {len(lines) - 2} hashes; at most {MAX_PROOF_HASHES} are allowed")
    return TlogProof(int(index[1]), tuple(map(parse_hash, lines[2:])), parse_note(note), extra)


def _parse_extra(line: str) -> bytes:
    try:
        return decode_base64(line.removeprefix("extra "))
    except ValueError:
        raise NoteError("not a proof: its extra line is not base64") from None
