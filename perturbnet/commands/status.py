"""`perturb status`: one screen on a validator, from the validator itself or from its published log."""

from __future__ import annotations

from pathlib import Path

import click

from perturbnet.commands.given import read_settings, settings_options
from perturbnet.commands.printing import write_text
from perturbnet.display.bars import open_bar


@click.command()
@click.argument("bundle", required=False)
@settings_options
@click.option("--json", "json_file", metavar="FILE", help="Write it all as JSON; '-' prints it instead.")
@click.pass_context
def status(
    ctx: click.Context, bundle: str | None, pairs: tuple[str, ...], file: Path | None, json_file: str | None
) -> None:
    """Show a validator on one screen: last round, standings, next weights, health.

    \b
    perturb status                the validator that runs here: PERTURB_METRICS_PORT, PERTURB_STATE_DIR
    perturb status BUNDLE         a published log: a folder, or its address

    A log is read from its first leaf, every leaf checked up to the root that its key signed. What is judged
    there is not recomputed: `perturb audit` does that.

    Exit code 0: all is well; 1: nobody answers, or something wants looking at.
    """
    from rich.console import Console

    from perturbnet.overview import encode_overview, open_feed
    from perturbnet.overview.screen import render_overview

    settings = read_settings(pairs, file)
    with open_bar("leaves") as progress:
        feed = open_feed(bundle, port=settings.metrics_port, state_dir=settings.state_dir, progress=progress)
        overview = feed.read()
    encoded = encode_overview(overview).decode()
    if json_file != "-":
        Console().print(render_overview(overview))
    write_text(encoded, json_file)
    ctx.exit(0 if all(found.ok for found in overview.health) else 1)
