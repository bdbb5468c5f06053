"""`perturb fingerprint`: the pixels of a data set as one digest, file by file."""

from __future__ import annotations

from pathlib import Path

import click

from perturbnet.commands.data import data, list_option, pins_option, profile_option
from perturbnet.commands.given import read_settings
from perturbnet.display.bars import open_bar

listing_option = list_option("the one of the last bootstrap")


@click.group()
def fingerprint() -> None:
    """Fingerprints: the pixels of every row under one Merkle root.

    `snakemake bootstrap` and `perturb bootstrap` run `part` for every file, in parallel, then `merge`.
    """


@fingerprint.command("part")
@profile_option
@pins_option
@listing_option
@click.option("--file", "name", required=True, metavar="NAME", help="File of the data set, as listed.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Record to write  [default: where `merge` looks]"
)
def part(
    profile: str | None, pins_file: Path | None, listing_file: Path | None, name: str, out: Path | None
) -> None:
    """Decode every row of one file and write its leaves and root.

    The file is hashed first and compared with the hub's digest and the pins, so damage is named, not
    fingerprinted. A row that does not decode is listed and has a leaf of its own kind.
    """
    from perturbnet.bootstrap.fingerprint import fingerprint_file
    from perturbnet.bootstrap.progress import telling_rows
    from perturbnet.bootstrap.records import Workplace, write_part
    from perturbnet.bootstrap.stock import take_stock

    settings = read_settings(PERTURB_PROFILE=profile)
    place = Workplace(settings.cache_dir, settings.profile)
    stock = take_stock(
        settings.profile, settings.cache_dir, listing=listing_file or place.listing, pins=pins_file
    )
    file = stock.witness(name)
    record = out or place.part(name)
    beside = telling_rows(record)
    with open_bar(name) as bar:

        def progress(done: int, total: int) -> None:
            bar(done, total)
            beside(done, total)

        found = fingerprint_file(Path(file.path), name, progress)
    write_part(record, found, file)
    for item in found.undecodable:
        click.echo(f"{name}: row {item.row} does not decode: {item.reason}", err=True)
    click.echo(f"{name}: {found.rows} rows in {found.seconds:.1f} s, root {found.root}")


@fingerprint.command("merge")
@profile_option
@click.argument(
    "records", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--out", type=click.Path(path_type=Path), help="Record to write  [default: the profile's]")
def merge(profile: str | None, records: tuple[Path, ...], out: Path | None) -> None:
    """Join parts, in any order, into the fingerprint of the whole data set."""
    from perturbnet.bootstrap import fingerprint as tree
    from perturbnet.bootstrap.records import Workplace, read_part, write_fingerprint

    settings = read_settings(PERTURB_PROFILE=profile)
    read = [read_part(record) for record in records]
    found = tree.merge([part for part, _ in read])
    files = {part.name: file for part, file in read}
    place = Workplace(settings.cache_dir, settings.profile)
    write_fingerprint(out or place.fingerprint, found, [files[part.name] for part in found.parts])
    undecodable = len(found.undecodable)
    click.echo(f"{found.rows} rows, {undecodable} undecodable, {len(found.parts)} files, root {found.root}")


@data.command("render")
@profile_option
@click.option(
    "--report", "report_file", type=click.Path(path_type=Path), help="JSON file: path, digest, size."
)
def render(profile: str | None, report_file: Path | None) -> None:
    """Render the reference pictures into the cache; only the reference profile has such.

    Pictures that are there already are checked. Damaged ones go to quarantine and are rendered anew.
    """
    from perturbnet.bootstrap.records import write_json
    from perturbnet.bootstrap.rendering import prepare_reference
    from perturbnet.bootstrap.witness import witness_file

    settings = read_settings(PERTURB_PROFILE=profile)
    if settings.profile != "reference":
        raise click.UsageError(f"the pictures of {settings.profile} are fetched: `perturb data fetch`")
    with open_bar("rendering") as progress:
        path, moved = prepare_reference(settings.cache_dir, progress)
    if moved is not None:
        click.echo(f"{path.name} was damaged; it is now {moved}", err=True)
    file = witness_file(path)
    if report_file is not None:
        write_json(
            report_file, {"path": path.name, "file": file.path, "sha256": file.sha256, "size": file.size}
        )
    click.echo(f"{path}: {file.size} bytes, its pixels as pinned")
