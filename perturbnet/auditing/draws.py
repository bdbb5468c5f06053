"""Step 5: the order of rows and the seeds of every draw, from the keys that the epoch committed to.

A draw can be checked once the key of its segment is public; until then it is counted as not yet checkable.
A validator that withholds keys hides its order, so a key that is a whole segment late is a finding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from perturbnet.auditing.findings import AuditReport, AuditStep, Finding
from perturbnet.errors import PerturbError
from perturbnet.ledger import Entry
from perturbnet.ledger.leaves import ChallengeLeaf, EpochLeaf, SegmentLeaf, SkipLeaf
from perturbnet.rules.traversal import MAX_ROWS, SEGMENT_DRAWS, Order, draw_seed, segment_count


@dataclass(frozen=True)
class Skipped:
    """A draw that gave no challenge, with the seed its image would have been freshened by."""

    entry: Entry
    leaf: SkipLeaf
    freshness_seed: bytes


@dataclass
class DrawCheck:
    """Follows one log; only leaves that the fold has accepted are shown to it."""

    report: AuditReport
    epoch: EpochLeaf | None = None
    order: Order | None = None
    revealed: int = 0
    drawn: dict[int, Entry] = field(default_factory=dict)

    def begin(self, entry: Entry, leaf: EpochLeaf) -> None:
        """An epoch begins; the last one's segments that were over must be public by now."""
        if self.epoch is not None:
            self._require_revealed(entry, self._over())
        self.close()
        self.epoch, self.revealed, self.drawn, self.order = leaf, 0, {}, None
        if leaf.segment_draws != SEGMENT_DRAWS:
            self._find(entry, "segment_draws", SEGMENT_DRAWS, leaf.segment_draws)
        elif not 1 <= leaf.rows <= MAX_ROWS:
            self._find(entry, "rows", f"1 to {MAX_ROWS}", leaf.rows)
        elif len(leaf.commitments) != segment_count(leaf.rows):
            self._find(entry, "commitments", segment_count(leaf.rows), len(leaf.commitments))
        else:
            self.order = Order(leaf.rows)

    def take(self, entry: Entry, draw: int) -> None:
        """A challenge or a skip: remembered until the key of its segment is public."""
        self.drawn[draw] = entry
        if draw // SEGMENT_DRAWS > self.revealed + 1 and draw % SEGMENT_DRAWS == 0:
            self._require_revealed(entry, draw // SEGMENT_DRAWS - 1)

    def reveal(self, entry: Entry, leaf: SegmentLeaf) -> Iterator[Skipped]:
        """A key: every draw of its segment is checked; yields the skips, whose reasons can be checked now."""
        self.revealed += 1
        if self.order is None:
            return
        key = bytes.fromhex(leaf.key)
        first = leaf.segment * SEGMENT_DRAWS
        try:
            rows = self.order.take_run(key, min(SEGMENT_DRAWS, self.order.remaining))
        except PerturbError as error:
            self._find(entry, "key", "32 bytes", error.message)
            return
        for draw, row in enumerate(rows, first):
            drawn = self.drawn.pop(draw, None)
            if drawn is not None:
                yield from self._compare(drawn, draw, row, key)

    def close(self) -> None:
        """The epoch, or the log, ends here."""
        if self.drawn:
            self.report.unchecked["draws whose segment's key is not public yet"] += len(self.drawn)

    def _compare(self, entry: Entry, draw: int, row: int, key: bytes) -> Iterator[Skipped]:
        leaf = entry.leaf
        freshness_seed = draw_seed(key, draw, "freshness")
        self.report.checked["draws"] += 1
        if isinstance(leaf, SkipLeaf):
            self._expect(entry, "row", row, leaf.row)
            yield Skipped(entry, leaf, freshness_seed)
        elif isinstance(leaf, ChallengeLeaf):
            self._expect(entry, "row", row, leaf.row)
            selection_seed = draw_seed(key, draw, "selection").hex()
            self._expect(entry, "selection_seed", selection_seed, leaf.selection_seed)
            if leaf.freshness:
                self._expect(entry, "freshness.seed", freshness_seed.hex(), leaf.freshness.get("seed"))

    def _over(self) -> int:
        """How many segments of the current epoch are over."""
        if self.epoch is None:
            return 0
        done = max(self.drawn, default=-1) + 1 or self.revealed * SEGMENT_DRAWS
        return segment_count(done) if done >= self.epoch.rows else done // SEGMENT_DRAWS

    def _require_revealed(self, entry: Entry, segments: int) -> None:
        if self.revealed < segments:
            self._find(entry, "segment", f"the keys of {segments} segments before it", self.revealed)

    def _expect(self, entry: Entry, name: str, expected: object, got: object) -> None:
        if expected != got:
            self._find(entry, name, expected, got)

    def _find(self, entry: Entry, name: str, expected: object, got: object) -> None:
        self.report.findings.append(Finding(AuditStep.DRAWS, entry.position, name, str(expected), str(got)))
