"""`perturb status`: one screen on a validator, from the validator itself or from its published log."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from perturbnet.config import Settings
    from perturbnet.overview.feeds import Progress


def split_pairs(pairs: Sequence[str]) -> dict[str, str]:
    """What `--set NAME=VALUE` says, by name. Raises `click.UsageError`."""
    overrides = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise click.UsageError(f"--set {pair}: expected NAME=VALUE")
        overrides[name] = text
    return overrides


def command_settings(pairs: Sequence[str], file: Path | None) -> Settings:
    """The settings, with those of `--set`. Raises `ConfigError`."""
    from perturbnet.config import load_settings

    return load_settings(os.environ, overrides=split_pairs(pairs), file=file).settings


@click.command()
@click.argument("bundle", required=False)
@click.option("--config", "file", type=click.Path(path_type=Path), help="TOML file of settings.")
@click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="Set one setting.")
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
    """  # noqa: D301 - \b is click's mark for a block that is not wrapped
    from rich.console import Console

    from perturbnet.overview import encode_overview, open_feed
    from perturbnet.overview.screen import render_overview

    settings = command_settings(pairs, file)
    with reading_bar() as progress:
        feed = open_feed(bundle, port=settings.metrics_port, state_dir=settings.state_dir, progress=progress)
        overview = feed.read()
    encoded = encode_overview(overview).decode()
    if json_file == "-":
        click.echo(encoded)
    else:
        Console().print(render_overview(overview))
        if json_file:
            Path(json_file).write_text(encoded + "\n", encoding="utf-8")
    ctx.exit(0 if all(found.ok for found in overview.health) else 1)


@contextmanager
def reading_bar() -> Iterator[Progress]:
    """A bar for the leaves of a published log, on stderr; it appears with the first of them."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("leaves"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:

        def progress(done: int, of: int) -> None:
            if not bars.task_ids:
                bars.add_task("leaves", total=of)
            if done % 256 == 0 or done == of:
                bars.update(bars.task_ids[0], completed=done)

        yield progress
