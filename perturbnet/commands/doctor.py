"""`perturb doctor`: the readiness checklist, executed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import click

from perturbnet.commands.status import split_pairs

if TYPE_CHECKING:
    from rich.table import Table

    from perturbnet.doctor import Check, Finding

STYLES = {"ok": "green", "look": "yellow", "bad": "bold red", "unknown": "cyan"}


@click.command()
@click.argument("role", type=click.Choice(["validator", "miner"]), default="validator")
@click.option("--config", "file", type=click.Path(path_type=Path), help="TOML file of settings.")
@click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="Set one setting.")
@click.option(
    "--json", "json_file", metavar="FILE", help="Also write the findings as JSON; '-' prints it instead."
)
@click.option("--checklist", is_flag=True, help="Print docs/READINESS_CHECKLIST.md and end.")
@click.pass_context
def doctor(
    ctx: click.Context,
    *,
    role: str,
    pairs: tuple[str, ...],
    file: Path | None,
    json_file: str | None,
    checklist: bool,
) -> None:
    """Go through the readiness checklist: keys, registration, stake, ports, disk, GPU, manifest, clock.

    \b
    perturb doctor                before a validator is started, with the settings it would have
    perturb doctor miner          before a miner is

    It only looks: it writes and announces nothing, and a running neuron is not disturbed. Each line says
    what to do, and is ok, look (it may be meant), bad (it stops the neuron or spoils its work) or unknown (it
    is not told from here). Exit code 1 where one is bad.
    """  # noqa: D301 - \b is click's mark for a block that is not wrapped
    from rich.console import Console

    from perturbnet.config import load_settings
    from perturbnet.doctor import Outcome, Patient, examine, write_checklist

    if checklist:
        click.echo(write_checklist(), nl=False)
        return
    overrides = split_pairs(pairs)
    loaded = load_settings(os.environ, overrides=overrides, file=file)
    console, found = Console(stderr=json_file == "-"), []
    with console.status("looking") as line:
        for check, finding in examine(
            Patient(loaded, cast("Literal['validator', 'miner']", role)),
            lambda check: line.update(f"{check.name}: {check.holds}"),
        ):
            found.append((check, finding))
            if json_file != "-":
                console.print(_line(check, finding))
    _write(found, json_file)
    worst = [check.name for check, finding in found if finding.outcome is Outcome.BAD]
    if json_file != "-":
        console.print(
            f"\n{len(found)} checks; " + (f"bad: {', '.join(worst)}" if worst else "nothing is bad")
        )
    ctx.exit(1 if worst else 0)


def _line(check: Check, finding: Finding) -> Table:
    from rich.table import Table
    from rich.text import Text

    from perturbnet.overview.screen import printable

    outcome = finding.outcome.value
    row = Table.grid()
    for width in (8, 14, None):
        row.add_column(width=width, overflow="fold")
    row.add_row(Text(outcome, STYLES[outcome]), check.name, Text(printable(finding.found)))
    if finding.todo:
        row.add_row("", "", Text(f"-> {printable(finding.todo)}", "dim"))
    return row


def _write(found: list[tuple[Check, Finding]], json_file: str | None) -> None:
    if json_file is None:
        return
    rows = [
        {"check": check.name, "outcome": one.outcome.value, "found": one.found, "todo": one.todo}
        for check, one in found
    ]
    text = json.dumps(rows, indent=2)
    if json_file == "-":
        click.echo(text)
    else:
        Path(json_file).write_text(text + "\n", encoding="utf-8")
