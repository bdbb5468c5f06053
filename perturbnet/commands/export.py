"""`perturb export`: a log's adversarial examples as a data set, whole or in parts, and checked again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from perturbnet.auditing.opening import open_means
from perturbnet.commands.given import audit_settings, read_share
from perturbnet.display.bars import open_bars

if TYPE_CHECKING:
    from perturbnet.adversarial_dataset.exporting import Asked
    from perturbnet.adversarial_dataset.manifest import DatasetManifest
    from perturbnet.adversarial_dataset.plan import ExportPlan
    from perturbnet.auditing.run import Means
    from perturbnet.datasets import ImageSource
    from perturbnet.transparency.notes import SigningKey, VerifierKey

F = TypeVar("F", bound=Callable[..., Any])
PROFILE = click.option("--profile", help="Data set and model at hand  [default: PERTURB_PROFILE]")
KEY = click.option(
    "--key",
    "key_file",
    type=click.Path(path_type=Path),
    help="The log's private key, log.key in PERTURB_STATE_DIR: signs the manifest.",
)
DONE = click.option("--done", type=click.Path(path_type=Path), help="Write this file when it is done.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")


def _wishes(command: F) -> F:
    """What a data set can be told to be; a later version of one takes them from the version before."""
    for option in (
        click.option(
            "--margins", is_flag=True, default=None, help="Label every image again; fills the margin."
        ),
        click.option(
            "--rebuild", is_flag=True, default=None, help="Rebuild every image and compare its digest."
        ),
        click.option("--shard-leaves", type=click.IntRange(1), help="Leaves a shard covers  [default: 8192]"),
        click.option(
            "--since", metavar="LEAF", type=click.IntRange(0), help="Begin at this leaf  [default: 0]"
        ),
        click.option(
            "--mode",
            type=click.Choice(["delta", "full"]),
            help="Perturbations, or pictures where the licence allows it  [default: delta]",
        ),
    ):
        command = option(command)
    return command


@click.group(no_args_is_help=True)
def export() -> None:
    """Make a data set of adversarial examples out of a validator's published log.

    \b
    perturb export dataset BUNDLE OUT                 perturbations; the pictures are the reader's own copy
    perturb export dataset BUNDLE OUT --mode full     with PNG pictures, for sources whose licence allows it
    perturb export verify OUT --bundle BUNDLE         is it what the log gives, and who signed it?

    OUT is a folder as the hub has them: Parquet shards, a data card (README.md), Croissant metadata, and a
    manifest that names each file by digest. Exporting again into OUT, when the log has grown, adds shards.
    In Python: perturbnet.load_adversarial(OUT, source="reference"). For clusters: snakemake export, or the
    parts of it: plan, part, finish.
    """


@export.command("dataset")
@click.argument("bundle")
@click.argument("out", type=click.Path(path_type=Path))
@_wishes
@KEY
@PROFILE
@JSON
def export_dataset(
    *,
    bundle: str,
    out: Path,
    key_file: Path | None,
    profile: str | None,
    as_json: bool,
    **wishes: Any,
) -> None:
    """Export a published log (a folder, or its address) into the folder OUT.

    Every leaf is checked up to the root, and the log's signature. An export that was interrupted goes on
    where it was. Exit code 3: the log or a picture is not what its digest says.
    """
    from perturbnet.adversarial_dataset.exporting import begin, finish, write_ranges
    from perturbnet.transparency.bundle import open_bundle

    with open_bundle(bundle) as opened, open_bars(quiet=as_json) as progress:
        plan = begin(opened, out, _asked(wishes), progress)
        key = _signing_key(key_file, plan)
        write_ranges(opened, out, plan, _means(plan, profile), progress=progress)
    _report(finish(out, plan, key), out, as_json=as_json)


@export.command("plan")
@click.argument("bundle")
@click.argument("out", type=click.Path(path_type=Path))
@_wishes
@DONE
def export_plan(*, bundle: str, out: Path, done: Path | None, **wishes: Any) -> None:
    """Fix what is exported: the log's size and root, and its ranges of leaves. Parts refer to it."""
    from perturbnet.adversarial_dataset.exporting import begin
    from perturbnet.transparency.bundle import open_bundle

    with open_bundle(bundle) as opened, open_bars() as progress:
        plan = begin(opened, out, _asked(wishes), progress)
    said = f"{plan.origin}: {plan.leaves:,} leaves, {len(plan.ranges):,} ranges to export, root {plan.root}"
    _mark(done, said)
    click.echo(said)


@export.command("part")
@click.argument("bundle")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--part", metavar="I/K", required=True, help="The I-th of K equal shares of the ranges.")
@DONE
@PROFILE
def export_part(*, bundle: str, out: Path, part: str, done: Path | None, profile: str | None) -> None:
    """Write one part of what `export plan` fixed; any machine that shares OUT can."""
    from perturbnet.adversarial_dataset.exporting import write_ranges
    from perturbnet.transparency.bundle import open_bundle

    share, plan = read_share(part), _planned(out)
    with open_bundle(bundle) as opened, open_bars() as progress:
        plan.check(opened)
        means = _means(plan, profile)
        shards = write_ranges(opened, out, plan, means, part=share, progress=progress)
    said = f"part {part}: {len(shards):,} shards, {sum(shard.rows for shard in shards):,} rows"
    _mark(done, said)
    click.echo(said)


