"""`perturb audit receipt`: a miner's acknowledgements against the log of the validator that signed them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perturbnet.auditing.opening import open_means, read_file
from perturbnet.commands.given import audit_settings
from perturbnet.commands.printing import write_json
from perturbnet.wire.units import from_ppb

if TYPE_CHECKING:
    from perturbnet.auditing.acknowledged import AcknowledgementOutcome
    from perturbnet.config import Settings
    from perturbnet.transparency.bundle import Bundle


@click.command("receipt")
@click.argument("acknowledgements", type=click.Path(path_type=Path))
@click.argument("bundle")
@click.option("--netuid", type=click.IntRange(0, 65535), help="The subnet  [default: NETUID]")
@click.option(
    "--answers", type=click.Path(path_type=Path), help="The miner's folder of answers, judged again."
)
@click.option("--profile", help="Data set and model, with --answers  [default: PERTURB_PROFILE]")
@click.option("--proofs", type=click.Path(path_type=Path), help="Folder for .tlog-proof files.")
@click.option("--json", "json_file", metavar="FILE", help="Write outcomes as JSON; '-' prints them.")
@click.pass_context
def audit_receipt(
    ctx: click.Context,
    *,
    acknowledgements: Path,
    bundle: str,
    netuid: int | None,
    answers: Path | None,
    profile: str | None,
    proofs: Path | None,
    json_file: str | None,
) -> None:
    """Was my answer logged, and how was it judged? Or prove that it was left out.

    ACKNOWLEDGEMENTS is the file a miner keeps: PERTURB_STATE_DIR/acknowledgements.jsonl. Each line is a
    promise, signed by the validator. A promise that its log breaks is a finding: exit code 1.
    """
    from perturbnet.auditing.acknowledged import check_acknowledgement, read_acknowledgements
    from perturbnet.transparency.bundle import open_bundle

    settings = audit_settings(profile, netuid)
    messages = read_acknowledgements(read_file(acknowledgements))
    with open_bundle(bundle) as opened:
        outcomes = [check_acknowledgement(message, opened, netuid=settings.netuid) for message in messages]
        if answers is not None:
            _judge_again(outcomes, answers, opened, settings)
    if proofs is not None:
        _write_proofs(outcomes, proofs)
    _print_outcomes(outcomes, json_file)
    ctx.exit(1 if any(outcome.findings for outcome in outcomes) else 0)


def _judge_again(
    outcomes: Sequence[AcknowledgementOutcome], answers: Path, opened: Bundle, settings: Settings
) -> None:
    from perturbnet.auditing.acknowledged import check_body
    from perturbnet.errors import ArtifactMissing
    from perturbnet.ledger import BlobStore

    means, _ = open_means(settings, data=True, model=True)
    bodies = BlobStore(answers)
    for outcome in outcomes:
        digest = outcome.acknowledgement.body_digest
        if digest is None or means.source is None or means.engine is None:
            continue
        try:
            check_body(outcome, bodies.get(digest), opened, means.source, means.engine)
        except ArtifactMissing:
            click.echo(
                f"leaf {outcome.acknowledgement.leaf}: the answer {digest[:16]}… is not in {answers}",
                err=True,
            )


def _write_proofs(outcomes: Sequence[AcknowledgementOutcome], folder: Path) -> None:
    from perturbnet.transparency.proofs import SUFFIX

    folder.mkdir(parents=True, exist_ok=True)
    for outcome in outcomes:
        if outcome.proof:
            (folder / f"leaf-{outcome.acknowledgement.leaf}{SUFFIX}").write_bytes(outcome.proof)


def _print_outcomes(outcomes: Sequence[AcknowledgementOutcome], json_file: str | None) -> None:
    rows: list[dict[str, Any]] = []
    for outcome in outcomes:
        told = outcome.acknowledgement
        shown = f"leaf {told.leaf} of {outcome.validator[:8]}…: {outcome.status}"
        if json_file != "-":
            click.echo(f"{shown}; told {told.reject}, score {from_ppb(told.score_ppb):.4f}")
            for finding in outcome.findings:
                click.echo(f"  {finding.sentence()}")
        rows.append(
            {
                "leaf": told.leaf,
                "leaf_hash": told.leaf_hash,
                "validator": outcome.validator,
                "miner": outcome.miner,
                "acknowledged_ns": outcome.acknowledged_ns,
                "status": outcome.status.value,
                "reject": told.reject.value,
                "score_ppb": told.score_ppb,
                "findings": [finding.to_json() for finding in outcome.findings],
            }
        )
    write_json(rows, json_file)
