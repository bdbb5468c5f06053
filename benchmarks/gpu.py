"""EfficientNetV2-L at 480 on a GPU: the exact engine by images in a pass, and a miner's passes.

    python -m benchmarks.gpu [--device cuda] [--rounds 5]

Seeded weights (`benchmarks.inference`); the bits are compared with those of the CPU first. The peer is the
same machine's CPU, compiled loops, all of torch's threads. Without a GPU: `--device cpu` shows the table's
form.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.inference import large_engine, photographs, stored_model
from perturbnet.classifier.canonical.artefact import read_artefact
from perturbnet.classifier.canonical.engine import CanonicalEngine
from perturbnet.classifier.canonical.gradient import GradientNetwork
from perturbnet.classifier.oracle import FloatOracle

Work = tuple[str, Callable[[], object]]

IMAGES = 16
TOGETHER = (1, 4, 16)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.device != "cpu" and not torch.cuda.is_available():
        parser.error(f"torch sees no GPU, so not {options.device}; --device cpu shows the table's form")
    table = Table("what", "ms an image, median", "images/s", "peak GiB", title=_name(options.device))
    for what, work in chain(_exact(options.device), _search(options.device)):
        seconds, gib = _measure(work, options.device, options.rounds)
        memory = "–" if gib is None else f"{gib:.2f}"
        table.add_row(what, f"{1e3 * seconds / IMAGES:.1f}", f"{IMAGES / seconds:.1f}", memory)
    Console().print(table)
    return 0


def _exact(device: str) -> Iterator[Work]:
    photos = photographs()
    images = [photos[number % len(photos)] for number in range(IMAGES)]
    cpu = large_engine()
    expected = cpu.classify(photos)
    yield "the CPU, compiled loops", lambda: cpu.classify(images)
    engine = CanonicalEngine(*read_artefact(stored_model()), device=device, compiled=False)
    for together in TOGETHER:
        engine.together = together
        if engine.classify(photos) != expected:
            raise SystemExit(f"{device}, {together} together: other bits than the CPU's")
        yield f"exact, {together} in a pass: the CPU's bits", lambda: engine.classify(images)


def _search(device: str) -> Iterator[Work]:
    oracle = FloatOracle(GradientNetwork(read_artefact(stored_model())[0], device=device))
    batch, labels = np.stack(photographs()[:1] * IMAGES), np.zeros(IMAGES, np.int64)
    precision = "bfloat16" if oracle.bfloat16 else "float32"
    yield f"search, forward, {precision}", lambda: oracle.logits(batch)
    yield f"search, forward and back, {precision}", lambda: oracle.margin_grad(batch, labels)


def _measure(work: Callable[[], object], device: str, rounds: int) -> tuple[float, float | None]:
    """Median seconds, and a GPU's peak memory in GiB."""
    gpu = device != "cpu"
    if gpu:
        torch.cuda.reset_peak_memory_stats(device)
    work()
    took_s = []
    for _ in range(rounds):
        started_s = time.perf_counter()
        work()  # ends with numbers on the host
        took_s.append(time.perf_counter() - started_s)
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if gpu else None
    return statistics.median(took_s), peak


def _name(device: str) -> str:
    return "this CPU" if device == "cpu" else torch.cuda.get_device_name(device)


if __name__ == "__main__":
    sys.exit(main())
