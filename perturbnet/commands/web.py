"""`perturb web`: a read-only page about a validator, on this machine only."""

from __future__ import annotations

from pathlib import Path

import click

from perturbnet.commands.given import read_settings, settings_options
from perturbnet.display.bars import open_bar

DEFAULT_PORT = 8477


@click.command()
@click.argument("bundle", required=False)
@click.option(
    "--port",
    default=DEFAULT_PORT,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port on 127.0.0.1; 0 takes any that is free.",
)
@settings_options
def web(bundle: str | None, port: int, pairs: tuple[str, ...], file: Path | None) -> None:
    """Show a validator in the browser: standings over time, challenges as pictures, weights, the log's head.

    \b
    perturb web                   the validator that runs here: PERTURB_METRICS_PORT, PERTURB_STATE_DIR
    perturb web BUNDLE            a published log: a folder, or its address

    Read-only, on 127.0.0.1 only, until Ctrl-C. From another machine: ssh -L 8477:127.0.0.1:8477 HOST, with
    the same port on both sides. Pictures need the data set that `perturb bootstrap` prepared.
    """
    from perturbnet.datasets import ImageSource, open_source
    from perturbnet.datasets.reference import REPOSITORY
    from perturbnet.overview import open_feed
    from perturbnet.overview.feeds import NotRunning
    from perturbnet.web import Pictures, Viewer, serve

    settings = read_settings(pairs, file)
    with open_bar("leaves") as progress:
        feed = open_feed(bundle, port=settings.metrics_port, state_dir=settings.state_dir, progress=progress)
        viewer = Viewer(feed)
        try:
            viewer.overview()
        except NotRunning as error:  # it may start later, and the page says so until then
            click.echo(error.diagnostics(), err=True)

    def open_images() -> ImageSource:
        """The data set that the log names, whatever the settings say."""
        reference = viewer.overview().dataset == REPOSITORY
        return open_source("reference" if reference else settings.profile, cache_dir=settings.cache_dir)

    pictures = Pictures(open_images, viewer.blob)
    say = "http://127.0.0.1:{}  (Ctrl-C ends)"
    serve(viewer, pictures, port=port, ready=lambda taken: click.echo(say.format(taken)))
