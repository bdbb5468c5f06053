"""A published log, read by somebody who does not trust it.

    checkpoint                 the newest tree head, a signed note; written last
    tile/<L>/<N>[.p/<W>]       the tree's hashes (tlog-tiles)
    tile/entries/<N>[.p/<W>]   the leaves
    blobs/<2 digits>/<digest>  what leaves name by digest: the deltas of answers
    anchors.json               the anchors so far, oldest first: {block, payload}
    keys.json                  the indices of the key leaves: a hint where to look

Rules
- Nothing is believed but what leads to the root in the checkpoint, and that only as far as its signature.
  `authority` reads from the log itself who may sign; the caller compares the hotkey.
- Every file has a largest length. Every fault is a `BundleError` or a `NoteError` that names the file.
- A log may grow while it is read: a partial file that has gone is looked for as the full one.

Source: c2sp.org/tlog-tiles, c2sp.org/tlog-checkpoint; docs/ledger.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from perturbnet.errors import BundleError, BundleMissing, BundleTampered, LedgerCorrupt
from perturbnet.ledger import merkle
from perturbnet.ledger.leaves import KeyLeaf, Leaf, decode_leaf
from perturbnet.ledger.merkle import HASH_BYTES
from perturbnet.ledger.store import Entry
from perturbnet.transparency.anchors import Anchor, parse_anchors
from perturbnet.transparency.checkpoints import Checkpoint, parse_checkpoint
from perturbnet.transparency.delegation import Authority, read_authority
from perturbnet.transparency.notes import MAX_NOTE_BYTES, parse_note
from perturbnet.transparency.places import Place, open_place
from perturbnet.transparency.proofs import TlogProof
from perturbnet.transparency.tiles import (
    MAX_ENTRY_BUNDLE_BYTES,
    WIDTH,
    Tile,
    TileTree,
    parse_entries,
    tile_of,
)
from perturbnet.wire import canonical_json
from perturbnet.wire.digests import is_digest, sha256_hex

CHECKPOINT = "checkpoint"
ANCHORS = "anchors.json"
KEYS = "keys.json"


@dataclass(frozen=True)
class Limits:
    """The most a reader takes from a stranger."""

    max_leaves: int = 2**36
    max_entries_bytes: int = MAX_ENTRY_BUNDLE_BYTES
    max_blob_bytes: int = 1 << 26
    max_anchors_bytes: int = 1 << 26
    max_key_leaves: int = 1000


DEFAULT_LIMITS = Limits()


class Bundle:
    """An open published log. Close it, or use it as a context manager."""

    def __init__(self, place: Place, limits: Limits = DEFAULT_LIMITS) -> None:
        """Read the checkpoint and the tree's right edge; see `open_bundle`."""
        self.place, self.limits = place, limits
        self.note = place.read(CHECKPOINT, MAX_NOTE_BYTES)
        self.signed = parse_note(self.note)
        self.checkpoint: Checkpoint = parse_checkpoint(self.signed.text)
        if self.checkpoint.size > limits.max_leaves:
            raise BundleError(f"a log of {self.checkpoint.size} leaves; {limits.max_leaves} are allowed")
        self.tree = TileTree(self.checkpoint.size, self.checkpoint.root, self._fetch_tile)

    @property
    def size(self) -> int:
        """How many leaves the checkpoint covers."""
        return self.checkpoint.size

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[Entry]:
        """The leaves from `start` to before `stop` (the checkpoint's size), each checked up to the root.

        Raises:
            BundleTampered: a leaf is not the one in the tree.
            BundleError: a file that is malformed, or a leaf that is not one of the known kinds.
            BundleMissing: a file that is not there.

        """
        for index, data in enumerate(self.leaf_bytes(start, stop), start=start):
            yield Entry(index, merkle.leaf_hash(data).hex(), _decode(index, data))

    def leaf_bytes(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The leaves' bytes, checked up to the root; raises as `entries`."""
        stop = self.size if stop is None else stop
        if not 0 <= start <= stop <= self.size:
            raise BundleError(f"leaves {start} to {stop} of a log of {self.size}")
        index = start
        while index < stop:
            tile = tile_of(0, index // WIDTH, self.size)
            first = tile.index * WIDTH
            leaves, hashes = self._read_entries(tile), self.tree.hashes(tile)
            for place in range(index - first, min(tile.width, stop - first)):
                found = merkle.leaf_hash(leaves[place])
                if found != hashes[place]:
                    raise BundleTampered(
                        f"leaf {first + place}: expected hash {hashes[place].hex()}, got {found.hex()}"
                    )
                yield leaves[place]
            index = first + tile.width

    def entry(self, index: int) -> Entry:
        """One leaf; raises as `entries`."""
        return next(self.entries(index, index + 1))

    def blob(self, digest: str) -> bytes:
        """What a leaf names by its hex SHA-256.

        Raises:
            BundleMissing: it is not published (any more).
            BundleTampered: other bytes.
            BundleError: no digest, or too long.

        """
        if not is_digest(digest):
            raise BundleError(f"{digest[:80]!r} is no digest of a blob: expected 64 lower-case hex digits")
        data = self.place.read(blob_path(digest), self.limits.max_blob_bytes)
        found = sha256_hex(data)
        if found != digest:
            raise BundleTampered(f"blob {digest}: its bytes have the digest {found}")
        return data

    @cached_property
    def anchors(self) -> list[Anchor]:
        """The anchors that the log says it made, oldest first; hostile until one from the chain pins them."""
        try:
            data = self.place.read(ANCHORS, self.limits.max_anchors_bytes)
        except BundleMissing:
            return []
        return parse_anchors(data)

    def authority(self) -> Authority:
        """Who may sign the log, as its genesis leaf and its key leaves say.

        The key leaves are those that `keys.json` points to. One that it hides is found by whoever reads all
        leaves, with `delegation.read_authority`.

        Raises:
            NoteError: a delegation that does not hold.
            BundleError: an empty log, or a malformed hint; raises as `entries`.

        """
        if self.size == 0:
            raise BundleError("an empty log: it has no genesis leaf")
        return read_authority(self.entry(0).leaf, [self._key_leaf(index) for index in self.key_indices()])

    def verify_signature(self) -> Authority:
        """Check that the log's own current key signed the checkpoint; returns who that is.

        Raises:
            NoteError: it did not, or a delegation does not hold. Raises as `authority`.

        """
        authority = self.authority()
        authority.verify(self.signed)
        return authority

    def root_at(self, size: int) -> bytes:
        """The 32-byte root of the first `size` leaves."""
        if not 0 <= size <= self.size:
            raise BundleError(f"a root of {size} leaves in a log of {self.size}")
        return self.tree.subtree(0, size) if size else merkle.EMPTY_ROOT

    def prove_inclusion(self, index: int) -> list[bytes]:
        """The hashes from a leaf to the checkpoint's root; see `merkle.verify_inclusion`."""
        if not 0 <= index < self.size:
            raise BundleError(f"leaf {index} of a log of {self.size}")
        return merkle.inclusion_proof(index, self.size, self.tree.subtree)

    def prove_consistency(self, old: int) -> list[bytes]:
        """The hashes that show the first `old` leaves to be unchanged; see `merkle.verify_consistency`."""
        if not 0 <= old <= self.size:
            raise BundleError(f"a log of {self.size} leaves has no beginning of {old}")
        return merkle.consistency_proof(old, self.size, self.tree.subtree)

    def proof(self, index: int) -> TlogProof:
        """A leaf's inclusion as a file for others."""
        return TlogProof(index, tuple(self.prove_inclusion(index)), self.signed)

    def close(self) -> None:
        """Let go of the place."""
        self.place.close()

    def __enter__(self) -> Self:
        """Return the bundle itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def key_indices(self) -> list[int]:
        """Where the key leaves stand, as `keys.json` says: a hint, ascending; raises BundleError."""
        try:
            data = self.place.read(KEYS, 20 * self.limits.max_key_leaves)
            value = canonical_json.decode(data)
        except BundleMissing:
            return []
        except canonical_json.NotCanonical as error:
            raise BundleError(f"{KEYS}: {error.message}") from None
        if not isinstance(value, list) or not all(type(index) is int for index in value):
            raise BundleError(f"{KEYS} is no list of indices of leaves")
        indices: list[int] = value
        return sorted(set(indices))

    def _key_leaf(self, index: int) -> Leaf:
        if not 0 <= index < self.size:
            raise BundleError(f"{KEYS} names leaf {index} of a log of {self.size}")
        leaf = self.entry(index).leaf
        if not isinstance(leaf, KeyLeaf):
            raise BundleError(f"{KEYS} names leaf {index}, which is a {leaf.kind} leaf")
        return leaf

    def _fetch_tile(self, tile: Tile) -> bytes:
        return self._read_part(tile.path, tile.whole.path, WIDTH * HASH_BYTES)

    def _read_entries(self, tile: Tile) -> list[bytes]:
        path, whole = tile.entries_path, tile.whole.entries_path
        try:
            return parse_entries(self._read_part(path, whole, self.limits.max_entries_bytes), tile.width)
        except BundleError as error:
            raise type(error)(f"{path}: {error.message}") from None

    def _read_part(self, path: str, whole: str, limit_bytes: int) -> bytes:
        """A partial file, or the full one that took its place meanwhile."""
        try:
            return self.place.read(path, limit_bytes)
        except BundleMissing:
            if path == whole:
                raise
        try:
            return self.place.read(whole, limit_bytes)
        except BundleMissing:
            raise BundleMissing(f"{path} is not in {self.place}, and {whole} is not either") from None


def open_bundle(place: str | Path, limits: Limits = DEFAULT_LIMITS) -> Bundle:
    """Open the published log in a folder or at an http(s) address; its tree's root is checked at once.

    Raises:
        BundleMissing: there is none, or a file of it is not there.
        BundleTampered: its tiles do not lead to the root in its checkpoint.
        BundleError: a file that is malformed or too long; an address of another kind.
        NoteError: its checkpoint is malformed. Its signature is not looked at: see `Bundle.verify_signature`.

    """
    opened = open_place(place)
    try:
        return Bundle(opened, limits)
    except BaseException:
        opened.close()
        raise


def blob_path(digest: str) -> str:
    """Where a blob lies in a bundle."""
    return f"blobs/{digest[:2]}/{digest}"


def _decode(index: int, data: bytes) -> Leaf:
    try:
        return decode_leaf(data)
    except LedgerCorrupt as error:
        raise BundleError(f"leaf {index}: {error.message}") from None
