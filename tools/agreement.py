"""How far canonical logits are from float64's, and whether the labels agree.

    python tools/agreement.py reference|large --inputs N [--json FILE]

`reference` takes test pictures of the embedded data set, `large` the same pictures on EfficientNetV2-L at 480
(seeded weights, statistics of pictures: see benchmarks/inference.py). Errors and margins are relative to the
largest logit's magnitude. The bound on an input's error is the larger of BOUND and TIMES what float32 is
off by on that very input: a network with seeded weights has inputs on which any finite precision goes astray,
and float32 shows which. Where float64's margin exceeds twice the bound, canonical labels must be its own.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.inference import build_large, large_engine
from perturbnet.classifier import open_engine
from perturbnet.classifier.engine import prepare
from perturbnet.classifier.preprocessing import PRODUCTION, REFERENCE, Preprocessing
from perturbnet.datasets.reference import load_photographs
from perturbnet.datasets.rendering import render
from perturbnet.wire.images import Pixels

BOUND = 2e-4
TIMES = 20.0

Logits = Callable[[Pixels], NDArray[np.float64]]


def main() -> int:
    """Measure, print one line of JSON; 1 when a sure label differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("network", choices=("reference", "large"))
    parser.add_argument("--inputs", type=int, default=1000, help="how many pictures")
    parser.add_argument("--first", type=int, default=0, help="the first one's row")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    figures = measure(options.network, options.first, options.inputs)
    text = json.dumps(figures)
    sys.stdout.write(text + "\n")
    if options.json:
        options.json.write_text(text + "\n")
    return int(figures["sure_and_different"] > 0 or figures["beyond_bound"] > 0)


def measure(network: str, first: int, inputs: int) -> dict[str, Any]:
    """Errors relative to the largest logit's magnitude, counts of labels, and every input's row."""
    exact, plain, canonical = _open_reference() if network == "reference" else _open_large()
    rows = [_compare(exact(pixels), plain(pixels), canonical(pixels)) for pixels in _pictures(first, inputs)]
    sure = [row for row in rows if row["margin"] > 2 * row["bound"]]
    return {
        "network": network,
        "inputs": len(rows),
        "same_label": sum(row["same"] for row in rows),
        "sure": len(sure),
        "sure_and_different": sum(not row["same"] for row in sure),
        "median_error": statistics.median(row["error"] for row in rows),
        "largest_error": max(row["error"] for row in rows),
        "largest_float32_error": max(row["plain_error"] for row in rows),
        "float32_same_label": sum(row["plain_same"] for row in rows),
        "smallest_margin": min(row["margin"] for row in rows),
        "beyond_bound": sum(row["error"] > row["bound"] for row in rows),
        "rows": rows,
    }


def _compare(
    exact: NDArray[np.float64], plain: NDArray[np.float64], canonical: NDArray[np.float64]
) -> dict[str, float]:
    scale = float(np.abs(exact).max())
    top = np.sort(exact)[-2:]
    plain_error = float(np.abs(plain - exact).max()) / scale
    return {
        "margin": float(top[1] - top[0]) / scale,
        "error": float(np.abs(canonical - exact).max()) / scale,
        "plain_error": plain_error,
        "bound": max(BOUND, TIMES * plain_error),
        "same": int(canonical.argmax() == exact.argmax()),
        "plain_same": int(plain.argmax() == exact.argmax()),
    }


def _pictures(first: int, count: int) -> Iterator[Pixels]:
    photographs = load_photographs()
    for row in track(range(first, first + count), description="inputs", console=Console(stderr=True)):
        yield render("test", row, photographs)[0]


def _open_reference() -> tuple[Logits, Logits, Logits]:
    folder = Path(tempfile.gettempdir())
    network: torch.nn.Module = open_engine(
        "reference", cache_dir=folder, device="cpu", kind="float32"
    ).network
    canonical: Any = open_engine("reference", cache_dir=folder, device="cpu", kind="float64")
    return (
        _evaluate(network, REFERENCE, torch.float64),
        _evaluate(network, REFERENCE, torch.float32),
        canonical.logits,
    )


def _open_large() -> tuple[Logits, Logits, Logits]:
    network = build_large()
    return (
        _evaluate(network, PRODUCTION, torch.float64),
        _evaluate(network, PRODUCTION, torch.float32),
        large_engine().logits,
    )


def _evaluate(network: torch.nn.Module, numbers: Preprocessing, dtype: torch.dtype) -> Logits:
    """The network in ordinary arithmetic; preprocessing in float64 for both."""
    copied = copy.deepcopy(network).to(dtype)

    def logits(pixels: Pixels) -> NDArray[np.float64]:
        levels = prepare(torch.tensor(pixels[None]).double(), numbers).to(dtype)
        with torch.inference_mode():
            found: NDArray[np.float64] = copied(levels)[0].double().numpy()
        return found

    return logits


if __name__ == "__main__":
    sys.exit(main())
