"""`perturb manifest`: what this node holds, by one digest that any two operators can compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from perturbnet.commands.data import pins_option, profile_option
from perturbnet.commands.fingerprint import listing_option
from perturbnet.commands.given import read_settings
from perturbnet.display.bars import open_bar

if TYPE_CHECKING:
    from perturbnet.bootstrap.manifest import Manifest
    from perturbnet.bootstrap.records import Workplace


@click.group(invoke_without_command=True)
@profile_option
@click.option("--json", "as_json", is_flag=True, help="Print the manifest itself, as it is hashed.")
@click.pass_context
def manifest(context: click.Context, profile: str | None, as_json: bool) -> None:
    """Print what this node holds and its digest, the protocol fingerprint.

    Two nodes with the same digest have the same pixels, the same model and the same wire. It is written by
    `perturb bootstrap`; validator and miner compare with it before they start.
    """
    if context.invoked_subcommand is not None:
        return
    from perturbnet.bootstrap.manifest import read_manifest

    place = _workplace(profile)
    found = read_manifest(place.manifest)
    if as_json:
        click.echo(found.encode(), nl=False)
    else:
        print_manifest(found, place)


@manifest.command("check")
@profile_option
@click.option("--paranoid", is_flag=True, help="Hash every file and decode every row again.")
def check(profile: str | None, paranoid: bool) -> None:
    """Compare what is on this machine with the manifest, as validator and miner do when they start.

    Sizes, times and sampled rows; with --paranoid all bytes and all rows. Exit code 3 if anything differs.
    """
    from perturbnet.bootstrap.holdings import check_holdings, open_manifest

    place = _workplace(profile)
    found = open_manifest(place)
    with open_bar("decoding") as progress:
        said = check_holdings(place, found, paranoid=paranoid, progress=progress)
    click.echo(said)
    click.echo(f"protocol fingerprint {found.digest}")


@manifest.command("model")
@profile_option
@click.option("--out", type=click.Path(path_type=Path), help="Record to write  [default: the profile's]")
def model(profile: str | None, out: Path | None) -> None:
    """Verify the compiled model and the weights it came from, and record their digests."""
    from perturbnet.bootstrap.model import record_model
    from perturbnet.bootstrap.records import write_json

    place = _workplace(profile)
    record = record_model(place.profile, place.cache_dir)
    write_json(out or place.model, record.to_json())
    click.echo(f"{record.name}: artefact {record.artefact}, weights {record.weights}")


@manifest.command("build")
@profile_option
@pins_option
@listing_option
@click.option("--out", type=click.Path(path_type=Path), help="File to write  [default: the profile's]")
def build(profile: str | None, pins_file: Path | None, listing_file: Path | None, out: Path | None) -> None:
    """Write manifest.json from the records of fingerprint and model, and print its digest."""
    from perturbnet.bootstrap.holdings import assemble, require_pinned
    from perturbnet.runtime.artifacts import write_durably

    place = _workplace(profile)
    found = assemble(place, listing=listing_file or place.listing, pins=pins_file)
    require_pinned(found)
    target = out or place.manifest
    target.parent.mkdir(parents=True, exist_ok=True)
    write_durably(target, found.encode())
    print_manifest(found, place)


@manifest.command("page")
@profile_option
@pins_option
@click.option("--out", type=click.Path(path_type=Path), help="File to write  [default: the profile's]")
def page(profile: str | None, pins_file: Path | None, out: Path | None) -> None:
    """Write a page for people: digests, files, class histogram, sample pictures, timings."""
    from perturbnet.bootstrap.holdings import open_manifest
    from perturbnet.bootstrap.plan import BootstrapPlan
    from perturbnet.bootstrap.report import render_report
    from perturbnet.runtime.artifacts import write_durably

    place = _workplace(profile)
    plan = BootstrapPlan(place, pins_file)
    names = [*plan.data_files(), *plan.weight_files()]
    data = render_report(place, open_manifest(place), {name: place.fetched(name) for name in names})
    target = out or place.report
    target.parent.mkdir(parents=True, exist_ok=True)
    write_durably(target, data)
    click.echo(str(target))


def print_manifest(found: Manifest, place: Workplace) -> None:
    """Print a manifest for people: what, where, and last the digest to compare."""
    data, model = found.dataset, found.model
    rows = {
        "profile": f"{found.profile}, wire version {found.protocol}",
        "data set": f"{data.repository} at {data.revision}, {data.split}",
        "rows": f"{data.rows} in {len(data.parts)} files, {len(data.undecodable)} undecodable",
        "pixels": data.root,
        "model": model.name,
        "artefact": model.artefact,
        "weights": model.weights,
        "manifest": str(place.manifest),
    }
    for name, text in rows.items():
        click.echo(f"{name:<12} {text}")
    for row in data.undecodable[:20]:
        click.echo(f"undecodable  row {row.row}, stored bytes {row.stored_sha256}")
    click.echo(f"protocol fingerprint  {found.digest}")


def manifest_schema() -> str:
    """Return the JSON schema of a manifest: sorted, indented, a newline at the end."""
    from perturbnet.bootstrap.manifest import Manifest

    return json.dumps(Manifest.model_json_schema(), indent=2, sort_keys=True) + "\n"


def _workplace(profile: str | None) -> Workplace:
    from perturbnet.bootstrap.records import Workplace

    settings = read_settings(PERTURB_PROFILE=profile)
    return Workplace(settings.cache_dir, settings.profile)
