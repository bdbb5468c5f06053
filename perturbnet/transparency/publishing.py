"""From the ledger to a folder that any web server can serve.

Rules
- Blobs, entries, tiles, lists, and the checkpoint last: what a checkpoint covers is there before it. Cut off
  at any moment, the place shows the checkpoint before or the new one, and the next call writes the rest.
  Blobs, which are most of it, go several at a time where a place takes that.
- What is there already is trusted in one thing only: its checkpoint must be of this log, signed by one of its
  keys, and our log must begin with its tree. Else nothing is written: two trees of one name are a fraud that
  anybody can prove, and a restored backup is how an honest operator would commit it.
- A published log never shrinks. Partial files go when the full one is there.

Source: c2sp.org/tlog-tiles; docs/ledger.md.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from perturbnet.errors import ArtifactError, BundleMissing, LedgerForked, NoteError
from perturbnet.ledger import BlobStore, LedgerStore
from perturbnet.ledger.leaves import Leaf, ReceiptLeaf
from perturbnet.ledger.merkle import EMPTY_ROOT
from perturbnet.runtime.progress import Progress
from perturbnet.transparency.anchors import Anchor, encode_anchors
from perturbnet.transparency.bundle import ANCHORS, CHECKPOINT, KEYS, blob_path
from perturbnet.transparency.checkpoints import Checkpoint, parse_checkpoint, sign_checkpoint
from perturbnet.transparency.notes import MAX_NOTE_BYTES, Note, SigningKey, VerifierKey, parse_note
from perturbnet.transparency.places import WritablePlace
from perturbnet.transparency.tiles import WIDTH, Tile, encode_entries, tile_of, tiles_of
from perturbnet.wire import canonical_json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LogSource:
    """What is published: the log, its blobs, the key that signs it, those before, the key leaves' places."""

    store: LedgerStore
    deltas: BlobStore
    key: SigningKey
    old_keys: tuple[VerifierKey, ...] = ()
    key_leaves: tuple[int, ...] = ()

    @property
    def keys(self) -> list[VerifierKey]:
        """Every key that ever signed the log."""
        return [*self.old_keys, self.key.verifier()]

    def root_at(self, size: int) -> bytes:
        """The root of the first `size` leaves."""
        return self.store.subtree(0, size) if size else EMPTY_ROOT

    def sign(self, size: int) -> Note:
        """The checkpoint of the first `size` leaves; the same size gives the same bytes."""
        return sign_checkpoint(Checkpoint(self.key.name, size, self.root_at(size)), self.key)


def published_checkpoint(source: LogSource, target: WritablePlace) -> Checkpoint | None:
    """What is published already; None when nothing is.

    Raises:
        LedgerForked: it is another log, no key of ours signed it, or ours does not begin with it.
        NoteError: it is malformed.

    """
    try:
        note = parse_note(target.read(CHECKPOINT, MAX_NOTE_BYTES))
    except BundleMissing:
        return None
    found = parse_checkpoint(note.text)
    if found.origin != source.key.name:
        raise LedgerForked(
            f"{target} holds the log {found.origin}, not {source.key.name}", hint="publish to another place"
        )
    try:
        note.verify(source.keys)
    except NoteError as error:
        raise LedgerForked(
            f"{target} holds a checkpoint that no key of this log signed: {error.message}",
            hint="a log of the same name was begun anew, or the place was tampered with; nothing was written",
        ) from error
    if found.size > source.store.size or source.root_at(found.size) != found.root:
        raise LedgerForked(
            f"{target} shows {found.size} leaves with the root {found.root.hex()[:16]}; this ledger has "
            f"{source.store.size} and does not begin with them",
            hint="this ledger is an older backup, or another one: restore the newest; nothing was written",
        )
    return found


def publish(
    source: LogSource,
    target: WritablePlace,
    size: int,
    *,
    anchors: Sequence[Anchor] = (),
    progress: Progress | None = None,
) -> Checkpoint:
    """Publish the first `size` leaves; returns what is published then, at least what was before.

    Raises:
        LedgerForked: the place holds a log that ours does not extend.
        NoteError: its checkpoint is malformed.
        LedgerError: a file cannot be written.

    """
    old = published_checkpoint(source, target)
    since = old.size if old else 0
    size = max(size, since)
    note = _with_witnesses(source.sign(size), old, target)
    blobs = _blob_steps(source, target, since, size)
    steps = [
        *_tile_steps(source, target, since, size),
        lambda: target.write(
            KEYS, canonical_json.encode([place for place in source.key_leaves if place < size])
        ),
        lambda: target.write(ANCHORS, encode_anchors([item for item in anchors if item.size <= size])),
        lambda: target.write(CHECKPOINT, note.encode()),
        *(_removal(target, tile) for tile in _filled(since, size)),
    ]
    performed = itertools.chain(_perform(blobs, target.at_once), _perform(steps, 1))
    for done, _ in enumerate(performed, start=1):
        if progress is not None:
            progress(done, len(blobs) + len(steps))
    return parse_checkpoint(note.text)