@export.command("finish")
@click.argument("out", type=click.Path(path_type=Path))
@KEY
@JSON
def export_finish(*, out: Path, key_file: Path | None, as_json: bool) -> None:
    """Bind the parts: data card, Croissant, manifest, signature."""
    from perturbnet.adversarial_dataset.exporting import finish

    plan = _planned(out)
    key = _signing_key(key_file, plan)
    _report(finish(out, plan, key), out, as_json=as_json)


@export.command("verify")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--bundle", help="The published log: compare every row with it.")
@click.option("--key", "key_text", metavar="TEXT", help="The log's public key on paper: must have signed.")
@click.option("--rebuild", is_flag=True, help="Rebuild every image from the data set at hand.")
@PROFILE
def export_verify(
    *, out: Path, bundle: str | None, key_text: str | None, rebuild: bool, profile: str | None
) -> None:
    """Check an exported data set: digests, signature, every row against the log, every image.

    Says what it could not check. Exit code 1 or 3: something is not what it should be.
    """
    from contextlib import ExitStack

    from perturbnet.adversarial_dataset.checking import check_dataset
    from perturbnet.transparency.bundle import open_bundle
    from perturbnet.transparency.notes import parse_verifier_key

    with ExitStack() as stack:
        opened = stack.enter_context(open_bundle(bundle)) if bundle else None
        key: VerifierKey | None = parse_verifier_key(key_text) if key_text else None
        source: ImageSource | None = None
        if rebuild:
            source = open_means(audit_settings(profile, None), data=True, model=False)[0].source
        progress = stack.enter_context(open_bars())
        checked = check_dataset(out, key=key, bundle=opened, source=source, progress=progress)
    manifest = checked.manifest
    click.echo(f"{manifest.rows():,} examples of {manifest.origin}, version {manifest.leaves}")
    for line in checked.done:
        click.echo(f"  checked      {line}")
    for line in checked.left_open:
        click.echo(f"  not checked  {line}")


def _asked(wishes: dict[str, Any]) -> Asked:
    from perturbnet.adversarial_dataset.exporting import Asked
    from perturbnet.adversarial_dataset.layout import Mode

    mode = wishes["mode"]
    return Asked(
        None if mode is None else Mode(mode),
        wishes["since"],
        wishes["shard_leaves"],
        wishes["rebuild"],
        wishes["margins"],
    )


def _planned(out: Path) -> ExportPlan:
    from perturbnet.adversarial_dataset.plan import read_plan
    from perturbnet.errors import OutputError

    plan = read_plan(out)
    if plan is None:
        raise OutputError(f"no export was begun in {out}", hint=f"perturb export plan BUNDLE {out}")
    return plan


def _mark(path: Path | None, said: str) -> None:
    if path is not None:
        path.write_text(f"{said}\n", encoding="utf-8")


def _means(plan: ExportPlan, profile: str | None) -> Means:
    """What the plan needs of this machine; nothing for perturbations alone."""
    settings = audit_settings(profile, None)
    return open_means(settings, data=plan.rebuild, model=plan.margins)[0]


def _signing_key(path: Path | None, plan: ExportPlan) -> SigningKey | None:
    from perturbnet.transparency.log_key import require_log_key

    return None if path is None else require_log_key(path, plan.origin, plan.key)


def _report(manifest: DatasetManifest, out: Path, *, as_json: bool) -> None:
    if as_json:
        click.echo(manifest.encode().decode())
        return
    from perturbnet.adversarial_dataset.layout import Split
    from perturbnet.adversarial_dataset.manifest import read_signature

    signed = read_signature(out) is not None
    splits = ", ".join(f"{split} {manifest.rows(split):,}" for split in Split)
    size = sum(shard.bytes for shard in manifest.shards)
    counts = {name: f"{count:,}" for name, count in manifest.counts.items()}
    images = f"{counts['images']} images, {counts['broken']} of them broken"
    click.echo(f"Examples     {manifest.rows():,} ({splits})")
    click.echo(f"From         {counts['rounds']} rounds, {counts['attempts']} attempts on {images}")
    for name, count in sorted(manifest.left_out.items()):
        click.echo(f"Left out     {count:,} {name}")
    click.echo(f"Version      {manifest.leaves} (leaves of {manifest.origin})")
    click.echo(f"Written      {size:,} bytes in {len(manifest.shards)} shards, {out}")
    click.echo(f"Manifest     {manifest.digest()}, {'signed' if signed else 'not signed: --key signs it'}")
    source = "" if manifest.mode == "full" else ", source=…"
    click.echo(f"Next         perturbnet.load_adversarial({str(out)!r}{source})")
