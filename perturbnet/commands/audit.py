"""`perturb audit`: recompute a validator's published log, whole or in parts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from perturbnet.auditing.opening import open_means, published_at, read_anchors, read_file
from perturbnet.commands.fraud import audit_fraud
from perturbnet.commands.given import audit_settings, read_share
from perturbnet.commands.printing import write_text
from perturbnet.commands.receipt import audit_receipt
from perturbnet.display.bars import open_bars

if TYPE_CHECKING:
    from perturbnet.auditing.parts import AuditPart, AuditPlan
    from perturbnet.auditing.run import Scope

DEFAULT = "bundle"


class _WithDefault(click.Group):
    """`perturb audit BUNDLE …` is `perturb audit bundle BUNDLE …`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default in where no command is named."""
        if args and args[0] not in self.commands and args[0] not in {"-h", "--help"}:
            args.insert(0, DEFAULT)
        return super().parse_args(ctx, args)


@click.group(cls=_WithDefault, no_args_is_help=True)
def audit() -> None:
    """Recompute a validator's whole published log, bit for bit.

    \b
    perturb audit BUNDLE --hotkey 5F… --anchors chain     a folder, or the address of a published log
    perturb audit --hotkey 5F… --anchors chain            its address is read from the chain
    perturb audit receipt ACKS BUNDLE                     was my answer logged, and how was it judged?
    perturb audit fraud FILE                              two heads of one log that contradict each other

    All options: perturb audit bundle --help. Exit code 0: nothing found; 1: a finding, or no anchors. Times,
    time-outs and refused connections are the validator's word; the summary prints them as attested, not
    verified. Data set and model are those that `perturb bootstrap` prepared on this machine.
    """


@audit.command(DEFAULT)
@click.argument("bundle", required=False)
@click.option("--hotkey", required=True, help="The validator, ss58.")
@click.option("--anchors", metavar="chain|FILE", help="Where the anchors come from; never the bundle.")
@click.option("--netuid", type=click.IntRange(0, 65535), help="The subnet  [default: NETUID]")
@click.option("--profile", help="Data set and model: imagenet100 or reference  [default: PERTURB_PROFILE]")
@click.option("--sample", type=click.IntRange(1), help="Recompute so many receipts, drawn at random.")
@click.option("--since", metavar="LEAF", default=0, type=click.IntRange(0), help="Recompute from here on.")
@click.option("--no-model", is_flag=True, help="Leave out labels and logits (step 8).")
@click.option("--no-data", is_flag=True, help="Leave out what needs the data set (images, steps 7 and 8).")
@click.option("--plan", "plan_file", type=click.Path(path_type=Path), help="Audit what `audit plan` fixed.")
@click.option("--part", metavar="log|I/K", help="One part: the history, or the I-th of K ranges of receipts.")
@click.option("--json", "json_file", metavar="FILE", help="Write the report as JSON; '-' prints it instead.")
@click.pass_context
def audit_bundle(
    ctx: click.Context,
    *,
    bundle: str | None,
    hotkey: str,
    anchors: str | None,
    netuid: int | None,
    profile: str | None,
    sample: int | None,
    since: int,
    no_model: bool,
    no_data: bool,
    plan_file: Path | None,
    part: str | None,
    json_file: str | None,
) -> None:
    """Audit a published log; what `perturb audit BUNDLE` runs."""
    from perturbnet.auditing.parts import AuditPlan, read_plan
    from perturbnet.auditing.request import AuditRequest
    from perturbnet.auditing.run import Scope
    from perturbnet.transparency.bundle import open_bundle

    settings = audit_settings(profile, netuid)
    given = read_anchors(anchors, hotkey, settings)
    place = bundle or published_at(hotkey, settings)
    with open_bundle(place) as opened:
        plan = read_plan(read_file(plan_file).decode()) if plan_file else AuditPlan.of(opened)
        plan.check(opened)
        scope = _scope(plan, part) or Scope.whole(plan.size, since=since, sample=sample)
        means, manifest = open_means(settings, data=not no_data, model=not no_model)
        request = AuditRequest(hotkey, settings.netuid, given, means, manifest)
        with open_bars(quiet=json_file == "-") as progress:
            done = request.run(opened, plan, scope, progress)
    _report(done, json_file)
    ctx.exit(1 if done.report.findings else 0)


@audit.command("plan")
@click.argument("bundle")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Where to write the plan.")
def audit_plan(bundle: str, out: Path) -> None:
    """Fix what is audited: the log's name, its size now, and its root. Parts refer to it."""
    import json
    from dataclasses import asdict

    from perturbnet.auditing.parts import AuditPlan
    from perturbnet.transparency.bundle import open_bundle

    with open_bundle(bundle) as opened:
        plan = AuditPlan.of(opened)
    out.write_text(json.dumps(asdict(plan), indent=2) + "\n", encoding="utf-8")
    click.echo(f"{plan.origin}: {plan.size:,} leaves, root {plan.root}")


@audit.command("merge")
@click.argument("parts", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "json_file", metavar="FILE", help="Write the report as JSON; '-' prints it instead.")
@click.pass_context
def audit_merge(ctx: click.Context, parts: tuple[Path, ...], json_file: str | None) -> None:
    """Make one report out of the part `log` and ranges that cover the plan."""
    from perturbnet.auditing.parts import merge, read_part

    whole = merge([read_part(read_file(path).decode()) for path in parts])
    _report(whole, json_file)
    ctx.exit(1 if whole.report.findings else 0)


@audit.command("anchors")
@click.option("--hotkey", required=True, help="The validator, ss58.")
@click.option("--netuid", type=click.IntRange(0, 65535), help="The subnet  [default: NETUID]")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Where to write them.")
def audit_anchors(hotkey: str, netuid: int | None, out: Path) -> None:
    """Read a validator's newest anchor from the chain into a file, for machines without a network."""
    from perturbnet.errors import AuditError
    from perturbnet.transparency.anchors import encode_anchors

    found = read_anchors("chain", hotkey, audit_settings(None, netuid))
    if not found:
        raise AuditError(f"{hotkey} has no anchor on chain")
    out.write_bytes(encode_anchors(found))
    click.echo(f"{len(found)} anchor of {found[-1].size:,} leaves at block {found[-1].block}")


audit.add_command(audit_receipt)
audit.add_command(audit_fraud)


def _scope(plan: AuditPlan, part: str | None) -> Scope | None:
    """What `--part` names; None without it."""
    from perturbnet.auditing.run import Scope

    if part is None:
        return None
    if part == "log":
        return Scope.log(plan.size)
    return Scope.part(plan.size, *read_share(part, also="log, or "))


def _report(part: AuditPart, json_file: str | None) -> None:
    from perturbnet.auditing.summary import summarise

    if json_file != "-":
        click.echo("\n".join(summarise(part)))
    write_text(part.encode(), json_file)
