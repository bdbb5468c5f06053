"""The miner's numbers for Prometheus, and the line it logs for each challenge.

`MinerCounts` is told; what a state holds already (who searches, who waits, batches) is read when asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

P = "perturb_miner_"
OUTCOMES = ("image", "none", "cancelled")
SECONDS = (0.25, 0.5, 1, 2.5, 5, 10, 15, 20, 30, 60)
LEFT_SECONDS = (-1, 0, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20)
LEVELS = (1, 2, 3, 4, 5, 6, 7)
SHARES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1)


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of one challenge. Without an image `linf_u8` and `changed` are 0 and `margin` is None.

    `values` are the image's 3HW; `left_s` is what was left of the challenge's time-out when the answer was
    ready; `overran` says that the attack was still at it.
    """

    task_id: str
    outcome: str
    reason: str
    linf_u8: int
    changed: int
    values: int
    margin: float | None
    forward_passes: int
    backward_passes: int
    waited_s: float
    searched_s: float
    left_s: float
    overran: bool

    def line(self) -> str:
        """For the log."""
        passes = f"{self.forward_passes} forward and {self.backward_passes} backward passes"
        times = f"{self.searched_s:.2f} s after {self.waited_s:.2f} s waiting, {self.left_s:.2f} s left"
        found = self.reason
        if self.margin is not None:
            found = f"k {self.linf_u8}, {self.changed} values changed, margin {self.margin:.4f}"
        late = "; the attack overran its deadline" if self.overran else ""
        return f"Task {self.task_id}: {self.outcome}: {found}; {passes}, {times}{late}"


class MinerCounts:
    """What happens, counted as it happens; since this process started."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register it all."""
        self._registry = registry
        self._answers = Counter(
            f"{P}answers", "Challenges, by what became of them.", ["outcome"], registry=registry
        )
        for outcome in OUTCOMES:
            self._answers.labels(outcome)
        self._overran = Counter(f"{P}overran", "Attacks that overran their deadline.", registry=registry)
        self._late = Counter(f"{P}late", "Answers that were ready after the time-out.", registry=registry)
        self._level = Histogram(
            f"{P}linf_levels", "L-inf of images sent, in 1/255.", buckets=LEVELS, registry=registry
        )
        self._changed = Histogram(
            f"{P}changed_ratio", "Share of values changed.", buckets=SHARES, registry=registry
        )
        self._searched_s = Histogram(
            f"{P}search_seconds", "How long a search took.", buckets=SECONDS, registry=registry
        )
        self._left_s = Histogram(
            f"{P}left_seconds",
            "What was left when an answer was ready.",
            buckets=LEFT_SECONDS,
            registry=registry,
        )
        self._passes = Counter(f"{P}passes", "Images through the network.", ["kind"], registry=registry)
        self._judged = Counter(
            f"{P}acknowledgements", "What validators said of answers.", ["reject"], registry=registry
        )

    def answered(self, answer: Answered) -> None:
        """Count a challenge."""
        self._answers.labels(answer.outcome).inc()
        self._passes.labels("forward").inc(answer.forward_passes)
        self._passes.labels("backward").inc(answer.backward_passes)
        self._searched_s.observe(answer.searched_s)
        self._overran.inc(answer.overran)
        if answer.outcome == "cancelled":
            return
        self._left_s.observe(answer.left_s)
        self._late.inc(answer.left_s < 0)
        if answer.margin is not None:
            self._level.observe(answer.linf_u8)
            self._changed.observe(answer.changed / answer.values)

    def judged(self, reject: str) -> None:
        """Count a validator's word; `reject` is one of `errors.Reject`."""
        self._judged.labels(reject).inc()

    def gauge(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """Register a number that is read when asked for."""
        Gauge(f"{P}{name}", meaning, registry=self._registry).set_function(read)
