"""Train on an exported data set of adversarial examples, and measure what it is worth: robust accuracy.

    perturb export dataset BUNDLE EXPORT
    python examples/adversarial_training.py EXPORT --on validation     choose recipe and level here
    python examples/adversarial_training.py EXPORT                     and measure once, on held-apart images

The network of the reference profile is fine-tuned, once for each seed, on clean images and on adversarial
ones with their true labels. Then it is attacked afresh, by attacks that search on its own gradients: old
examples say little about a new network. The figures pair: the same test images before and after.

What a training of your own would copy is `load_pairs` and `fine_tune`.

Source: I. J. Goodfellow et al. 2015, arXiv:1412.6572 (adversarial examples as training data); A. Madry et al.
2018, arXiv:1706.06083 (why attacks are made anew for the network that is measured). docs/training.md says
what was measured, and what it does not show.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import safe_open
from safetensors.torch import save
from torch.nn.functional import cross_entropy

import perturbnet
from perturbnet.attack_comparison.gains import LEVELS, compare, draw_table
from perturbnet.attack_comparison.robust_accuracy import Examination, RobustAccuracy, examine
from perturbnet.classifier import open_engine
from perturbnet.classifier.architecture import REFERENCE_NAME
from perturbnet.classifier.engine import prepare
from perturbnet.classifier.labels import REFERENCE_LABELS
from perturbnet.classifier.preprocessing import REFERENCE
from perturbnet.classifier.weights import reference_weights
from perturbnet.config import Settings, load_settings
from perturbnet.datasets import open_source
from perturbnet.errors import PerturbError
from perturbnet.runtime.artifacts import sha256_file, write_durably
from perturbnet.wire.images import Pixels

WARM_UP = 0.2  # share of the steps
SHORTEST_SCHEDULE = 10  # steps; a shorter one has no warm-up to speak of, and torch divides by it


@dataclass(frozen=True)
class Recipe:
    """Every number of the fine-tuning.

    `strength`: an example's change is multiplied by a number drawn evenly from 1 to this. The examples lie
    just behind the old network's boundary; a little further they still teach when that boundary has moved.
    1 takes them as they are; 0 leaves them out and trains on the clean images alone, as a control. `weight`
    is an adversarial image's in the loss, a clean one's being 1: less keeps more of the clean accuracy.
    """

    epochs: int = 10
    rate: float = 1e-3
    strength: float = 4.0
    weight: float = 0.5
    batch: int = 32  # pairs


@dataclass(frozen=True)
class Pairs:
    """The network's inputs, float32 (N, 3, S, S), clean and adversarial, true classes (N,), source rows."""

    clean: torch.Tensor
    adversarial: torch.Tensor
    labels: torch.Tensor
    rows: tuple[int, ...]


def load_pairs(export: Path, cache_dir: Path, split: str, most: int | None = None) -> Pairs:
    """Load a split of an export. The class is the picture's true one: the network may have erred before."""
    examples = perturbnet.load_adversarial(export, source="reference", split=split, cache_dir=cache_dir)
    kept = range(len(examples) if most is None else min(most, len(examples)))
    pixels = [examples[number] for number in kept]
    columns = [examples.row(number) for number in kept]
    return Pairs(
        torch.cat([_to_input(clean) for clean, _, _ in pixels]),
        torch.cat([_to_input(adversarial) for _, adversarial, _ in pixels]),
        torch.tensor([REFERENCE_LABELS.index(row["source_label"]) for row in columns]),
        tuple(int(row["row"]) for row in columns),
    )


def fine_tune(network: torch.nn.Module, pairs: Pairs, recipe: Recipe, seed: int, bar: Any) -> None:
    """Fine-tune in place. Batch norm keeps its statistics: half of what passes here is no natural image."""
    draws = torch.Generator().manual_seed(seed)
    network.eval().requires_grad_(requires_grad=True)
    batches = max(1, len(pairs.labels) // recipe.batch)
    steps = max(recipe.epochs * batches + 1, SHORTEST_SCHEDULE)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.rate, total_steps=steps, pct_start=WARM_UP
    )
    for _ in range(recipe.epochs):
        order = torch.randperm(len(pairs.labels), generator=draws)
        for chosen in order.tensor_split(batches):
            inputs, labels, weights = _mix(pairs, chosen, recipe, draws)
            loss = (cross_entropy(network(inputs), labels, reduction="none") * weights).sum() / weights.sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            bar()
    network.requires_grad_(requires_grad=False)


