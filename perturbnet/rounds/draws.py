"""Which row comes next: the traversal, tied to the ledger that remembers it.

Rules
- An epoch begins with its leaf. It ends when every row was drawn once, or when the data set's fingerprint
  changed: then epoch 0 begins anew, and the log says so.
- A draw is taken for good by its challenge leaf or its skip leaf. One that was drawn but never recorded is
  drawn again, in this process or the next: nobody has seen it.
- The key of a segment is published when every draw of the segment has its leaf and no round is open. An epoch
  that a changed data set ends publishes the key of the segment it was in too, together with the next epoch's
  leaf: nothing more is drawn from it, and its draws can be checked.
- Nothing is written before the first draw is asked for, so a round that a crash left open is closed first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from perturbnet.datasets import SourceIdentity
from perturbnet.errors import LedgerCorrupt
from perturbnet.ledger import EpochProgress
from perturbnet.ledger.journal import Journal
from perturbnet.ledger.leaves import EpochLeaf, SegmentLeaf, SkipLeaf
from perturbnet.rules.traversal import (
    SEGMENT_DRAWS,
    Draw,
    Traversal,
    commit_to_keys,
    draw_seed,
    segment_count,
    segment_key,
)

MAX_REASON_CHARACTERS = 200

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SeededDraw:
    """A draw with the seeds that belong to it, all fixed before the epoch began."""

    draw: Draw
    freshness_seed: bytes
    selection_seed: bytes


class EpochDraws:
    """Hands out draws in order; `new_secret(epoch)` gives 32 fresh bytes for each epoch."""

    def __init__(
        self, journal: Journal, identity: SourceIdentity, new_secret: Callable[[int], bytes]
    ) -> None:
        """Take up the epoch where the ledger left it.

        Raises:
            LedgerCorrupt: the epoch's secret is not the one its leaf committed to.

        """
        self._journal = journal
        self._identity = identity
        self._new_secret = new_secret
        self._newest: SeededDraw | None = None
        self._traversal = self._resume(journal.state.epoch)

    def next(self) -> SeededDraw:
        """The next draw that has no leaf yet; begins the next epoch when this one is over."""
        traversal = self._traversal or self._begin_first()
        if self._newest is not None and not self._taken(self._newest.draw):
            return self._newest
        if traversal.finished:
            self.publish_segments()
            traversal = self._begin(traversal.epoch + 1, "finished")
        draw = traversal.next()
        key = traversal.key(draw.segment)
        self._newest = SeededDraw(
            draw,
            freshness_seed=draw_seed(key, draw.index, "freshness"),
            selection_seed=draw_seed(key, draw.index, "selection"),
        )
        return self._newest

    def skip(self, draw: Draw, reason: str, *, quiet: bool = False) -> None:
        """Record that a draw gave no challenge; `quiet` where somebody skips many on purpose."""
        log.log(logging.DEBUG if quiet else logging.WARNING, "Row %d skipped: %s", draw.row, reason)
        shown = "".join(character for character in reason if character.isprintable())
        self._journal.append(SkipLeaf(draw.epoch, draw.index, draw.row, shown[:MAX_REASON_CHARACTERS]))

    def publish_segments(self) -> None:
        """Publish the keys of the segments that are over, unless a round is open."""
        progress = self._journal.state.epoch
        if progress is None or self._journal.state.open_round is not None:
            return
        whole = progress.cursor == progress.leaf.rows
        over = segment_count(progress.cursor) if whole else progress.cursor // SEGMENT_DRAWS
        if progress.segments_revealed == over:
            return
        epoch, secret = progress.leaf.epoch, self._secret_of(progress)
        for segment in range(progress.segments_revealed, over):
            self._journal.append(SegmentLeaf(epoch, segment, segment_key(secret, segment).hex()))
            log.info("Segment %d of epoch %d is over; its key is published", segment, epoch)

    def _taken(self, draw: Draw) -> bool:
        progress = self._journal.state.epoch
        return progress is None or draw.epoch != progress.leaf.epoch or draw.index < progress.cursor

    def _resume(self, progress: EpochProgress | None) -> Traversal | None:
        """The traversal of the ledger's epoch; None where another one has to begin."""
        if progress is None:
            return None
        secret = self._secret_of(progress)
        leaf = progress.leaf
        if leaf.fingerprint != self._identity.fingerprint:
            old, new = leaf.fingerprint[:16], self._identity.fingerprint[:16]
            log.warning("The data set changed (fingerprint %s, now %s): epoch 0 begins anew", old, new)
            return None
        log.info("Epoch %d goes on at draw %d of %d", leaf.epoch, progress.cursor, leaf.rows)
        return Traversal(secret, leaf.rows, epoch=leaf.epoch, cursor=progress.cursor)

    def _begin_first(self) -> Traversal:
        progress = self._journal.state.epoch
        if progress is None:
            return self._begin(0, "first")
        self.publish_segments()
        return self._begin(0, "fingerprint_changed", after=self._last_segment())

    def _last_segment(self) -> list[SegmentLeaf]:
        """The key of the segment in which an epoch was cut short, if something was drawn from it."""
        progress = self._journal.state.epoch
        if (
            progress is None
            or progress.abandoned
            or progress.cursor <= progress.segments_revealed * SEGMENT_DRAWS
        ):
            return []
        number = progress.segments_revealed
        key = segment_key(self._secret_of(progress), number)
        return [SegmentLeaf(progress.leaf.epoch, number, key.hex())]

    def _begin(self, epoch: int, reason: str, *, after: Sequence[SegmentLeaf] = ()) -> Traversal:
        secret, rows = self._new_secret(epoch), self._identity.rows
        leaf = EpochLeaf(
            epoch=epoch,
            fingerprint=self._identity.fingerprint,
            rows=rows,
            segment_draws=SEGMENT_DRAWS,
            commitments=commit_to_keys(secret, rows),
            reason=reason,
        )
        self._journal.append_epoch(leaf, secret, after=after)
        log.info("Epoch %d begins: %d rows (%s)", epoch, rows, reason)
        self._traversal, self._newest = Traversal(secret, rows, epoch=epoch), None
        return self._traversal

    def _secret_of(self, progress: EpochProgress) -> bytes:
        secret, leaf = self._journal.store.secret_of(progress.position), progress.leaf
        if commit_to_keys(secret, leaf.rows) != leaf.commitments:
            raise LedgerCorrupt(f"the secret of epoch {leaf.epoch} does not open the commitments of its leaf")
        return secret
