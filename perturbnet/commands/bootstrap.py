"""`perturb bootstrap`: data, weights and fingerprints on this machine, complete and verified."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from perturbnet.commands.data import pins_option, profile_option
from perturbnet.commands.given import read_settings
from perturbnet.display.bars import open_bars

if TYPE_CHECKING:
    from rich.console import Console

    from perturbnet.bootstrap.progress import BootstrapStatus

TARGETS = ("bootstrap", "dataset", "weights", "model", "fingerprint")


@click.command()
@click.argument("targets", nargs=-1, type=click.Choice(TARGETS))
@profile_option
@pins_option
@click.option(
    "--cores", type=click.IntRange(1), help="Files fetched or decoded at once  [default: all cores]"
)
@click.option("--paranoid", is_flag=True, help="Hash every file again before it is taken for done.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
def bootstrap(
    *,
    targets: tuple[str, ...],
    profile: str | None,
    pins_file: Path | None,
    cores: int | None,
    paranoid: bool,
    dry_run: bool,
) -> None:
    """Prepare data, weights and model of a profile: fetched, verified, fingerprinted, under one digest.

    The same rules as `snakemake bootstrap`. Whatever is there already and right is left alone; what was
    interrupted goes on where it stopped; what is damaged is made anew. Ends with the protocol fingerprint.
    """
    from rich.console import Console

    from perturbnet.bootstrap.plan import is_complete, plan_from
    from perturbnet.bootstrap.running import command_of, run_workflow

    config = {"profile": profile, "pins": pins_file}
    plan = plan_from({name: str(value) for name, value in config.items() if value}, os.environ)
    chosen = targets or ("bootstrap",)
    if dry_run:
        command = command_of(plan, chosen, cores=cores, paranoid=paranoid)
        plan.place.folder.mkdir(parents=True, exist_ok=True)
        raise SystemExit(subprocess.run([*command, "--dry-run"], check=False).returncode)
    if "bootstrap" in chosen and not paranoid and is_complete(plan):
        click.echo(f"{plan.place.profile}: everything is there and verified; nothing to do")
    else:
        with showing_standing(Console(stderr=True)) as show:
            run_workflow(plan, chosen, show=show, cores=cores, paranoid=paranoid)
    if "bootstrap" in chosen:
        _print_end(plan.place.profile)


def _print_end(profile: str) -> None:
    from perturbnet.bootstrap.holdings import open_manifest
    from perturbnet.bootstrap.records import Workplace
    from perturbnet.commands.manifest import print_manifest

    place = Workplace(read_settings(PERTURB_PROFILE=profile).cache_dir, profile)
    print_manifest(open_manifest(place), place)
    click.echo(f"page for people       {place.report}")


@contextmanager
def showing_standing(console: Console) -> Iterator[Callable[[BootstrapStatus, str], None]]:
    """Show bytes and rows as bars, with rates, and the step under way; nothing where there is no terminal."""
    from perturbnet.hub.disk import readable_bytes

    with open_bars(console=console) as tell:

        def show(standing: BootstrapStatus, step: str) -> None:
            tell("fetched", standing.bytes_done, standing.bytes_total, unit=readable_bytes)
            tell("fingerprinted", standing.rows_done, standing.rows_total, step, "{:.0f} rows".format)

        yield show
