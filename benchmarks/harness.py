"""Measure two ways of doing the same thing so that the machine's noise falls on both alike.

Rules
- Rounds are interleaved, and the order alternates (ours, peer, peer, ours, ...): whatever else the machine
  does, and how warm it is, meets both sides. The ratio is the median of the rounds' ratios.
- A sample repeats the work until it lasts at least SAMPLE_S, so that the clock's grain does not show.
- CPU seconds count every thread of the process; wall seconds are what a person waits. Both are given.
- Peak memory is that of a fresh process which sets one side up and does its work: the whole resident set,
  libraries included, and how far it grows while the work runs. It is read from /proc: getrusage's figure
  survives exec, so a child would be told its parent's.

A bench is a module in this folder with `cases() -> Sequence[Case]`.
"""

from __future__ import annotations

import importlib
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

SAMPLE_S = 0.05
Work = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """Two set-ups, each of which returns the work to be measured. `peer` is what ours is compared with."""

    name: str
    ours: Callable[[], Work]
    peer: Callable[[], Work]
    peer_name: str


@dataclass(frozen=True)
class Cost:
    """One side's medians, for doing the work once."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    peak_growth_mib: float


@dataclass(frozen=True)
class Measurement:
    """One case. Ratios below 1 mean that ours is cheaper."""

    bench: str
    case: str
    peer_name: str
    rounds: int
    ours: Cost
    peer: Cost
    wall_ratio: float
    cpu_ratio: float


@dataclass(frozen=True)
class _Sample:
    wall_s: float
    cpu_s: float


def measure(bench: str, case: Case, *, rounds: int) -> Measurement:
    """Run one case in interleaved rounds, then each side alone for its memory."""
    ours, peer = case.ours(), case.peer()
    repeats = _repeats(ours), _repeats(peer)
    pairs = [_round(ours, peer, repeats, swapped=number % 2 == 1) for number in range(rounds)]
    return Measurement(
        bench=bench,
        case=case.name,
        peer_name=case.peer_name,
        rounds=rounds,
        ours=_cost([pair[0] for pair in pairs], _peak_mib(bench, case.name, "ours")),
        peer=_cost([pair[1] for pair in pairs], _peak_mib(bench, case.name, "peer")),
        wall_ratio=statistics.median(mine.wall_s / theirs.wall_s for mine, theirs in pairs),
        cpu_ratio=statistics.median(mine.cpu_s / theirs.cpu_s for mine, theirs in pairs),
    )


def as_json(measurements: list[Measurement]) -> str:
    """All that was measured, for a machine."""
    return json.dumps([asdict(measurement) for measurement in measurements], indent=2) + "\n"


def _round(ours: Work, peer: Work, repeats: tuple[int, int], *, swapped: bool) -> tuple[_Sample, _Sample]:
    if swapped:
        second = _sample(peer, repeats[1])
        return _sample(ours, repeats[0]), second
    first = _sample(ours, repeats[0])
    return first, _sample(peer, repeats[1])


def _sample(work: Work, repeats: int) -> _Sample:
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        work()
    return _Sample((time.perf_counter() - wall) / repeats, (time.process_time() - cpu) / repeats)


def _repeats(work: Work) -> int:
    """Warm up, and find how often the work fits into a sample."""
    repeats = 1
    while _sample(work, repeats).wall_s * repeats < SAMPLE_S:
        repeats *= 2
    return repeats


def _cost(samples: list[_Sample], peaks_mib: tuple[float, float]) -> Cost:
    return Cost(
        wall_s=statistics.median(sample.wall_s for sample in samples),
        cpu_s=statistics.median(sample.cpu_s for sample in samples),
        peak_mib=peaks_mib[0],
        peak_growth_mib=peaks_mib[1],
    )


def _peak_mib(bench: str, case: str, side: str) -> tuple[float, float]:
    """A fresh process's peak, and by how much the work raised it."""
    command = [sys.executable, "-m", "benchmarks.harness", bench, case, side]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    whole, growth = map(float, done.stdout.split())
    return whole, growth


def _print_peaks(bench: str, case_name: str, side: str) -> None:
    cases = importlib.import_module(f"benchmarks.{bench}").cases()
    case = next(case for case in cases if case.name == case_name)
    work = (case.ours if side == "ours" else case.peer)()
    set_up = _peak_resident_kib()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is resident (man 5 proc)
    before = _peak_resident_kib()
    work()
    after = _peak_resident_kib()
    print(max(set_up, after) / 1024, (after - before) / 1024)


def _peak_resident_kib() -> int:
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    if not found:
        raise OSError("/proc/self/status has no VmHWM")
    return int(found[1])


if __name__ == "__main__":
    _print_peaks(*sys.argv[1:4])
