"""`perturb pins`: what a profile is pinned to, and the digests of a real download written into it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perturbnet.commands.data import listing_option, pins_option, profile_option
from perturbnet.commands.given import read_settings
from perturbnet.display.bars import open_bar

if TYPE_CHECKING:
    from perturbnet.bootstrap.profile import Listing
    from perturbnet.config import Settings


@click.group()
def pins() -> None:
    """Pins: the repositories, commits and digests a profile stands on."""


@pins.command("show")
@profile_option
@pins_option
@click.option("--json", "as_json", is_flag=True, help="Print the pins file itself.")
def show(profile: str | None, pins_file: Path | None, as_json: bool) -> None:
    """Print each pinned repository and file, with the digest if a download has recorded it."""
    from perturbnet.bootstrap.pins import format_pins, read_profile_pins, wanted_of

    settings = read_settings(PERTURB_PROFILE=profile)
    stated = read_profile_pins(settings.profile, pins_file)
    if as_json:
        click.echo(format_pins(stated), nl=False)
        return
    for wanted in wanted_of(stated):
        short = "" if len(wanted.revision) == 40 else " (shortened; `perturb pins update` completes it)"
        click.echo(f"{wanted.part:<8} {wanted.kind} {wanted.repository} at {wanted.revision}{short}")
        for pin in wanted.locked.values():
            click.echo(f"  {pin.sha256}  {pin.size:>12}  {pin.name}")
        if not wanted.locked:
            click.echo("  no digests recorded yet: the revision pins it, and the hub's LFS digests at it")
    if not wanted_of(stated):
        click.echo(f"the profile {settings.profile} pins nothing on the hub; its digests:")
        click.echo(json.dumps(stated, indent=2, sort_keys=True))


@pins.command("update")
@profile_option
@pins_option
@listing_option
@click.option("--out", type=click.Path(path_type=Path), help="Pins file to write  [default: the one read]")
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 if the pins would change.")
def update(
    profile: str | None,
    pins_file: Path | None,
    listing_file: Path | None,
    out: Path | None,
    check: bool,
) -> None:
    """After a download: write full commits, digests, sizes and the number of rows into the pins.

    After a whole bootstrap the manifest's digest too: then every node must come to the same one.

    Every file in the cache is hashed first and must be what the hub has. Prints the change as a diff. Review
    it before you commit it: from then on every node compares with these digests.
    """
    from perturbnet.bootstrap.manifest import read_manifest
    from perturbnet.bootstrap.pins import diff_pins, format_pins, read_profile_pins, updated
    from perturbnet.bootstrap.records import Workplace
    from perturbnet.errors import ArtifactError
    from perturbnet.runtime.artifacts import write_durably

    settings = read_settings(PERTURB_PROFILE=profile)
    target = out or pins_file or _package_file(settings.profile)
    stated = read_profile_pins(settings.profile, pins_file)
    listing = _list_without_lock(settings, stated, listing_file)
    if not listing:
        raise click.UsageError(f"the profile {settings.profile} pins nothing on the hub")
    rows = _verify_all(listing, settings.cache_dir / "hub")
    before = target.read_text(encoding="utf-8") if target.exists() else ""
    fresh = updated(stated, listing, rows)
    place = Workplace(settings.cache_dir, settings.profile)
    if place.manifest.exists():
        fresh["manifest"] = read_manifest(place.manifest).digest
    after = format_pins(fresh)
    difference = diff_pins(before, after, target.name)
    click.echo(difference or "the pins are what was downloaded already", nl=not difference)
    if difference and check:
        raise ArtifactError(f"{target} is not what was downloaded", hint="Write it without --check.")
    if difference:
        try:
            write_durably(target, after.encode())
        except OSError as error:
            raise ArtifactError(
                f"{target} cannot be written: {error.strerror}", hint="Name another file with --out."
            ) from error
        click.echo(f"wrote {target}; review it as a diff before you commit it", err=True)


def _package_file(profile: str) -> Path:
    from importlib import resources

    return Path(str(resources.files("perturbnet"))) / "data" / f"{profile}.json"


def _list_without_lock(settings: Settings, stated: Mapping[str, Any], listing_file: Path | None) -> Listing:
    """List what the pinned revisions hold. The digests of the pins are what is about to be replaced."""
    from perturbnet.bootstrap.profile import list_wanted, read_listing

    unlocked = {key: dict(value) if isinstance(value, dict) else value for key, value in stated.items()}
    if "dataset" in unlocked:
        unlocked["dataset"]["files"] = None
    if "weights" in unlocked:
        unlocked["weights"]["sha256"] = None
    if listing_file is not None:
        return read_listing(listing_file, settings.profile, unlocked)
    return list_wanted(unlocked, token=settings.hf_token)


def _verify_all(listing: Listing, hub_cache: Path) -> int | None:
    """Hash every file; return the number of rows of the data set's shards."""
    from perturbnet.datasets.tables import count_rows
    from perturbnet.hub.disk import readable_bytes
    from perturbnet.hub.fetching import verify_cached

    shards = []
    total, hashed = sum(file.size for snapshot in listing.values() for file in snapshot.files), 0
    with open_bar("hashing", unit=readable_bytes) as show:
        for part, snapshot in listing.items():
            for file in snapshot.files:
                path = verify_cached(file, snapshot, hub_cache)
                if part == "dataset":
                    shards.append(path)
                hashed += file.size
                show(hashed, total)
    return count_rows(shards) if shards else None