def _mix(
    pairs: Pairs, chosen: torch.Tensor, recipe: Recipe, draws: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A batch: the clean images, then the adversarial ones moved alike; labels; weights in the loss."""
    inputs, labels, weights = pairs.clean[chosen], pairs.labels[chosen], torch.ones(len(chosen))
    if recipe.strength:
        change = pairs.adversarial[chosen] - inputs
        factors = 1 + (recipe.strength - 1) * torch.rand(len(chosen), 1, 1, 1, generator=draws)
        inputs = torch.cat([inputs, inputs + factors * change])
        labels, weights = labels.repeat(2), torch.cat([weights, recipe.weight * weights])
    flips = [axis for axis in (2, 3) if torch.rand(1, generator=draws) < 0.5]
    channels = torch.randperm(3, generator=draws)  # the reference recipe does so too: colour is no class here
    return inputs.flip(flips)[:, channels], labels, weights


def _to_input(pixels: Pixels) -> torch.Tensor:
    return prepare(torch.tensor(pixels)[None].float(), REFERENCE)


def train_seeds(
    options: argparse.Namespace, recipe: Recipe, settings: Settings, bars: Progress
) -> list[Path]:
    """Fine-tune once for each seed; a file that holds the same recipe and data is taken as it is."""
    pairs = load_pairs(options.export, settings.cache_dir, "train", options.pairs)
    facts = {**asdict(recipe), "pairs": len(pairs.labels), "manifest": sha256_file(_manifest(options.export))}
    files = []
    for seed in options.seeds:
        file = options.out / f"seed-{seed}.safetensors"
        metadata = {"architecture": REFERENCE_NAME, "recipe": json.dumps({**facts, "seed": seed})}
        files.append(file)
        if _holds(file, metadata):
            continue
        steps = recipe.epochs * max(1, len(pairs.labels) // recipe.batch)
        task = bars.add_task(f"training, seed {seed}", total=steps)
        engine = open_engine("reference", cache_dir=settings.cache_dir, device="cpu", kind="float32")
        fine_tune(engine.network, pairs, recipe, seed, lambda task=task: bars.advance(task))
        state = {name: tensor.contiguous() for name, tensor in engine.network.state_dict().items()}
        write_durably(file, save(state, metadata=metadata))
    return files


def _holds(file: Path, metadata: dict[str, str]) -> bool:
    if not file.exists():
        return False
    with safe_open(file, framework="pt") as found:
        return bool(found.metadata() == metadata)


def _manifest(export: Path) -> Path:
    return export / "manifest.json"


def examination(options: argparse.Namespace, settings: Settings) -> Examination:
    """Which images, and how they are attacked: held-apart ones, or the export's validation images."""
    how: dict[str, Any] = {"budget_s": options.budget, "thorough": options.thorough}
    if options.on == "test":
        rows = range(open_source("reference", cache_dir=settings.cache_dir, split="test").identity.rows)
        return Examination("test", tuple(rows)[: options.images], **how)
    pairs = load_pairs(options.export, settings.cache_dir, "validation")
    return Examination("train", tuple(sorted(set(pairs.rows)))[: options.images], **how)


def measure(
    weights: Path, plan: Examination, options: argparse.Namespace, settings: Settings, bars: Progress
) -> list[RobustAccuracy]:
    """Attack one network; the bar shows images."""
    task = bars.add_task(f"attacking {weights.stem}", total=len(plan.rows))

    def show(done: int, _all: int) -> None:
        bars.update(task, completed=done)

    name = f"{weights.stem}-{options.on}{'-thorough' * options.thorough}.jsonl"
    return examine(weights, plan, settings, record=options.out / name, jobs=options.jobs, progress=show)


def mean_score(standings: Sequence[RobustAccuracy]) -> float:
    """What the best answers would earn, on average over all images; 0 for one the network gets wrong."""
    return round(sum(standing.score_ppb for standing in standings) / len(standings) / 10**9, 4)


def run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Load, train, attack before and after, and say it."""
    settings = load_settings(os.environ, overrides={"PERTURB_PROFILE": "reference"}).settings
    recipe = Recipe(options.epochs, options.rate, options.strength, options.weight, options.batch)
    options.out.mkdir(parents=True, exist_ok=True)
    plan, untrained = examination(options, settings), reference_weights()[0]
    columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=not console.is_terminal) as bars:
        trained = train_seeds(options, recipe, settings, bars)
        before = measure(untrained, plan, options, settings, bars)
        after = {file.stem: measure(file, plan, options, settings, bars) for file in trained}
    gains = compare(before, after)
    title = f"Robust accuracy, {len(plan.rows)} {options.on} images, {len(trained)} trainings"
    console.print(draw_table(gains, options.level, title))
    scores = {name: mean_score(one) for name, one in [(untrained.stem, before), *after.items()]}
    if plan.thorough:
        console.print("A miner would earn " + ", ".join(f"{name} {score}" for name, score in scores.items()))
    return {
        "recipe": asdict(recipe),
        "export": {"manifest": sha256_file(_manifest(options.export)), "pairs": options.pairs or "all"},
        "examination": {**asdict(plan), "rows": len(plan.rows), "first": plan.rows[0], "last": plan.rows[-1]},
        "headline_level": options.level,
        "weights": {file.stem: sha256_file(file) for file in [untrained, *trained]},
        "levels": [gain.to_json() for gain in gains],
        **({"mean_score": scores} if plan.thorough else {}),
    }


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Recipe()
    add = parser.add_argument
    add("export", type=Path, help="folder that `perturb export dataset` has written")
    add("--on", choices=("test", "validation"), default="test", help="images that are attacked")
    add("--level", type=int, default=1, choices=LEVELS, help="the headline's L-inf levels, chosen beforehand")
    add("--images", type=int, help="how many of them (default: all)")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one training for each")
    add("--pairs", type=int, help="examples to train on (default: all of the export's train split)")
    add("--epochs", type=int, default=default.epochs)
    add("--rate", type=float, default=default.rate, help="highest learning rate")
    add(
        "--strength",
        type=float,
        default=default.strength,
        help="most that changes are multiplied by; 0: none",
    )
    add("--weight", type=float, default=default.weight, help="of an adversarial image in the loss (clean: 1)")
    add("--batch", type=int, default=default.batch, help="pairs in a step")
    add("--budget", type=float, default=1.0, metavar="S", help="virtual seconds of an attack on an image")
    add("--thorough", action="store_true", help="let every attack use its budget: what miners would earn")
    add("--jobs", type=int, default=1, help="processes that attack")
    add(
        "--out",
        type=Path,
        default=Path("adversarial-training"),
        help="weights and standings; a rerun goes on",
    )
    add("--json", type=Path, help="also write the figures here")
    return parser.parse_args(arguments)


def main() -> None:
    """Run from the command line."""
    options, console = read_options(), Console(stderr=False)
    torch.set_num_threads(1)
    try:
        figures = run(options, console)
    except PerturbError as error:
        print(error.diagnostics(), file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    if options.json:
        write_durably(options.json, (json.dumps(figures, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
