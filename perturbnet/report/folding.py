"""One pass over a log: everything that the page shows, in bounded memory.

The numbers are those of one model: the one asked for, or the one that the newest round was judged by. Rounds
of others are counted and left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from perturbnet.errors import OutputError
from perturbnet.ledger.leaves import ChallengeLeaf, ConfigLeaf
from perturbnet.report.curve import Curve, Running
from perturbnet.report.distances import Distances
from perturbnet.report.standings import Standings
from perturbnet.report.strongest import Strongest, best_of
from perturbnet.rounds.attempts import ImageAttempts, Reading, read_attempts
from perturbnet.rounds.logged import Contexts, Log
from perturbnet.runtime.progress import Progress
from perturbnet.statistics.robustness import Count, Statistics

STEP = 256  # leaves that are looked through at once for the newest challenge


@dataclass
class Findings:
    """What a reading of the log gave. `statistics` are those that a certificate of this range states."""

    statistics: Statistics
    curve: Curve
    standings: Standings
    distances: Distances
    strongest: Strongest
    first: ImageAttempts | None  # of the rounds that count
    last: ImageAttempts | None


@dataclass
class Fold:
    """`add` every round, in order; `finish` tells what they come to."""

    model: str
    since: int = 0
    reading: Reading = field(default_factory=Reading)
    curve: Curve = field(default_factory=Curve)
    standings: Standings = field(default_factory=Standings)
    distances: Distances = field(default_factory=Distances)
    strongest: Strongest = field(default_factory=Strongest)
    first: ImageAttempts | None = None
    last: ImageAttempts | None = None
    _running: Running = field(default_factory=Running)
    _count: Count = field(init=False)

    def __post_init__(self) -> None:
        """Count from nothing."""
        self._count = Count(self.model, self.since)

    def add(self, found: ImageAttempts) -> None:
        """Take one round. Raises `LedgerCorrupt`."""
        if not self._running.add(self._count, found):
            return
        self.first, self.last = self.first or found, found
        self.standings.add(found)
        example = best_of(found)
        if example is not None:
            self.distances.add(example.attempt.leaf)
            self.strongest.add(example)
        self.curve.add(self._running.point(self._count.rounds, found))

    def finish(self, size: int) -> Findings:
        """What was found in the leaves before `size`."""
        statistics = self._count.finish(size, cut_off=self.reading.left_out)
        parts = (self.curve, self.standings, self.distances, self.strongest)
        return Findings(statistics, *parts, self.first, self.last)


def fold(
    log: Log, *, since: int, size: int, model: str, progress: Progress = lambda _done, _of: None
) -> Findings:
    """Read the complete rounds from leaf `since` to before leaf `size` that the model `model` judged.

    Raises:
        LedgerError: a leaf or a round that is not what it should be.

    """
    folded = Fold(model, since)
    for found in read_attempts(log, since, size=size, reading=folded.reading):
        folded.add(found)
        progress(found.position - since, size - since)
    progress(size - since, size - since)
    return folded.finish(size)


def newest_config(log: Log, since: int, size: int) -> ConfigLeaf:
    """The config of the newest challenge between two leaves.

    Raises:
        OutputError: there is no challenge.
        LedgerError: a leaf is missing, or not what it should be.

    """
    stop = size
    while stop > since:
        start = max(since, stop - STEP)
        challenges = [
            entry.leaf for entry in log.entries(start, stop) if isinstance(entry.leaf, ChallengeLeaf)
        ]
        if challenges:
            return Contexts(log).config_of(challenges[-1])
        stop = start
    raise OutputError(
        f"there is no challenge among the leaves from {since} to {size}",
        hint="A log of which nothing is published yet, or a --since behind its end.",
    )
