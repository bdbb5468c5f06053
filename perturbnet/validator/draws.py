"""Which row comes next: the traversal, tied to the ledger that remembers it.

Rules
- An epoch begins with its leaf. It ends when every row was drawn once, or when the data set's fingerprint changed: then epoch 0
  begins anew, and the log says so.
- A draw is taken for good by its challenge leaf or its skip leaf. One that was drawn but never recorded is drawn again after a
  restart: nobody has seen it.
- The key of a segment is published when every draw of the segment has its leaf and no round is open.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from perturbnet.datasets import SourceIdentity
from perturbnet.errors import LedgerCorrupt
from perturbnet.ledger.folds import EpochProgress
from perturbnet.ledger.leaves import EpochLeaf, SegmentLeaf, SkipLeaf
from perturbnet.traversal import SEGMENT_DRAWS, Draw, Traversal, commit_to_keys, draw_seed
from perturbnet.validator.journal import Journal

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SeededDraw:
    """A draw with the seeds that belong to it, all fixed before the epoch began."""

    draw: Draw
    freshness_seed: bytes
    selection_seed: bytes


class Draws:
    """Hands out draws in order; `new_secret(epoch)` gives 32 fresh bytes for each epoch."""

    def __init__(self, journal: Journal, identity: SourceIdentity, new_secret: Callable[[int], bytes]) -> None:
        """Take up the epoch where the ledger left it, or begin one."""
        self._journal = journal
        self._identity = identity
        self._new_secret = new_secret
        progress = journal.state.epoch
        if progress is None:
            self._traversal = self._begin(0, "first")
        elif progress.leaf.fingerprint != identity.fingerprint:
            log.warning(
                "The data set changed (fingerprint %s, now %s): epoch 0 begins anew",
                progress.leaf.fingerprint[:16],
                identity.fingerprint[:16],
            )
            self._traversal = self._begin(0, "fingerprint_changed")
        else:
            self._traversal = self._rebuild(progress)

    def next(self) -> SeededDraw:
        """The next draw; begins the next epoch when this one is over."""
        if self._traversal.finished:
            self.publish_segments()
            self._traversal = self._begin(self._traversal.epoch + 1, "finished")
        draw = self._traversal.next()
        key = self._traversal.key(draw.segment)
        return SeededDraw(
            draw, draw_seed(key, draw.index, "freshness"), draw_seed(key, draw.index, "selection")
        )

    def skip(self, draw: Draw, reason: str) -> None:
        """Record that a draw gave no challenge."""
        log.warning("Row %d skipped: %s", draw.row, reason)
        self._journal.append(SkipLeaf(draw.epoch, draw.index, draw.row, reason))

    def publish_segments(self) -> None:
        """Publish the keys of the segments that are over."""
        progress = self._journal.state.epoch
        if progress is None or self._journal.state.open_round is not None:
            return
        whole = progress.cursor == progress.leaf.rows
        over = -(-progress.cursor // SEGMENT_DRAWS) if whole else progress.cursor // SEGMENT_DRAWS
        for segment in range(progress.segments_revealed, over):
            key = self._traversal.key(segment)
            self._journal.append(SegmentLeaf(progress.leaf.epoch, segment, key.hex()))
            log.info("Segment %d of epoch %d is over; its key is published", segment, progress.leaf.epoch)

    def _begin(self, epoch: int, reason: str) -> Traversal:
        secret = self._new_secret(epoch)
        rows = self._identity.rows
        leaf = EpochLeaf(
            epoch, self._identity.fingerprint, rows, SEGMENT_DRAWS, commit_to_keys(secret, rows), reason
        )
        self._journal.append_epoch(leaf, secret)
        log.info("Epoch %d begins: %d rows (%s)", epoch, rows, reason)
        return Traversal(secret, rows, epoch=epoch)

    def _rebuild(self, progress: EpochProgress) -> Traversal:
        secret = self._journal.store.secret_of(progress.position)
        leaf = progress.leaf
        if commit_to_keys(secret, leaf.rows) != leaf.commitments:
            raise LedgerCorrupt(f"the secret of epoch {leaf.epoch} does not open the commitments of its leaf")
        log.info("Epoch %d goes on at draw %d of %d", leaf.epoch, progress.cursor, leaf.rows)
        return Traversal(secret, leaf.rows, epoch=leaf.epoch, cursor=progress.cursor)
