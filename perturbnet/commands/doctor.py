"""`perturb doctor`: the readiness checklist, executed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import click

from perturbnet.commands.given import load_given, settings_options
from perturbnet.commands.printing import write_json

if TYPE_CHECKING:
    from rich.table import Table

    from perturbnet.doctor import Check, CheckResult

STYLES = {"ok": "green", "look": "yellow", "bad": "bold red", "unknown": "cyan"}


@click.command()
@click.argument("role", type=click.Choice(["validator", "miner"]), default="validator")
@settings_options
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
    """
    from rich.console import Console

    from perturbnet.doctor import CheckOutcome, Patient, examine, write_checklist

    if checklist:
        click.echo(write_checklist(), nl=False)
        return
    loaded = load_given(pairs, file)
    console, found = Console(stderr=json_file == "-"), []
    with console.status("looking") as line:
        for check, finding in examine(
            Patient(loaded, cast("Literal['validator', 'miner']", role)),
            lambda check: line.update(f"{check.name}: {check.holds}"),
        ):
            found.append((check, finding))
            if json_file != "-":
                console.print(_line(check, finding))
    write_json([_to_json(*one) for one in found], json_file)
    worst = [check.name for check, finding in found if finding.outcome is CheckOutcome.BAD]
    if json_file != "-":
        console.print(
            f"\n{len(found)} checks; " + (f"bad: {', '.join(worst)}" if worst else "nothing is bad")
        )
    ctx.exit(1 if worst else 0)


def _line(check: Check, finding: CheckResult) -> Table:
    from rich.table import Table
    from rich.text import Text

    from perturbnet.display.text import printable

    outcome = finding.outcome.value
    row = Table.grid()
    for width in (8, 14, None):
        row.add_column(width=width, overflow="fold")
    row.add_row(Text(outcome, STYLES[outcome]), check.name, Text(printable(finding.found)))
    if finding.todo:
        row.add_row("", "", Text(f"-> {printable(finding.todo)}", "dim"))
    return row


def _to_json(check: Check, finding: CheckResult) -> dict[str, str]:
    return {
        "check": check.name,
        "outcome": finding.outcome.value,
        "found": finding.found,
        "todo": finding.todo,
    }
