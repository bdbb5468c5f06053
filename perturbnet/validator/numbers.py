"""The validator's numbers for Prometheus: what it counts while it runs, and what its log says when asked.

`ValidatorCounts` is told; `LogCollector` reads the journal's state in the thread that scrapes. A state is
never changed once the journal shows it (each append makes a new one), so reading it beside the loop is safe.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from perturbnet.errors import ChainError, LedgerError, Reject
from perturbnet.ledger.journal import LEDGER_FILE, Journal
from perturbnet.ledger.leaves import ReceiptLeaf
from perturbnet.rounds.terms import weigh
from perturbnet.wire.units import from_ppb

P = "perturb_validator_"
SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20, 30, 60, 120, 300, 600)
SCORES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)


class ValidatorCounts:
    """What happens, counted as it happens; since this process started."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register it all."""
        self.answers = Counter(
            f"{P}answers", "Receipts written, by reject code.", ["reject"], registry=registry
        )
        for code in Reject:
            self.answers.labels(code.value)
        self.answer_s = Histogram(
            f"{P}answer_seconds", "From asking to a whole answer.", buckets=SECONDS, registry=registry
        )
        self.score = Histogram(
            f"{P}score", "Scores of answers that succeeded.", buckets=SCORES, registry=registry
        )
        self.round_s = Histogram(
            f"{P}round_seconds", "A round, from drawing to receipts.", buckets=SECONDS, registry=registry
        )
        self.chain_call_s = Histogram(
            f"{P}chain_call_seconds", "Calls to the chain.", ["call"], buckets=SECONDS, registry=registry
        )
        self.chain_failures = Counter(
            f"{P}chain_failures", "Calls to the chain that failed.", ["call", "error"], registry=registry
        )

    def round_closed(self, receipts: Sequence[ReceiptLeaf], seconds: float) -> None:
        """Count a round's receipts."""
        self.round_s.observe(seconds)
        for receipt in receipts:
            self.answers.labels(receipt.reject).inc()
            if receipt.body:
                self.answer_s.observe(receipt.response_ms / 1000)
            if receipt.reject == Reject.OK:
                self.score.observe(from_ppb(receipt.score_ppb))

    def chain_called(self, call: str, seconds: float, outcome: object) -> None:
        """Count a call to the chain and what came of it."""
        self.chain_call_s.labels(call).observe(seconds)
        if isinstance(outcome, ChainError):
            self.chain_failures.labels(call, type(outcome).__name__).inc()


class LogCollector(Collector):
    """What the log and the disk say, read when asked for."""

    def __init__(self, journal: Journal, folders: dict[str, Path]) -> None:
        """Read `journal`; `folders` by name are those whose disk must not fill."""
        self._journal, self._folders = journal, folders

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        yield from self._totals()
        yield from self._queue()
        yield from self._miners()
        yield from self._disk()

    def _totals(self) -> Iterator[Metric]:
        state = self._journal.state
        yield CounterMetricFamily(f"{P}rounds", "Rounds in the log.", state.rounds)
        yield CounterMetricFamily(f"{P}counted_rounds", "Rounds that count.", state.counted_rounds)
        yield CounterMetricFamily(f"{P}leaves", "Leaves in the log.", state.size)
        if state.epoch is not None:
            yield GaugeMetricFamily(f"{P}epoch_draws", "Rows drawn in this epoch.", state.epoch.cursor)
            yield GaugeMetricFamily(f"{P}epoch_rows", "Rows of an epoch.", state.epoch.leaf.rows)

    def _queue(self) -> Iterator[Metric]:
        queue = GaugeMetricFamily(f"{P}queue_answers", "Answers of the open round.", labels=["state"])
        found = read_queue(self._journal)
        queue.add_metric(["awaited"], found.awaited)
        queue.add_metric(["unjudged"], found.unjudged)
        yield queue

    def _miners(self) -> Iterator[Metric]:
        state = self._journal.state
        score = GaugeMetricFamily(f"{P}miner_score", "Mean of a miner's kept scores.", labels=["uid"])
        processed = GaugeMetricFamily(f"{P}miner_processed", "A miner's counted rounds.", labels=["uid"])
        share = GaugeMetricFamily(f"{P}miner_share", "A miner's share of the next weights.", labels=["uid"])
        shares = weigh(state.standings(), state.rules[1]).shares_ppb if state.rules else {}
        for standing in state.standings():
            label, scores = [str(standing.uid)], standing.scores_ppb
            score.add_metric(label, from_ppb(sum(scores)) / max(1, len(scores)))
            processed.add_metric(label, standing.processed)
            share.add_metric(label, from_ppb(shares.get(standing.uid, 0)))
        yield from (score, processed, share)

    def _disk(self) -> Iterator[Metric]:
        free = GaugeMetricFamily(f"{P}disk_free_bytes", "Free where a folder lies.", labels=["folder"])
        for name, folder in self._folders.items():
            free.add_metric([name], free_bytes(folder))
        yield free
        ledger = self._journal.store.path.with_name(LEDGER_FILE)
        yield GaugeMetricFamily(f"{P}ledger_bytes", "The ledger's file.", ledger.stat().st_size)


class Queue(NamedTuple):
    """Answers of the open round: not here yet, and here without a receipt."""

    awaited: int
    unjudged: int


def read_queue(journal: Journal) -> Queue:
    """How much of the open round is still to come, and how much waits for its verdict."""
    opened = journal.state.open_round
    if opened is None:
        return Queue(0, 0)
    try:
        noted = len(journal.store.arrivals(opened.position))
    except LedgerError:  # closed meanwhile
        return Queue(0, 0)
    return Queue(len(opened.leaf.asked) - noted, noted - len(opened.receipts))


def free_bytes(folder: Path) -> float:
    """What is free where a folder lies or would lie."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return float(shutil.disk_usage(folder).free)


def add_gauges(registry: CollectorRegistry, gauges: dict[str, tuple[str, Callable[[], float]]]) -> None:
    """Register numbers that are read when asked for: name after the prefix, what it is, how it is read."""
    for name, (meaning, read) in gauges.items():
        Gauge(f"{P}{name}", meaning, registry=registry).set_function(read)