def write_anchors(target: WritablePlace, anchors: Sequence[Anchor]) -> None:
    """Publish the list of anchors, the oldest first."""
    target.write(ANCHORS, encode_anchors(anchors))


def unpublish_blobs(target: WritablePlace, digests: Sequence[str]) -> None:
    """Take away blobs whose time is over."""
    for digest in digests:
        target.remove(blob_path(digest))


def add_cosignatures(source: LogSource, target: WritablePlace, witnessed: Note) -> Note:
    """Add what witnesses signed to the published checkpoint; returns the note then published.

    Raises:
        NoteError: it is not over the checkpoint that is published now.

    """
    current = parse_note(target.read(CHECKPOINT, MAX_NOTE_BYTES))
    current.verify(source.keys)
    if current.text != witnessed.text:
        raise NoteError("the witness signed another checkpoint than the one that is published now")
    ours = {(key.name, key.id) for key in source.keys}
    note = current.signed_by(*(line for line in witnessed.signatures if (line.name, line.key_id) not in ours))
    target.write(CHECKPOINT, note.encode())
    return note


def _with_witnesses(note: Note, old: Checkpoint | None, target: WritablePlace) -> Note:
    """Keep the witnesses' lines where the checkpoint stays the same."""
    if old is None or old.text() != note.text:
        return note
    return parse_note(target.read(CHECKPOINT, MAX_NOTE_BYTES)).signed_by(*note.signatures)


def _perform(steps: Sequence[Callable[[], None]], at_once: int) -> Iterator[None]:
    """Do all of it, in order or so many at a time; the first error ends it once those under way are done."""
    if at_once == 1:
        for step in steps:
            yield step()
        return
    with ThreadPoolExecutor(at_once, thread_name_prefix="publish") as pool:
        yield from pool.map(lambda step: step(), steps)  # which cancels the rest when it is left early


def _blob_steps(source: LogSource, target: WritablePlace, since: int, size: int) -> list[Callable[[], None]]:
    digests = {
        leaf.delta for leaf in _leaves(source, since, size) if isinstance(leaf, ReceiptLeaf) and leaf.delta
    }

    def put(digest: str) -> Callable[[], None]:
        return lambda: _put_blob(source.deltas, target, digest)

    return [put(digest) for digest in sorted(digests)]


def _put_blob(deltas: BlobStore, target: WritablePlace, digest: str) -> None:
    try:
        data = deltas.get(digest)
    except (
        ArtifactError
    ) as error:  # retention was faster, or the disk lost it: its receipt stays, as attested
        log.warning("Not published: %s", error.message)
        return
    target.place(blob_path(digest), data, deltas.path(digest))


def _tile_steps(source: LogSource, target: WritablePlace, since: int, size: int) -> list[Callable[[], None]]:
    def entries(tile: Tile) -> Callable[[], None]:
        return lambda: target.write(tile.entries_path, encode_entries(_leaf_bytes(source, tile)))

    def hashes(tile: Tile) -> Callable[[], None]:
        return lambda: target.write(tile.path, b"".join(_hashes(source, tile)))

    tiles = tiles_of(size, since)
    return [entries(tile) for tile in tiles if tile.level == 0] + [hashes(tile) for tile in tiles]


def _removal(target: WritablePlace, tile: Tile) -> Callable[[], None]:
    def remove() -> None:
        target.remove_folder(f"{tile.path}.p")
        if tile.level == 0:
            target.remove_folder(f"{tile.entries_path}.p")

    return remove


def _filled(since: int, size: int) -> list[Tile]:
    """The tiles that were partial in a log of `since` leaves and are full in one of `size`."""
    return [
        tile
        for tile in tiles_of(size, since)
        if tile.width == WIDTH and 0 < tile_of(tile.level, tile.index, since).width < WIDTH
    ]


def _leaves(source: LogSource, since: int, size: int) -> list[Leaf]:
    return [entry.leaf for entry, _ in zip(source.store.entries(since), range(since, size), strict=False)]


def _leaf_bytes(source: LogSource, tile: Tile) -> list[bytes]:
    start = tile.index * WIDTH
    return source.store.leaf_bytes(start, start + tile.width)


def _hashes(source: LogSource, tile: Tile) -> list[bytes]:
    start = tile.index * WIDTH
    return source.store.hashes(tile.level, start, start + tile.width)
