"""`perturb smoke`: does this machine have what a neuron needs? What was found, and how long each took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from perturbnet.commands.given import read_settings, settings_options
from perturbnet.commands.printing import JSON_HELP, TO_STDOUT, write_json

if TYPE_CHECKING:
    from perturbnet.config import Settings

T = TypeVar("T")


@dataclass(frozen=True)
class SmokeStep:
    """One thing that worked."""

    name: str
    found: str
    seconds: float


@click.command()
@click.option("--profile", help="Data set and model: imagenet100 or reference  [default: PERTURB_PROFILE]")
@click.option("--row", default=0, show_default=True, type=click.IntRange(0), help="Row of the data set.")
@settings_options
@click.option("--json", "json_file", metavar="FILE", help=JSON_HELP)
def smoke(
    profile: str | None, row: int, pairs: tuple[str, ...], file: Path | None, json_file: str | None
) -> None:
    """Load an image, label it, build a challenge; say for each what was found and how long it took."""
    settings = read_settings(pairs, file, PERTURB_PROFILE=profile)
    rows = []
    for step in take_steps(settings, row=row):
        if json_file != TO_STDOUT:
            click.echo(f"{step.name:<10} {step.found}  ({step.seconds:.2f} s)")
        rows.append({"step": step.name, "found": step.found, "seconds": round(step.seconds, 4)})
    write_json(rows, json_file)


def take_steps(settings: Settings, *, row: int = 0) -> Iterator[SmokeStep]:
    """Yield each step as it is done; the first that cannot be done raises its own error."""
    from perturbnet.classifier import open_engine
    from perturbnet.datasets import open_source
    from perturbnet.rounds.challenges import build_challenge
    from perturbnet.rules.from_settings import build_rules
    from perturbnet.rules.traversal import Draw

    cache_dir: Path = settings.cache_dir
    source, seconds = _timed(lambda: open_source(settings.profile, cache_dir=cache_dir))
    identity = source.identity
    yield SmokeStep(
        "data set", f"{identity.repository} at {identity.revision[:12]}, {identity.rows} rows", seconds
    )
    image, seconds = _timed(lambda: source.read(row))
    height, width, _ = image.pixels.shape
    yield SmokeStep("image", f"row {row}, {width}×{height}, {image.label!r} to the data set", seconds)
    engine, seconds = _timed(
        lambda: open_engine(
            settings.profile, cache_dir=cache_dir, device=settings.device, kind=settings.engine
        )
    )
    yield SmokeStep(
        "model", f"{engine.model_name} ({engine.name}), digest {engine.model_digest[:16]}", seconds
    )
    label, seconds = _timed(lambda: engine.classify([image.pixels])[0])
    yield SmokeStep(
        "label", f"{label.text!r}, margin {label.margin:.3f}, logits {label.logits_digest[:16]}", seconds
    )
    challenge, seconds = _timed(
        lambda: build_challenge(
            image,
            draw=Draw(0, 0, row),
            engine=engine,
            netuid=settings.netuid,
            block=0,
            attempt=0,
            freshness_seed=bytes(32) if settings.challenge_augment else None,
            rules=build_rules(settings),
        )
    )
    height, width, _ = challenge.clean.shape
    yield SmokeStep(
        "challenge", f"{width}×{height}, {challenge.label.text!r}, epsilon {challenge.epsilon}", seconds
    )


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    started_s = time.perf_counter()
    found = work()
    return found, time.perf_counter() - started_s
