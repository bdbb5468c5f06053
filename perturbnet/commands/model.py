"""`perturb model`: compile a model into its artefact, look into one, label pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perturbnet.commands.given import PROFILES, read_settings
from perturbnet.commands.printing import JSON_HELP, print_facts, print_table, write_json
from perturbnet.wire.digests import sha256_hex

if TYPE_CHECKING:
    from perturbnet.classifier.canonical.artefact import Artefact


@click.group()
def model() -> None:
    """Models: compile one into integers, show one, label pictures with it."""


@model.command("compile")
@click.option(
    "--profile", required=True, type=click.Choice((*PROFILES, "torchvision")), help="Which network."
)
@click.option(
    "--weights", type=click.Path(path_type=Path), help="File of float weights  [default: the pinned ones]"
)
@click.option("--out", type=click.Path(path_type=Path), help="Artefact to write  [default: the cache]")
@click.option("--json", "json_file", metavar="FILE", help=JSON_HELP)
def compile_(profile: str, weights: Path | None, out: Path | None, json_file: str | None) -> None:
    """Turn float weights into one file of integers, the same file on every machine.

    A layer whose sums cannot be proven exact is refused. The file's SHA-256 is the model's name. A note
    beside the file says it again, with the logits of three golden images.
    """
    from perturbnet.classifier.canonical.profiles import cached_path, compile_profile, store_artefact

    settings = read_settings()
    artefact = compile_profile(profile, cache_dir=settings.cache_dir, weights=weights)
    path = out or cached_path(profile, settings.cache_dir)
    pin = store_artefact(artefact, path)
    facts = {
        "name": artefact.name,
        "file": str(path),
        "bytes": str(path.stat().st_size),
        "sha256": pin.sha256,
        "golden logits": list(pin.golden),
    }
    if json_file != "-":
        print_facts({**facts, "golden logits": " ".join(digest[:16] for digest in pin.golden)})
    write_json(facts, json_file)


@model.command("show")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--profile", type=click.Choice(PROFILES), help="Model  [default: PERTURB_PROFILE]")
@click.option("--json", "json_file", metavar="FILE", help=JSON_HELP)
def show(file: Path | None, profile: str | None, json_file: str | None) -> None:
    """Print a model's layers with what was proven of them: worst-case bits of a sum, exponents, caps."""
    from perturbnet.classifier.canonical.artefact import read_artefact
    from perturbnet.classifier.canonical.obligations import budgets, prove_artefact
    from perturbnet.classifier.canonical.profiles import find_artefact

    if file is not None:
        artefact, digest = read_artefact(file)
    else:
        settings = read_settings(PERTURB_PROFILE=profile)
        artefact, pin = find_artefact(settings.profile, settings.cache_dir)
        digest = pin.sha256
    prove_artefact(artefact)
    rows = [
        {
            "layer": str(budget.layer),
            "kind": budget.kind,
            "shape": "×".join(map(str, budget.shape)),
            "bits": f"{budget.sum_bits:.3f}",
            "exponents": f"{budget.least_exponent} to {budget.most_exponent}",
            "cap": None if budget.cap is None else str(budget.cap),
        }
        for budget in budgets(artefact)
    ]
    facts = _facts(artefact, digest)
    if json_file != "-":
        print_table(rows, ("layer", "kind", "shape", "bits", "exponents", "cap"))
        click.echo()
        print_facts(facts)
    write_json({**facts, "layers": rows}, json_file)


@model.command("label")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--profile", type=click.Choice(PROFILES), help="Model  [default: PERTURB_PROFILE]")
@click.option(
    "--engine",
    "kind",
    default="float64",
    show_default=True,
    type=click.Choice(("float64", "integer", "float32", "float64-plain")),
    help="float64 and integer give the same bits everywhere; the others do not.",
)
@click.option(
    "--model", "file", type=click.Path(path_type=Path), help="Artefact to use instead of the profile's."
)
@click.option("--json", "json_file", metavar="FILE", help=JSON_HELP)
def label(
    images: tuple[Path, ...], profile: str | None, kind: str, file: Path | None, json_file: str | None
) -> None:
    """Classify pictures: class, digest of the logits, margin."""
    from perturbnet.classifier import open_engine
    from perturbnet.datasets.user_images import decode_any_image

    pixels = [decode_any_image(path) for path in images]
    settings = read_settings(PERTURB_PROFILE=profile)
    if file is None:
        engine = open_engine(
            settings.profile, cache_dir=settings.cache_dir, device=settings.device, kind=kind
        )
    else:
        engine = _open_file(file, settings.device, kind)
    rows = []
    for path, picture in zip(images, pixels, strict=True):
        answer = engine.classify([picture])[0]
        rows.append(
            {
                "image": str(path),
                "class": answer.text,
                "index": str(answer.index),
                "margin": f"{answer.margin:.6f}",
                "logits": answer.logits_digest,
                "healthy": "yes" if answer.healthy else "no",
            }
        )
    if json_file != "-":
        print_table(rows, ("image", "class", "index", "margin", "logits"))
        click.echo(f"\n{engine.model_name}, engine {engine.name}, model {engine.model_digest}")
    facts = {"model": engine.model_name, "model_digest": engine.model_digest, "engine": engine.name}
    write_json({**facts, "images": rows}, json_file)


def _open_file(file: Path, device: str, kind: str) -> Any:
    from perturbnet.classifier.canonical.artefact import read_artefact
    from perturbnet.classifier.canonical.profiles import build_engine

    if kind not in {"float64", "integer"}:
        raise click.UsageError(f"--model is for the engines float64 and integer, not {kind}")
    artefact, digest = read_artefact(file)
    return build_engine(artefact, digest, device=device, integer=kind == "integer")


def _facts(artefact: Artefact, digest: str) -> dict[str, str]:
    """What a model is, in a few lines."""
    weights = sum(layer.weights.size for layer in artefact.layers)
    return {
        "name": artefact.name,
        "sha256": digest,
        "input": f"{artefact.size}×{artefact.size}, {artefact.coefficient_bits}-bit coefficients",
        "labels": str(len(artefact.labels)),
        "steps": f"{len(artefact.steps)}, {len(artefact.layers)} layers, {weights} weights",
        "SiLU table": sha256_hex(artefact.silu.tobytes()),
        "sigmoid table": sha256_hex(artefact.sigmoid.tobytes()),
    }
