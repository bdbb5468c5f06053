"""Who watches a validator: it is told what happened, and shows it on loopback and in the mirror.

Rules
- It decides nothing, and nothing in the loop waits for it: what it is told is counted in memory; pages are
  made by the threads that serve them, from states that never change.
- Everything it shows can be read from the log again, except times of this process and its failures.
- What is shown is not public yet, so it is shown on loopback only. Secrets of the epoch are never in it.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from perturbnet.config import Settings
from perturbnet.errors import ChainError, PerturbError, Reject
from perturbnet.ledger.journal import Journal
from perturbnet.ledger.leaves import ReceiptLeaf
from perturbnet.ledger.merkle import EMPTY_ROOT
from perturbnet.overview import (
    AnchorView,
    Facts,
    HealthView,
    Overview,
    Tail,
    build_overview,
    encode_overview,
)
from perturbnet.overview.feeds import OVERVIEW_PATH
from perturbnet.rules.subnet import Metagraph
from perturbnet.runtime.clock import Clock
from perturbnet.telemetry import FailureCount, Loopback, Mirror, new_registry
from perturbnet.transparency.anchors import Anchor
from perturbnet.validator.backups import BACKUP_PATH, fill_requests
from perturbnet.validator.numbers import LogCollector, ValidatorCounts, add_gauges, free_bytes, read_queue
from perturbnet.validator.publication import known_anchors
from perturbnet.wire.units import from_ppb

LEAST_FREE_BYTES = 5 * 10**9
LATE_ROUNDS = 3  # intervals without a round before that is said
LATE_CHAIN_S = 300.0


@dataclass
class Seen:
    """What this process saw of the world, and when (monotonic seconds)."""

    started_s: float
    round_s: float | None = None
    chain_s: float | None = None
    block: int = 0
    failures: int = 0
    last_failure: str = ""


@dataclass
class Watch:
    """Watches one validator. `published` says how many leaves are public, None when that is off."""

    settings: Settings
    journal: Journal
    hotkey: str
    mirror: Mirror
    clock: Clock
    published: Callable[[], int | None] = lambda: None
    seen: Seen = field(init=False)

    def __post_init__(self) -> None:
        """Register the numbers; nothing is served before `start`."""
        self.seen = Seen(self.clock.monotonic_s())
        self.registry = new_registry("validator")
        self.counted = ValidatorCounts(self.registry)
        self.failures = FailureCount(self.registry, "validator")
        folders = {"state": self.settings.state_dir, "cache": self.settings.cache_dir}
        self.registry.register(LogCollector(self.journal, folders))
        add_gauges(self.registry, self._gauges())
        pages = {
            OVERVIEW_PATH: lambda: encode_overview(self.overview()),
            BACKUP_PATH: lambda: fill_requests(self.journal.store, self.settings.state_dir),
        }
        self.loopback = Loopback(self.registry, pages)
        self._tail: Tail | None = None
        self._looking = threading.Lock()

    def start(self) -> None:
        """Serve on loopback, unless the settings say no."""
        if self.settings.metrics_port:
            self.loopback.start(self.settings.metrics_port)

    def close(self) -> None:
        """Serve no more, and finish the mirror."""
        self.loopback.close()
        self.mirror.close()

    def round_closed(self, receipts: Sequence[ReceiptLeaf], seconds: float) -> None:
        """A round's receipts are on disk, `seconds` after it began."""
        self.seen.round_s = self.clock.monotonic_s()
        self.counted.round_closed(receipts, seconds)
        state = self.journal.state
        numbers = {**summarise(receipts), "round/seconds": seconds, "ledger/leaves": float(state.size)}
        self.mirror.send(numbers, step=state.rounds)

    def chain_called(self, call: str, seconds: float, outcome: object) -> None:
        """A call to the chain ended; see `chain.deadlines.Observer`."""
        self.counted.chain_called(call, seconds, outcome)
        if outcome is None or isinstance(outcome, ChainError):
            return
        self.seen.chain_s = self.clock.monotonic_s()
        block = outcome.block if isinstance(outcome, Metagraph) else outcome if call == "block" else 0
        if isinstance(block, int):
            self.seen.block = max(self.seen.block, block)

    def failed(self, error: PerturbError) -> None:
        """The loop's edge caught something."""
        self.failures.add(error)
        self.seen.failures += 1
        self.seen.last_failure = f"{type(error).__name__}: {error.message}"

    def overview(self) -> Overview:
        """Everything at one look."""
        state, tail, anchor = self.journal.state, self._look(), self._anchor()
        facts = Facts(
            source="validator",
            place=str(self.settings.state_dir),
            made_ms=self.clock.time_ns() // 10**6,
            root=self._root_at(state.size),
            hotkey=self.hotkey,
            network=self.settings.network,
            netuid=self.settings.netuid,
            published_leaves=self.published(),
            anchor=AnchorView(anchor.block, anchor.size, anchor.root.hex()) if anchor else None,
            block=self.seen.block,
            health=self.health(tail),
        )
        with self._looking:
            return build_overview(state, tail, facts)

    def health(self, tail: Tail) -> tuple[HealthView, ...]:
        """How this process is, in sentences."""
        return (
            self._round_health(),
            self._chain_health(),
            self._weights_health(tail),
            self._disk_health(),
            HealthView("failures", self.seen.failures == 0, self._failures()),
        )

    def _look(self) -> Tail:
        with self._looking:
            if self._tail is None:
                self._tail = Tail.of_size(self.journal.state.size)
            self._tail.look(self.journal.store.entries(self._tail.next))
            return self._tail

    def _root_at(self, size: int) -> str:
        """The head of just the leaves that are shown: more may follow while this is put together."""
        return (self.journal.store.subtree(0, size) if size else EMPTY_ROOT).hex()

    def _anchor(self) -> Anchor | None:
        anchors = known_anchors(self.journal)
        return anchors[-1] if anchors else None

    def _gauges(self) -> dict[str, tuple[str, Callable[[], float]]]:
        seen = self.seen
        return {
            "round_age_seconds": ("Since a round closed, or since the start.", self._round_age_s),
            "chain_age_seconds": (
                "Since the chain answered; NaN before it did.",
                lambda: self._since(seen.chain_s),
            ),
            "chain_block": ("The newest block that was seen.", lambda: seen.block),
            "weights_age_blocks": (
                "Since weights were accepted; NaN if that is long ago.",
                self._weights_age,
            ),
            "published_leaves": ("Leaves that are public; NaN when that is off.", self._published),
            "anchored_leaves": ("Leaves under the newest anchor.", lambda: _size(self._anchor())),
            "mirror_failures": ("What the mirror did not take.", lambda: self.mirror.failures),
            "mirror_dropped": ("What came while the mirror hung.", lambda: self.mirror.dropped),
        }

    def _since(self, then_s: float | None) -> float:
        return math.nan if then_s is None else self.clock.monotonic_s() - then_s

    def _round_age_s(self) -> float:
        then_s = self.seen.round_s
        return self._since(self.seen.started_s if then_s is None else then_s)

    def _published(self) -> float:
        found = self.published()
        return math.nan if found is None else found

    def _weights_age(self) -> float:
        accepted = self._look().accepted_block
        return math.nan if accepted is None or not self.seen.block else self.seen.block - accepted

    def _round_health(self) -> HealthView:
        age_s, queue = self._round_age_s(), read_queue(self.journal)
        settings = self.settings
        usual_s = float(settings.query_interval_seconds + settings.timeout_seconds)
        late_s = LATE_ROUNDS * usual_s + float(settings.challenge_retry_delay_seconds)
        if self.seen.round_s is None:
            found = f"none closed yet, {age_s:.0f} s after the start"
        else:
            found = f"one closed {age_s:.0f} s ago"
        waiting = f"; {queue.awaited} answers awaited, {queue.unjudged} unjudged" if any(queue) else ""
        return HealthView("rounds", age_s <= late_s, found + waiting)

    def _chain_health(self) -> HealthView:
        age_s = self._since(self.seen.chain_s)
        if math.isnan(age_s):
            return HealthView("chain", ok=False, found="has not answered yet")
        late_s = max(LATE_CHAIN_S, LATE_ROUNDS * float(self.settings.query_interval_seconds))
        return HealthView("chain", age_s <= late_s, f"answered {age_s:.0f} s ago, block {self.seen.block}")

    def _weights_health(self, tail: Tail) -> HealthView:
        submission = tail.last_submission
        if submission is None:
            return HealthView("weights", ok=True, found="none were submitted yet")
        found = f"{submission.outcome} at block {submission.block}"
        if submission.outcome in {"rejected", "ambiguous"}:
            found = f"{submission.outcome}: {submission.detail}"
        age = "" if tail.accepted_block is None else f"; accepted at block {tail.accepted_block}"
        return HealthView("weights", submission.outcome not in {"rejected", "absent"}, found + age)

    def _disk_health(self) -> HealthView:
        free = free_bytes(self.settings.state_dir)
        return HealthView(
            "disk", free >= LEAST_FREE_BYTES, f"{free / 1e9:.1f} GB free in {self.settings.state_dir}"
        )

    def _failures(self) -> str:
        if not self.seen.failures:
            return "none since the start"
        return f"{self.seen.failures} since the start; the last: {self.seen.last_failure}"


def summarise(receipts: Sequence[ReceiptLeaf]) -> dict[str, float]:
    """A round in numbers, for the mirror."""
    codes = Counter(receipt.reject for receipt in receipts)
    scores = [from_ppb(receipt.score_ppb) for receipt in receipts]
    return {
        "score/mean": sum(scores) / max(1, len(scores)),
        "score/best": max(scores, default=0.0),
        "round/succeeded": float(codes[Reject.OK]),
        "round/asked": float(len(receipts)),
        **{f"reject/{code}": float(count) for code, count in codes.items()},
    }


def _size(anchor: Anchor | None) -> float:
    return anchor.size if anchor else 0
