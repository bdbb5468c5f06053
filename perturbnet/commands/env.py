"""`perturb env`: the environment's fingerprint, as a validator records it in its log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from perturbnet.errors import ArtifactMissing

if TYPE_CHECKING:
    from perturbnet.runtime.provenance import Build


@click.command()
@click.option("--digest", "digest_only", is_flag=True, help="Print the digest of the packages alone.")
@click.option("--check", is_flag=True, help="Exit code 1 if a package is not what the lock names.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, each package too.")
def env(*, digest_only: bool, check: bool, as_json: bool) -> None:
    """Print what this machine computes with: build, packages, processor, GPU, driver.

    The digest is over the files of every package that a neuron needs, as their wheels list them, with Python
    and machine. Two builds from one lock show the same. A validator writes these lines into its log
    (`config` leaves), so an auditor can take the very environment that made a record.
    """
    from perturbnet.runtime.provenance import describe_build

    build = describe_build()
    if digest_only:
        click.echo(build.digest)
    elif as_json:
        click.echo(json.dumps(describe(build), indent=2))
    else:
        print_lines(build)
    if check and build.differing:
        raise ArtifactMissing(
            f"{len(build.differing)} packages are not what the lock names: {', '.join(build.differing)}",
            hint="install from requirements.lock: delete .venv and run make test",
        )


def describe(build: Build) -> dict[str, object]:
    """The environment for machines."""
    return {
        "recorded": recorded(build),
        "packages": dict(build.packages),
        "differing": {name: list(pair) for name, pair in build.differing.items()},
    }


def recorded(build: Build) -> Mapping[str, str]:
    """What a `config` leaf holds."""
    from perturbnet.classifier.environment import describe_environment

    return describe_environment(build=build)


def print_lines(build: Build) -> None:
    """One line for each thing that is recorded, then what differs from the lock."""
    for name, text in recorded(build).items():
        click.echo(f"{name:<14} {text}")
    for name, (locked, installed) in build.differing.items():
        click.echo(f"differs        {name}: {installed} is installed, the lock names {locked or 'none'}")
    if not build.differing and build.origin.startswith("lock"):
        click.echo(f"as locked      {len(build.packages)} packages")
