"""Measure the reference network: accuracy, FGSM at one level, ascending PGD, sizes, speed.

Everything goes through the public doors (`open_source`, `open_engine`, `FloatOracle`), on uint8 pixels of
native size.
FGSM: I. J. Goodfellow et al., 2015, arXiv:1412.6572, one dense sign step of one level on the cross-entropy.
PGD: A. Madry et al., 2018, arXiv:1706.06083, L-inf k levels for k = 1, 2, … 7, on the margin, from the clean
image.

    python recipes/reference/evaluate.py --cache DIR --json recipes/reference/figures.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from perturbnet.classifier import Float32Engine, open_engine
from perturbnet.classifier.oracle import FloatOracle
from perturbnet.datasets import open_source
from perturbnet.runtime.artifacts import write_durably

Batch = NDArray[np.uint8]
Labels = NDArray[np.int64]
PACKAGE = Path(__file__).parents[2] / "perturbnet"
MAX_LEVELS = 7  # floor(0.03 * 255)
PGD_STEPS = 20
BATCH = 48


def load_split(split: str, cache: Path, rows: int | None) -> tuple[Batch, Labels]:
    """Return pixels (N, H, W, 3) and labels (N,) of the first `rows` rows of a split, or of all."""
    source = open_source("reference", cache_dir=cache, split=split)
    images = [source.read(row) for row in range(rows or source.identity.rows)]
    return np.stack([image.pixels for image in images]), np.array([image.label_index for image in images])


def attack_once(engine: Float32Engine, batch: Batch, labels: Labels) -> Batch:
    """FGSM: one step of one level up the cross-entropy's gradient."""
    levels = torch.from_numpy(batch).float().requires_grad_()
    loss = torch.nn.functional.cross_entropy(
        engine.forward(levels), torch.from_numpy(labels), reduction="sum"
    )
    (gradient,) = torch.autograd.grad(loss, levels)
    return moved(batch, gradient.sign().numpy())


def attack_within(oracle: FloatOracle, batch: Batch, labels: Labels, levels: int) -> NDArray[np.bool_]:
    """PGD within `levels` of the clean images: which of them were made to change their label."""
    won = np.zeros(len(batch), dtype=bool)
    offset = np.zeros(batch.shape)
    for _ in range(PGD_STEPS):
        margins, gradient = oracle.margin_grad(moved(batch, np.rint(offset)), labels)
        won |= margins < 0
        offset = np.clip(offset - np.sign(gradient) * levels / 4, -levels, levels)
    won |= oracle.logits(moved(batch, np.rint(offset))).argmax(axis=1) != labels
    return won


def moved(batch: Batch, offset: NDArray[Any]) -> Batch:
    """Clean pixels plus an offset in whole levels, kept within 0 to 255."""
    adversarial: Batch = np.clip(batch + offset, 0, 255).astype(np.uint8)
    return adversarial


def least_levels(oracle: FloatOracle, batch: Batch, labels: Labels) -> list[int]:
    """For each image the smallest k at which PGD succeeds; 0 where none up to MAX_LEVELS does."""
    least = np.zeros(len(batch), dtype=int)
    for levels in range(1, MAX_LEVELS + 1):
        left = np.flatnonzero(least == 0)
        if not len(left):
            break
        won = attack_within(oracle, batch[left], labels[left], levels)
        least[left[won]] = levels
    return least.tolist()


def measure_split(engine: Float32Engine, batch: Batch, labels: Labels) -> dict[str, Any]:
    """Return the figures of one split.

    Rates in parts of one, of correctly labelled images except for accuracy.
    """
    right = np.array([answer.index for answer in engine.classify(list(batch))]) == labels
    kept, true = batch[right], labels[right]
    oracle = FloatOracle(engine)
    fgsm, least = 0, Counter[int]()
    for start in range(0, len(kept), BATCH):
        part, answers = kept[start : start + BATCH], true[start : start + BATCH]
        fgsm += int((engine.logits(attack_once(engine, part, answers)).argmax(axis=1) != answers).sum())
        least.update(least_levels(oracle, part, answers))
    return {
        "images": len(batch),
        "accuracy": round(float(right.mean()), 4),
        "fgsm_one_level_success": round(fgsm / len(kept), 4),
        "pgd_ascending_success": round(1 - least[0] / len(kept), 4),
        "pgd_least_levels": {str(levels): least[levels] for levels in sorted(least)},
        "dense_score_mean": round(sum(dense_score(k) * n for k, n in least.items()) / len(kept), 4),
    }


def dense_score(levels: int) -> float:
    """The score of a change of every value by `levels` (0.

    Failure), under the default settings with epsilon >= 0.03.
    """
    if levels == 0:
        return 0.0
    linf = levels / 255
    linf_ratio = min(max((linf - 0.003) / (0.03 - 0.003), 0), 1)
    return 0.7 * (1 - linf_ratio) ** 2 + 0.3 * (1 - min(linf / 0.03, 1)) ** 2


def measure_speed(engine: Float32Engine, image: Batch) -> float:
    """Milliseconds for one image on one thread, preprocessing included: the best of 20."""
    torch.set_num_threads(1)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        engine.classify([image])
        times.append(time.perf_counter() - start)
    return round(1000 * min(times), 1)


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="folder for the rendered data set")
    parser.add_argument(
        "--train-rows", type=int, default=480, help="rows of the train split to measure as well"
    )
    parser.add_argument("--test-rows", type=int, help="rows of the test split (default: all)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    engine = open_engine("reference", cache_dir=options.cache, device="cpu", kind="float32")
    pictures, labels = load_split("test", options.cache, options.test_rows)
    figures = {
        "model_digest": engine.model_digest,
        "parameters": sum(parameter.numel() for parameter in engine.network.parameters()),
        "weights_bytes": (PACKAGE / "data" / "reference.safetensors").stat().st_size,
        "shipped_bytes": sum(file.stat().st_size for file in (PACKAGE / "data").rglob("*") if file.is_file()),
        "ms_per_image_one_thread": measure_speed(engine, pictures[0]),
        "test": measure_split(engine, pictures, labels),
        "train": measure_split(engine, *load_split("train", options.cache, options.train_rows)),
    }
    text = json.dumps(figures, indent=2) + "\n"
    print(text, end="")
    if options.json:
        write_durably(options.json, text.encode())


if __name__ == "__main__":
    main()
