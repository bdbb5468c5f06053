"""Our signed HTTP beside SDK 10.5's Axon and Dendrite: 500 kB of base64 each way, 1, 16, 64 at once.

    python -m benchmarks.transport --sdk10 SDK10/bin/python [--rounds 7] [--seconds 1.0] [--json]

SDK 10.5 and 11 are one distribution, so it needs an environment of its own; without one the command to make
it is printed. Each side has a server's process and a client's; the four live through the whole run. Samples
are interleaved and their order alternates (ours, theirs, theirs, ours, ...), so what else the machine does
meets both; the ratio is the median of the rounds' ratios. Above 1 means that ours is quicker. Processor time
is that of a side's two processes together, as the kernel counts it. Failed requests count as time, not as
requests; one of ours ends the run.

Source of the peer: bittensor 10.5, `core/axon.py`, `core/dendrite.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from perturbnet.localnet.network import free_ports

AT_ONCE = {1: 3.0, 16: 3.0, 64: 2.0}  # how many requests at once, and the ratio that is asked for
SDK = "10.5."
MAKE = "uv venv --python 3.11 sdk10 && uv pip install --python sdk10/bin/python 'bittensor==10.5.*'"
OURS = [sys.executable, "-m", "benchmarks.transport_ours"]
THEIRS = str(Path(__file__).with_name("transport_sdk10.py"))


@dataclass(frozen=True)
class Line:
    """Medians for one number of requests at once. Requests a second; milliseconds of CPU for a request."""

    at_once: int
    ours_per_s: float
    theirs_per_s: float
    ratio: float
    ours_cpu_ms: float
    theirs_cpu_ms: float
    theirs_failed: int
    asked: float


class Side:
    """One side: its server, and its client, told what to do through its standard input."""

    def __init__(self, server: subprocess.Popen[str], client: subprocess.Popen[str]) -> None:
        """Talk to a client that has said it is ready."""
        self._process, self._both = client, (server.pid, client.pid)
        self._repeats: dict[int, int] = {}
        self.failed = 0

    def sample(self, at_once: int, seconds: float) -> tuple[float, float]:
        """Requests a second, and CPU seconds for one, over about `seconds`."""
        if at_once not in self._repeats:
            self._ask(at_once, at_once)
            once_s = self._ask(at_once, 2 * at_once)[0] / 2
            self._repeats[at_once] = max(1, round(seconds / once_s))
        requests = at_once * self._repeats[at_once]
        before_s = sum(map(_cpu_s, self._both))
        wall_s, failed = self._ask(at_once, requests)
        self.failed += failed
        return (requests - failed) / wall_s, (sum(map(_cpu_s, self._both)) - before_s) / requests

    def _ask(self, at_once: int, requests: int) -> tuple[float, int]:
        if self._process.stdin is None:
            raise AssertionError("started with a pipe")
        self._process.stdin.write(f"{at_once} {requests}\n")
        self._process.stdin.flush()
        wall, failed = _read(self._process).split()
        return float(wall), int(failed)


def _cpu_s(process: int) -> float:
    """User and system time of a process so far (man 5 proc, stat)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def side(command: list[str], *, port: str = "") -> Iterator[Side]:
    """A server, and a client that knows its port; both end with the block."""
    with _running([*command, "serve", *([port] if port else [])]) as server:
        port = _read(server).strip()
        with _running([*command, "ask", port]) as client:
            _read(client)
            yield Side(server, client)


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _read(process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise SystemExit(f"{process.args!r} ended with code {process.wait()}")
    return line


def compare(theirs: str, *, rounds: int, seconds: float) -> list[Line]:
    """Run both sides through all numbers of requests at once."""
    lines = []
    with side(OURS) as our, side([theirs, THEIRS], port=str(free_ports(1)[0])) as their:
        for at_once, asked in AT_ONCE.items():
            pairs, failed_before = [], their.failed
            for number in track(range(rounds), f"{at_once} at once", console=Console(stderr=True)):
                order = (our, their) if number % 2 == 0 else (their, our)
                found = {id(which): which.sample(at_once, seconds) for which in order}
                pairs.append((found[id(our)], found[id(their)]))
            lines.append(_line(at_once, asked, pairs, their.failed - failed_before))
    return lines


def _line(
    at_once: int, asked: float, pairs: list[tuple[tuple[float, float], tuple[float, float]]], failed: int
) -> Line:
    return Line(
        at_once,
        statistics.median(ours[0] for ours, _ in pairs),
        statistics.median(theirs[0] for _, theirs in pairs),
        statistics.median(ours[0] / theirs[0] for ours, theirs in pairs),
        1000 * statistics.median(ours[1] for ours, _ in pairs),
        1000 * statistics.median(theirs[1] for _, theirs in pairs),
        failed,
        asked,
    )


def fault_of(python: str | None) -> str:
    """Why this is no interpreter of an environment with SDK 10.5; empty if it is one."""
    if python is None:
        return "--sdk10 names no Python"
    code = "from importlib.metadata import version; print(version('bittensor'))"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{python}: {error.strerror}"
    found = done.stdout.strip() or "none"
    return "" if found.startswith(SDK) else f"{python} has bittensor {found}, expected {SDK}*"


def main() -> None:
    """Print the table, or JSON."""
    options = argparse.ArgumentParser(
        prog="python -m benchmarks.transport",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--sdk10", help="the Python of an environment with bittensor 10.5")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--seconds", type=float, default=1.0, help="of a sample; by default 1")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    if fault := fault_of(given.sdk10):
        options.error(f"{fault}; this bench needs an environment with SDK 10.5 beside this one: {MAKE}")
    lines = compare(given.sdk10, rounds=given.rounds, seconds=given.seconds)
    if given.json:
        sys.stdout.write(json.dumps([asdict(line) for line in lines], indent=2) + "\n")
        return
    table = Table(title="500 kB of base64 each way, requests a second; medians", title_justify="left")
    for name in ("at once", "ours", "SDK 10.5", "ratio", "asked", "CPU ms, ours", "SDK 10.5", "its failures"):
        table.add_column(name, justify="right")
    for line in lines:
        table.add_row(
            str(line.at_once),
            f"{line.ours_per_s:.1f}",
            f"{line.theirs_per_s:.1f}",
            f"{line.ratio:.2f}",
            f"{line.asked:g}",
            f"{line.ours_cpu_ms:.1f}",
            f"{line.theirs_cpu_ms:.1f}",
            str(line.theirs_failed),
        )
    Console().print(table)


if __name__ == "__main__":
    main()
