"""`perturb certify`, and `perturb certificate verify | show`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from perturbnet.commands.given import audit_settings, read_settings
from perturbnet.commands.printing import write_json, write_text
from perturbnet.commands.report import certificate_render
from perturbnet.display.bars import open_bar
from perturbnet.wire.digests import is_digest

if TYPE_CHECKING:
    from perturbnet.certificate.envelope import Certificate
    from perturbnet.certificate.findings import VerificationReport
    from perturbnet.config import Settings
    from perturbnet.transparency.anchors import Anchor

_POLL_S = 0.5


@click.command()
@click.argument("bundle")
@click.option("--model", metavar="NAME|DIGEST|FILE", help="Which model  [default: the log's only one]")
@click.option("--since", metavar="LEAF", default=0, type=click.IntRange(0), help="Count rounds from here on.")
@click.option("--until", metavar="LEAF", type=click.IntRange(1), help="Look at no leaf from here on.")
@click.option("--level", default="0.95", show_default=True, help="Of the intervals.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Where to write the certificate.")
@click.option("--cyclonedx", type=click.Path(path_type=Path), help="Write a CycloneDX model card too.")
@click.option("--no-record", is_flag=True, help="Do not make it a leaf; then nothing pins it on chain.")
@click.option(
    "--wait",
    "wait_s",
    default=0.0,
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Wait so long for a running validator to record it.",
)
def certify(
    *,
    bundle: str,
    model: str | None,
    since: int,
    until: int | None,
    level: str,
    out: Path,
    cyclonedx: Path | None,
    no_record: bool,
    wait_s: float,
) -> None:
    """Sign how a model stood up in a published log: images, attempts, stability, accuracy, intervals.

    BUNDLE is your own log, a folder or an address; the key that signs it lies in PERTURB_STATE_DIR. The
    certificate becomes a leaf of the log: at the next round's edge where the validator runs, at once where it
    does not. It is on chain under the anchor after that; `perturb certificate verify` follows it there.
    """
    from perturbnet.certificate.cyclonedx import render_model_card
    from perturbnet.certificate.issuing import issue_certificate
    from perturbnet.errors import NoteError
    from perturbnet.runtime.clock import SystemClock
    from perturbnet.transparency.bundle import open_bundle
    from perturbnet.transparency.log_key import KEY_FILE, load_log_key

    settings = read_settings()
    key = load_log_key(settings.state_dir / KEY_FILE)
    if key is None:
        hint = "only who has the log's key can certify: name the validator's PERTURB_STATE_DIR"
        raise NoteError(f"there is no {KEY_FILE} in {settings.state_dir} to sign with", hint=hint)
    with open_bundle(bundle) as opened, open_bar("leaves") as progress:
        certificate = issue_certificate(
            opened,
            key,
            issued_ms=SystemClock().time_ns() // 10**6,
            model=_model_name(model),
            since=since,
            until=until,
            level=level,
            progress=progress,
        )
    _write(out, certificate.data + b"\n")
    if cyclonedx is not None:
        _write(cyclonedx, render_model_card(certificate))
    click.echo("\n".join(_summary(certificate)))
    if not no_record:
        click.echo(_record(settings, certificate, wait_s))


@click.group()
def certificate() -> None:
    """Read certificates of anybody's: show what they say, verify them step by step."""


certificate.add_command(certificate_render)


@certificate.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "json_file", metavar="FILE", help="Write the statement as JSON; '-' prints it.")
@click.option("--cyclonedx", type=click.Path(path_type=Path), help="Write it as a CycloneDX model card.")
def show(file: Path, json_file: str | None, cyclonedx: Path | None) -> None:
    """Print what a certificate says. Nothing is verified."""
    from perturbnet.certificate.cyclonedx import render_model_card
    from perturbnet.certificate.envelope import read_certificate

    found = read_certificate(_read(file))
    if cyclonedx is not None:
        _write(cyclonedx, render_model_card(found))
    if json_file != "-":
        predicate = found.predicate
        click.echo("\n".join([*_summary(found), "", *(f"- {text}" for text in predicate.caveats)]))
        click.echo("Nothing was verified: perturb certificate verify")
    write_text(found.payload.decode(), json_file)


