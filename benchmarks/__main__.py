"""`python -m benchmarks [NAME ...] [--rounds N] [--json FILE]`: run benches, print one table."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

import benchmarks
from benchmarks.harness import Measurement, as_json, measure


def main() -> int:
    """Run what was asked for, in the order of names."""
    names = sorted(
        found.name for found in pkgutil.iter_modules(benchmarks.__path__) if found.name not in _NOT_BENCHES
    )
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(names)} (default: all)")
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds per case")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements there too")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(names)):
        parser.error(f"no bench named {', '.join(unknown)}; there are {', '.join(names)}")
    measurements = [
        measure(name, case, rounds=options.rounds)
        for name in options.names or names
        for case in importlib.import_module(f"benchmarks.{name}").cases()
    ]
    Console().print(_table(measurements))
    if options.json:
        options.json.write_text(as_json(measurements))
    return 0


# What others run with; `transport`, which needs an environment of its own; `gpu`: python -m benchmarks.NAME.
_TRANSPORT = ("transport", "transport_ours", "transport_sdk10")
_NOT_BENCHES = (
    "harness",
    "attack_large",
    "attack_peers",
    "float_peers",
    "gpu",
    "material",
    "__main__",
    *_TRANSPORT,
)


def _table(measurements: list[Measurement]) -> Table:
    table = Table(
        title="wall, CPU: ours / peer, median of interleaved rounds; MiB: peak, alone (of it the work)",
        title_justify="left",
    )
    for heading in ("case", "ours ms", "peer ms", "wall", "CPU", "ours MiB", "peer MiB"):
        table.add_column(heading, justify="left" if heading == "case" else "right")
    for row in measurements:
        table.add_row(
            f"{row.bench}: {row.case}, peer {row.peer_name}",
            f"{row.ours.wall_s * 1e3:.3f}",
            f"{row.peer.wall_s * 1e3:.3f}",
            f"{row.wall_ratio:.2f}",
            f"{row.cpu_ratio:.2f}",
            f"{row.ours.peak_mib:.0f} (+{row.ours.peak_growth_mib:.1f})",
            f"{row.peer.peak_mib:.0f} (+{row.peer.peak_growth_mib:.1f})",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
