"""`perturb report` and `perturb certificate render`: one HTML page about how a model stood up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from perturbnet.auditing.opening import read_file
from perturbnet.commands.given import audit_settings
from perturbnet.commands.printing import write_text
from perturbnet.display.bars import open_bar

if TYPE_CHECKING:
    from perturbnet.datasets import ImageSource
    from perturbnet.report import Report

NOT_HERE = "BUNDLE"  # how a page names a folder of the reader's own machine


@click.command()
@click.argument("bundle")
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--since", metavar="LEAF", default=0, type=click.IntRange(0), help="Rounds from this leaf on.")
@click.option(
    "--until", metavar="LEAF", type=click.IntRange(1), help="Leaves before this one  [default: all]"
)
@click.option("--model", metavar="DIGEST", default="", help="Which model  [default: the newest round's]")
@click.option(
    "--pictures",
    default=8,
    show_default=True,
    type=click.IntRange(0, 24),
    help="How many examples are shown; 0: a page without.",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The folder of pictures of a `perturb evaluate`.",
)
@click.option("--profile", help="Data set of the pictures  [default: the log's, or PERTURB_PROFILE]")
@click.option(
    "--certificate",
    "certificate_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A certificate of this log: named on the page, its numbers compared.",
)
@click.option("--json", "json_file", metavar="FILE", help="Also write the numbers as JSON; '-' prints them.")
def report(
    *,
    bundle: str,
    out: Path,
    since: int,
    until: int | None,
    model: str,
    pictures: int,
    images: Path | None,
    profile: str | None,
    certificate_file: Path | None,
    json_file: str | None,
) -> None:
    """Write a page on how a model stood up: stability, accuracy, distances, classes, miners, pictures.

    \b
    perturb report BUNDLE report.html       a published log: a folder, or its address
    perturb report OUT/bundle report.html --images DIR     of a perturb evaluate

    OUT is one file that needs nothing else: no network, no script; print it from the browser for a PDF.
    Every leaf is checked up to the root that the log's key signed; verdicts are not recomputed, `perturb
    audit` does that. Pictures need the data set that `perturb bootstrap` prepared, and are shown only where
    their pixels have the digests in the log; without it the page says so.

    Exit code 3: there is no log, or it is not what its digests say.
    """
    from perturbnet.certificate.envelope import read_certificate
    from perturbnet.report import ReportOptions, encode_summary, make_report, write_report
    from perturbnet.transparency.bundle import open_bundle

    certificate = None if certificate_file is None else read_certificate(read_file(certificate_file))
    wish = ReportOptions(since, until, model.lower(), pictures)
    with open_bundle(bundle) as opened, open_bar("leaves", quiet=json_file == "-") as progress:
        made = make_report(
            opened,
            wish,
            open_pictures=lambda repository: _open_pictures(repository, bundle, profile, images),
            place=_named(bundle),
            progress=progress,
        )
    size = write_report(out, made, certificate)
    if json_file != "-":
        _tell(made, out, size)
    write_text(encode_summary(made), json_file)


@click.command("render")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
def certificate_render(file: Path, out: Path) -> None:
    """Write a certificate as a page for people: one HTML file, from the browser's print a PDF.

    A certificate that the key it names did not sign gets no page. Whether that key is the validator's, and
    the numbers the log's, is for `perturb certificate verify` to say; the page tells its readers so.
    """
    from perturbnet.certificate.envelope import read_certificate
    from perturbnet.report import render_certificate, write_page

    size = write_page(out, render_certificate(read_certificate(read_file(file))))
    click.echo(f"Written      {size:,} bytes, {out}")
    click.echo("Next         open it in a browser; print it there for a PDF")


def _open_pictures(
    repository: str, bundle: str, profile: str | None, images: Path | None
) -> tuple[ImageSource | None, str]:
    """The data set that the log names; or none, and why not."""
    from perturbnet.datasets import open_source
    from perturbnet.datasets.reference import REPOSITORY
    from perturbnet.errors import PerturbError
    from perturbnet.evaluation import open_images
    from perturbnet.report import NO_SOURCE

    settings = audit_settings(profile, None)
    try:
        if images is not None:
            return open_images(Path(bundle).parent, images), ""
        name = "reference" if repository == REPOSITORY and profile is None else settings.profile
        return open_source(name, cache_dir=settings.cache_dir), ""
    except PerturbError as error:
        click.echo(f"perturb: without pictures: {error.diagnostics()}", err=True)
        return None, NO_SOURCE


def _named(bundle: str) -> str:
    """The log's address; a folder of this machine is nobody else's business."""
    return bundle if "://" in bundle else NOT_HERE


def _tell(made: Report, out: Path, size: int) -> None:
    found = made.findings.statistics
    click.echo(f"Model        {made.config.model_name}, {made.config.model_digest[:16]}…")
    click.echo(
        f"Images       {found.images:,}, of which {found.broken:,} were broken in {found.attempts:,} tries"
    )
    rates = [("Stability", found.stability)]
    if found.labelled:
        rates += [("Robust", found.robust_accuracy), ("Clean", found.clean_accuracy)]
    for name, rate in rates:
        if rate.share:
            low, high = float(rate.exact.lower), float(rate.exact.upper)
            click.echo(f"{name:<12} {float(rate.share):.1%}  (95 % interval {low:.1%} to {high:.1%})")
    shown = len(made.gallery.plates)
    click.echo(f"Pictures     {f'{shown} examples' if shown else made.gallery.reason}")
    click.echo(f"Written      {size:,} bytes, {out}")
    click.echo("Next         open it in a browser; print it there for a PDF")