@certificate.command("verify")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--bundle", help="The log, a folder or an address  [default: the address on chain]")
@click.option("--anchors", metavar="chain|FILE", help="Where the anchors come from; never the bundle.")
@click.option("--hotkey", help="The validator that you mean, ss58.")
@click.option("--model", metavar="DIGEST|FILE", help="The model that you mean: its artefact, or SHA-256.")
@click.option("--netuid", type=click.IntRange(0, 65535), help="The subnet  [default: NETUID]")
@click.option("--json", "json_file", metavar="FILE", help="Write the steps as JSON; '-' prints them.")
@click.pass_context
def verify(
    ctx: click.Context,
    *,
    file: Path,
    bundle: str | None,
    anchors: str | None,
    hotkey: str | None,
    model: str | None,
    netuid: int | None,
    json_file: str | None,
) -> None:
    """Verify a certificate: signature, model, numbers counted again, its leaf, its anchor on chain.

    Exit code 0: every step was made and none refused. 1: a step was refused, or could not be made because no
    log (--bundle) or no anchors (--anchors) were given. Whether the log is right is for: perturb audit.
    """
    from perturbnet.certificate.envelope import read_certificate
    from perturbnet.certificate.verification import Reader, verify_certificate
    from perturbnet.errors import OutputError
    from perturbnet.transparency.bundle import open_bundle

    data = _read(file)
    try:
        owner = hotkey or read_certificate(data).predicate.log.hotkey
    except OutputError:
        owner = ""  # the steps say what is wrong with it
    given, place = _outside(anchors, bundle, owner, netuid)
    digest = _model_digest(model)
    if place is None:
        report, found = verify_certificate(data, Reader(None, given, hotkey, digest))
    else:
        with open_bundle(place) as opened, open_bar("leaves") as progress:
            report, found = verify_certificate(data, Reader(opened, given, hotkey, digest, progress))
    _print_report(report, found, json_file)
    ctx.exit(0 if report.status == "verified" else 1)


def _outside(
    anchors: str | None, bundle: str | None, owner: str, netuid: int | None
) -> tuple[list[Anchor] | None, str | None]:
    """The anchors that were asked for, and where the log is."""
    from perturbnet.auditing.opening import published_at, read_anchors

    if anchors is None or not owner:
        return None, bundle
    settings = audit_settings(None, netuid)
    found = read_anchors(anchors, owner, settings)
    return found, bundle or (published_at(owner, settings) if anchors == "chain" else None)


def _record(settings: Settings, done: Certificate, wait_s: float) -> str:
    """Make it a leaf, here or through the validator that runs; returns what to tell."""
    from perturbnet.commands.ledger_inputs import open_journal
    from perturbnet.errors import LedgerLocked, OutputError
    from perturbnet.validator.certificates import hand_over, read_answer, record_certificate

    try:
        with open_journal(settings) as journal:
            position = record_certificate(journal, done)
            return f"Recorded as leaf {position}; publish it with: perturb ledger publish"
    except LedgerLocked:
        path = hand_over(settings.state_dir, done)
    deadline_s = time.monotonic() + wait_s
    while (answer := read_answer(path)) is None and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
    if answer is None:
        return f"Handed to the running validator, which records it between rounds: {path}"
    if not answer[0]:
        raise OutputError(f"the validator refused the certificate: {answer[1]}")
    return f"Recorded as leaf {answer[1]} by the running validator"


def _summary(done: Certificate) -> Iterator[str]:
    predicate, found = done.predicate, done.predicate.statistics
    yield f"model           {predicate.evidence.model.name} {done.subject}"
    if not predicate.evidence.model.reproducible:
        yield "                not bit-reproducible: plain floating point"
    yield f"log             {predicate.log.origin}, leaves {found.since} to before {found.until}"
    tries = f"{found.attempts} attempts of {found.miners} {'attacks' if predicate.offline else 'miners'}"
    yield f"counted         {found.images} images, {found.rounds} rounds, {tries}"
    excluded = ", ".join(f"{rounds} {reason}" for reason, rounds in found.excluded.items() if rounds)
    yield f"left out        {excluded or 'no round'}"
    silent = found.rounds_without_an_image
    yield f"weak points     {found.timeouts} time-outs, {silent} rounds without an image"
    for name in ("stability", "clean_accuracy", "robust_accuracy"):
        rate = getattr(found, name)
        if rate.trials:
            exact, always = rate.exact, rate.anytime
            bounds = f"[{exact.lower}, {exact.upper}], anytime [{always.lower}, {always.upper}]"
            yield f"{name.replace('_', ' '):<15} {rate.share} {bounds}"
    yield f"certificate     {done.digest}"


def _print_report(report: VerificationReport, found: Certificate | None, json_file: str | None) -> None:
    answer = {**report.to_json(), "certificate": found.digest if found else None}
    if json_file != "-":
        for line in report.lines:
            click.echo(f"{int(line.step)} {line.step.name.lower():<11} {line.outcome.value:<12} {line.text}")
        click.echo(report.status.upper())
    write_json(answer, json_file)


def _model_name(given: str | None) -> str | None:
    """A file stands for its digest; a name or a digest is looked for in the log."""
    from perturbnet.runtime.artifacts import sha256_file

    return sha256_file(Path(given)) if given is not None and Path(given).is_file() else given


def _model_digest(given: str | None) -> str | None:
    found = _model_name(given)
    if found is not None and not is_digest(found):
        raise click.BadParameter(f"{given!r} is no file and no SHA-256", param_hint="--model")
    return found


def _read(path: Path) -> bytes:
    from perturbnet.certificate.envelope import MAX_CERTIFICATE_BYTES
    from perturbnet.errors import OutputError

    try:
        with path.open("rb") as file:
            return file.read(MAX_CERTIFICATE_BYTES + 2)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}") from None


def _write(path: Path, data: bytes) -> None:
    from perturbnet.errors import OutputError
    from perturbnet.runtime.artifacts import write_durably

    try:
        write_durably(path, data)
    except OSError as error:
        raise OutputError(f"{path} was not written: {error.strerror}") from None
