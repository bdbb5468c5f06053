"""`perturb data`: what a profile wants from the hub, one file of it fetched, all of it hashed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from perturbnet.commands.given import PROFILES, read_settings
from perturbnet.display.bars import open_bar

if TYPE_CHECKING:
    from perturbnet.bootstrap.profile import Listing
    from perturbnet.config import Settings
    from perturbnet.hub.fetching import Progress

FC = TypeVar("FC", bound=Callable[..., Any] | click.Command)
profile_option = click.option("--profile", type=click.Choice(PROFILES), help="[default: PERTURB_PROFILE]")
pins_option = click.option(
    "--pins", "pins_file", type=click.Path(path_type=Path), help="Pins file  [default: the package's own]"
)


def list_option(default: str) -> Callable[[FC], FC]:
    """`--list FILE`; `default` says what is read without it."""
    written = f"List written by `perturb data list`  [default: {default}]"
    return click.option("--list", "listing_file", type=click.Path(path_type=Path), help=written)


listing_option = list_option("ask the hub")


@click.group()
def data() -> None:
    """Data and weights from the hub: list, fetch, verify.

    `snakemake bootstrap` and `perturb bootstrap` run these for every file, in parallel. HF_ENDPOINT names
    another hub, HF_TOKEN is sent to the hub if set.
    """


@data.command("list")
@profile_option
@pins_option
@click.option("--out", required=True, type=click.Path(path_type=Path), help="JSON file to write.")
def list_(profile: str | None, pins_file: Path | None, out: Path) -> None:
    """Ask the hub what the pinned revisions hold: files, sizes, digests; compare them with the pins.

    Ends with an error if there is no room for what is not in the cache yet.
    """
    from perturbnet.bootstrap.profile import bytes_to_fetch, write_listing
    from perturbnet.hub.disk import readable_bytes, require_space
    from perturbnet.runtime.artifacts import write_durably

    settings = read_settings(PERTURB_PROFILE=profile)
    listing = open_listing(settings, pins_file, None)
    needed = bytes_to_fetch(listing, settings.cache_dir / "hub")
    require_space(settings.cache_dir, needed, f"profile {settings.profile}")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_durably(out, write_listing(settings.profile, listing).encode())
    for part, snapshot in listing.items():
        size = sum(file.size for file in snapshot.files)
        click.echo(
            f"{part:<8} {snapshot.repository} at {snapshot.commit}: {len(snapshot.files)} files, "
            f"{readable_bytes(size)}"
        )
    if not listing:
        click.echo(f"the profile {settings.profile} needs nothing from the hub")
    click.echo(f"to fetch {readable_bytes(needed)} into {settings.cache_dir / 'hub'}")


@data.command("fetch")
@profile_option
@pins_option
@listing_option
@click.option("--file", "path", required=True, metavar="PATH", help="Path in the repository, as listed.")
@click.option(
    "--report", "report_file", type=click.Path(path_type=Path), help="JSON file: path, digest, bytes, tries."
)
def fetch(
    profile: str | None,
    pins_file: Path | None,
    listing_file: Path | None,
    path: str,
    report_file: Path | None,
) -> None:
    """Fetch one file into the cache, resumed where an earlier run stopped, and verify it.

    Faults of the hub are waited out. A file with a wrong digest goes to the folder `quarantine` of the cache
    and ends this with exit code 3. A file that is there already is hashed and left; one that huggingface_hub
    has fetched for this user before is hashed and taken from there.
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    from perturbnet.bootstrap.profile import find_file
    from perturbnet.hub.disk import readable_bytes
    from perturbnet.hub.fetching import fetch as fetch_file
    from perturbnet.runtime.artifacts import write_durably

    settings = read_settings(PERTURB_PROFILE=profile)
    snapshot, file = find_file(open_listing(settings, pins_file, listing_file), path)
    with showing(path, file.size) as report:
        done = fetch_file(
            file,
            snapshot,
            settings.cache_dir / "hub",
            report=report,
            token=settings.hf_token,
            caches=[Path(HF_HUB_CACHE)],
        )
    facts: dict[str, Any] = {
        "path": path,
        "file": str(done.path),
        "repository": snapshot.repository,
        "kind": snapshot.kind,
        "commit": snapshot.commit,
        "sha256": file.sha256,
        "size": file.size,
        "bytes_fetched": done.bytes_fetched,
        "resumed_from": done.resumed_from,
        "attempts": done.attempts,
        "milliseconds": round(done.seconds * 1000),
    }
    if report_file is not None:
        report_file.parent.mkdir(parents=True, exist_ok=True)
        write_durably(report_file, (json.dumps(facts, indent=2, sort_keys=True) + "\n").encode())
    came = (
        f"{readable_bytes(done.bytes_fetched)} in {done.seconds:.1f} s" if done.attempts else "there already"
    )
    click.echo(f"{path}: {came}; {file.size} bytes, digest {file.etag} verified")


@data.command("verify")
@profile_option
@pins_option
@listing_option
def verify(profile: str | None, pins_file: Path | None, listing_file: Path | None) -> None:
    """Hash every file in the cache and compare it with the hub's digest and with the pins.

    Finds what was damaged after it was fetched, whatever its date says. Changes nothing. Every file is looked
    at; exit code 3 if one is damaged, else 1 if one is missing.
    """
    from perturbnet.errors import ArtifactMissing, DigestMismatch
    from perturbnet.hub.disk import readable_bytes
    from perturbnet.hub.fetching import verify_cached

    settings = read_settings(PERTURB_PROFILE=profile)
    listing = open_listing(settings, pins_file, listing_file)
    hub_cache = settings.cache_dir / "hub"
    faults: list[ArtifactMissing | DigestMismatch] = []
    files = [(snapshot, file) for snapshot in listing.values() for file in snapshot.files]
    total, hashed = sum(file.size for _, file in files), 0
    with open_bar("hashing", unit=readable_bytes) as show:
        for snapshot, file in files:
            try:
                verify_cached(file, snapshot, hub_cache)
            except (ArtifactMissing, DigestMismatch) as error:
                faults.append(error)
            hashed += file.size
            show(hashed, total)
    click.echo(f"{len(files) - len(faults)} of {len(files)} files are what the hub and the pins name")
    faults.sort(key=lambda fault: fault.exit_code)
    for fault in faults[:-1]:
        click.echo(fault.message, err=True)
    if faults:
        raise faults[-1]


def open_listing(settings: Settings, pins_file: Path | None, listing_file: Path | None) -> Listing:
    """Return what the profile wants: from a list, or from the hub.

    Raises:
        ArtifactError: see `bootstrap.profile`.

    """
    from perturbnet.bootstrap.pins import read_profile_pins
    from perturbnet.bootstrap.profile import list_wanted, read_listing

    pins = read_profile_pins(settings.profile, pins_file)
    if listing_file is not None:
        return read_listing(listing_file, settings.profile, pins)
    return list_wanted(pins, token=settings.hf_token)


@contextmanager
def showing(path: str, size: int) -> Iterator[Callable[[Progress], None]]:
    """Show a fetch on standard error: a bar with bytes and rate; each wait as a line of its own."""
    from rich.console import Console

    from perturbnet.hub.disk import readable_bytes

    console, said = Console(stderr=True), ""
    with open_bar(path, unit=readable_bytes, console=console) as show:

        def report(progress: Progress) -> None:
            nonlocal said
            show(progress.done, size)
            if progress.note and progress.note != said:
                console.print(f"{path}: {progress.note}", highlight=False, markup=False, soft_wrap=True)
            said = progress.note

        yield report
