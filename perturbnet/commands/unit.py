"""`perturb unit`: print the systemd unit of a validator, a miner, or what prepares them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from perturbnet.commands.systemd_units import CONFIG_FOLDER, HIDDEN_FOLDERS

if TYPE_CHECKING:
    from perturbnet.commands.systemd_units import Unit


@click.command()
@click.argument("role", type=click.Choice(("validator", "miner", "bootstrap")))
@click.option(
    "--for",
    "of",
    type=click.Choice(("validator", "miner")),
    default="validator",
    show_default=True,
    help="Whose bootstrap: roles have their own users and caches.",
)
@click.option("--cuda", is_flag=True, help="Let it reach NVIDIA's devices.")
@click.option("--instance", default="", metavar="NAME", help="One of several of a role on this host.")
@click.option("--program", metavar="PATH", help="The perturb command it starts  [default: this one]")
@click.option(
    "--config",
    default=CONFIG_FOLDER,
    show_default=True,
    metavar="FOLDER",
    help="Where your settings and your hotkey lie.",
)
@click.option("--json", "as_json", is_flag=True, help="Print name, text and the files it needs as JSON.")
def unit(
    *, role: str, of: str, cuda: bool, instance: str, program: str | None, config: str, as_json: bool
) -> None:
    """Print a hardened systemd unit; its first lines say how to install it.

    \b
    perturb unit validator --cuda | sudo tee /etc/systemd/system/perturb-validator.service
    perturb unit bootstrap        | sudo tee /etc/systemd/system/perturb-validator-bootstrap.service
    perturb unit miner --instance second          a second miner on this host

    It runs as a user of its own that exists while it runs, sees no home, writes to its state and cache only,
    and is ended by systemd's watchdog when its loop stands still. docs/operations.md walks through it.
    """
    from perturbnet.commands.systemd_units import read_source, render_unit

    key = f"{of}-bootstrap" if role == "bootstrap" else role
    if role == "bootstrap" and instance:
        raise click.UsageError("--instance: all instances of a role share what its bootstrap prepares")
    program = program or str(Path(sys.argv[0]).absolute())
    rendered = render_unit(read_source(), key, program=program, config=config, instance=instance, cuda=cuda)
    if any(Path(program).is_relative_to(folder) for folder in HIDDEN_FOLDERS):
        click.echo(
            f"perturb: {program} lies where the unit cannot see it ({', '.join(HIDDEN_FOLDERS)}); "
            "install to /opt/perturb, or name another with --program",
            err=True,
        )
    if as_json:
        click.echo(json.dumps(describe(rendered), indent=2))
    else:
        click.echo(header(rendered) + rendered.text, nl=False)


def describe(rendered: Unit) -> dict[str, object]:
    """The unit for machines."""
    return {
        "name": rendered.name,
        "text": header(rendered) + rendered.text,
        "environment_files": [name.removeprefix("-") for name in rendered.environment_files],
        "credentials": list(rendered.credentials),
    }


def header(rendered: Unit) -> str:
    """The comment that says where the unit goes and what it needs; every command can be pasted."""
    lines = [
        f"/etc/systemd/system/{rendered.name}, rendered by `perturb unit` from packaging/service.json.",
        f"Change it with: systemctl edit {rendered.name}",
    ]
    lines += [
        f"Settings: {name.removeprefix('-')}{' (may be missing)' if name.startswith('-') else ''}"
        for name in rendered.environment_files
    ]
    lines += [f"Hotkey:   install -m 0600 PRIVATE-HOTKEY-FILE {name}" for name in rendered.credentials]
    return "".join(f"# {line}\n" for line in lines) + "\n"
