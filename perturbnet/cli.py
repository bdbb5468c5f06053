"""`perturb`: parse, call, print. The work is done in the rooms; heavy imports wait until they are needed.

Exit codes: 0 done; 1 a finding or a failure; 2 usage or settings; 3 state or artefacts that were refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from perturbnet import __version__
from perturbnet.commands.audit import audit
from perturbnet.commands.bench import bench
from perturbnet.commands.bootstrap import bootstrap
from perturbnet.commands.certify import certificate, certify
from perturbnet.commands.data import data
from perturbnet.commands.doctor import doctor
from perturbnet.commands.env import env
from perturbnet.commands.evaluate import evaluate
from perturbnet.commands.expectation import miner_bench
from perturbnet.commands.export import export
from perturbnet.commands.fingerprint import fingerprint
from perturbnet.commands.freshness import freshness
from perturbnet.commands.ledger import ledger
from perturbnet.commands.manifest import manifest
from perturbnet.commands.model import model
from perturbnet.commands.pins import pins
from perturbnet.commands.report import certificate_render, report
from perturbnet.commands.state import state
from perturbnet.commands.status import status
from perturbnet.commands.unit import unit
from perturbnet.commands.web import web
from perturbnet.config import Loaded, Setting, load_settings, registry
from perturbnet.errors import PerturbError

F = TypeVar("F", bound=Callable[..., Any])
SHELLS = ("bash", "zsh", "fish")
JSON_HELP = "Also write the table as JSON; '-' prints it instead."


class _Group(click.Group):
    """Turns the project's errors into a sentence and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        """Run the command."""
        try:
            return super().invoke(ctx)
        except PerturbError as error:
            click.echo(f"perturb: {error.diagnostics()}", err=True)
            ctx.exit(error.exit_code)


def _settings_options(command: F) -> F:
    """The options of every command that has settings."""
    command = click.option(
        "--config", "file", type=click.Path(path_type=Path), help="TOML file of settings."
    )(command)
    return click.option(
        "--set",
        "pairs",
        multiple=True,
        metavar="NAME=VALUE",
        help="Set one setting; wins over environment and file.",
    )(command)


def _load(pairs: Sequence[str], file: Path | None, **named: str | None) -> Loaded:
    overrides = {name: text for name, text in named.items() if text is not None}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise click.UsageError(f"--set {pair}: expected NAME=VALUE")
        overrides[name] = text
    return load_settings(os.environ, overrides=overrides, file=file)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="perturb")
def main() -> None:
    """Perturb: adversarial examples whose every verdict can be recomputed by a stranger.

    \b
    Try it:       perturb localnet             a whole network on this machine
                  perturb attack cat.jpg       attack one picture, offline
    Take part:    perturb miner run            answer validators' challenges
                  perturb validator run        challenge miners, verify, set weights
    Check:        perturb audit BUNDLE         recompute a validator's published log
    Use:          perturb export dataset         the adversarial examples as a data set
                  perturb certify                a signed certificate of how the model stood up
                  perturb report                 the same as a page with pictures
    Look:         perturb status               last round, standings, next weights, health
                  perturb web                  the same and more in the browser, with pictures
                  perturb config show          every setting, its value and where it came from
                  perturb doctor               the readiness checklist, executed: what to do before you start
                  perturb smoke                does this machine have what a neuron needs?
    """  # noqa: D301 - \b is click's mark for a block that is not wrapped


@main.group()
def config() -> None:
    """Settings: from command line, environment, TOML file and defaults, in that order."""


@config.command("show")
@_settings_options
@click.option("--json", "json_file", metavar="FILE", help=JSON_HELP)
def config_show(pairs: tuple[str, ...], file: Path | None, json_file: str | None) -> None:
    """Print each setting: value, unit, where it came from, what is allowed."""
    loaded = _load(pairs, file)
    rows = [_setting_row(setting, loaded) for setting in registry()]
    _print_table(rows, ("name", "value", "unit", "from", "allowed", "meaning"), json_file)


def _setting_row(setting: Setting, loaded: Loaded) -> dict[str, str | None]:
    value = getattr(loaded.settings, setting.attribute)
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    return {
        "name": setting.name,
        "value": None if value is None else "(set, hidden)" if setting.secret else shown,
        "unit": setting.unit,
        "from": loaded.origins[setting.name],
        "allowed": setting.kind.allowed,
        "meaning": setting.help,
    }


@main.group()
def validator() -> None:
    """The validator: draws images, asks miners, verifies, scores, sets weights."""


@validator.command("run")
@click.option("--paranoid", is_flag=True, help="First hash every file and decode every row of the data set.")
@_settings_options
def validator_run(paranoid: bool, pairs: tuple[str, ...], file: Path | None) -> None:  # noqa: FBT001 - click's
    """Run until Ctrl-C or SIGTERM. Needs WALLET_NAME, WALLET_HOTKEY, NETUID and NETWORK.

    What `perturb bootstrap` prepared is compared with its manifest first; anything else is refused by name.
    """
    from neurons.validator import main as run

    run(_load(pairs, file, PERTURB_PARANOID="true" if paranoid else None))


@main.group()
def miner() -> None:
    """The miner: answers challenges with the smallest change it finds."""


@miner.command("run")
@_settings_options
def miner_run(pairs: tuple[str, ...], file: Path | None) -> None:
    """Run until Ctrl-C or SIGTERM.

    Needs WALLET_NAME, WALLET_HOTKEY, NETUID, NETWORK and PERTURB_AXON_EXTERNAL_IP.
    """
    from neurons.miner import main as run

    run(_load(pairs, file))


@main.command()
@click.option("--miners", default=8, show_default=True, type=click.IntRange(1, 64),
              help="Miners in all; beyond the first, up to six are bad on purpose.")  # fmt: skip
@click.option("--rounds", default=8, show_default=True, type=click.IntRange(1, 10_000), help="Rounds to run.")
@click.option("--profile", default="reference", show_default=True, help="Data set and model.")
@click.option(
    "--keep", type=click.Path(path_type=Path), help="Folder for everything  [default: localnet/NNN]"
)
@click.option("--seed", help="Text that keys and the order of images follow from; default: random.")
@click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="Set one setting of every process.")
@click.option("--json", "json_file", metavar="FILE", help=JSON_HELP)
def localnet(
    miners: int, rounds: int, profile: str, keep: Path | None, seed: str | None, pairs: tuple[str, ...],
    json_file: str | None,
) -> None:  # fmt: skip
    """Run a whole network on this machine: chain, wallets, one validator, miners good and bad.

    Ends with a table, an audit of its own log, a contact sheet of what was found, and the folder where it is
    all kept. Exit code 1 when no weights were set, or the audit found something.
    """
    from rich.console import Console

    from perturbnet.localnet import run
    from perturbnet.localnet.network import Plan

    folder = keep or run.new_folder(Path("localnet"))
    if (folder / "chain.sqlite").exists():
        raise PerturbError(f"{folder} holds a network already", hint="name another folder with --keep")
    settings = _load(pairs, None).settings
    plan = Plan(
        folder.absolute(),
        miners,
        rounds,
        profile,
        seed,
        settings.cache_dir,
        dict(p.split("=", 1) for p in pairs),
    )
    run.check_overrides(plan)
    outcome = run.run_localnet(plan, Console(stderr=json_file == "-"))
    _write_json(run.outcome_json(plan, outcome), json_file)
    if not outcome.audit.passed:
        raise PerturbError(
            "the network's own log did not pass its audit",
            hint=f"perturb audit {plan.folder / 'bundle'} shows what was found",
        )
    if not outcome.weights_set:
        raise PerturbError(
            "no weights were set on chain", hint=f"see {plan.folder / 'logs' / 'validator.log'}"
        )


@main.command()
@click.option("--profile", help="Data set and model: imagenet100 or reference  [default: PERTURB_PROFILE]")
@click.option("--row", default=0, show_default=True, type=click.IntRange(0), help="Row of the data set.")
@_settings_options
@click.option("--json", "json_file", metavar="FILE", help=JSON_HELP)
def smoke(
    profile: str | None, row: int, pairs: tuple[str, ...], file: Path | None, json_file: str | None
) -> None:
    """Load an image, label it, build a challenge; say for each what was found and how long it took."""
    from perturbnet.commands.smoke import smoke as steps

    settings = _load(pairs, file, PERTURB_PROFILE=profile).settings
    rows = []
    for step in steps(settings, row=row):
        if json_file != "-":
            click.echo(f"{step.name:<10} {step.found}  ({step.seconds:.2f} s)")
        rows.append({"step": step.name, "found": step.found, "seconds": round(step.seconds, 4)})
    _write_json(json.dumps(rows, indent=2), json_file)


@main.command()
@click.argument("image", type=click.Path(path_type=Path), required=False)
@click.option("--attack", "attack_name", help="Attack to use  [default: PERTURB_ATTACK]")
@click.option("--profile", help="Model: imagenet100 or reference  [default: PERTURB_PROFILE]")
@click.option(
    "--seconds",
    "budget_s",
    default=20.0,
    show_default=True,
    type=click.FloatRange(0.1),
    help="Time to search.",
)
@click.option(
    "--out", default=Path(), type=click.Path(path_type=Path), help="Folder for the pictures  [default: here]"
)
@click.option("--list", "list_attacks", is_flag=True, help="List the attacks and end.")
@_settings_options
@click.option("--json", "json_file", metavar="FILE", help=JSON_HELP)
def attack(  # noqa: PLR0913 - one for each option
    *,
    image: Path | None,
    attack_name: str | None,
    profile: str | None,
    budget_s: float,
    out: Path,
    list_attacks: bool,
    pairs: tuple[str, ...],
    file: Path | None,
    json_file: str | None,
) -> None:
    """Attack one picture of yours, offline, and print the verdict a validator would give."""
    from perturbnet.attacks import attack_names

    if list_attacks:
        click.echo("\n".join(attack_names()))
        return
    if image is None:
        raise click.UsageError("name a picture, or --list")
    from perturbnet.commands.picture import attack_picture

    settings = _load(pairs, file, PERTURB_PROFILE=profile, PERTURB_ATTACK=attack_name).settings
    done = attack_picture(image, settings, out=out, budget_s=budget_s)
    verdict = done.verdict
    psnr = "–" if done.psnr_db is None else f"{done.psnr_db:.2f} dB"
    row = {
        "verdict": verdict.reject.value,
        "label": f"{verdict.label_before} -> {verdict.label_after}",
        "score": f"{done.score:.4f}",
        "L-inf": f"{verdict.linf_u8}/255",
        "values changed": str(verdict.changed),
        "SSIM": f"{done.ssim:.6f}",
        "PSNR": psnr,
        "seconds": f"{done.seconds:.2f}",
        "picture": str(done.adversarial),
        "contact sheet": str(done.sheet),
    }
    if json_file != "-":
        for name, text in row.items():
            click.echo(f"{name:<15} {text}")
    _write_json(json.dumps(row, indent=2), json_file)


main.add_command(audit)
main.add_command(export)
main.add_command(report)
main.add_command(ledger)
main.add_command(model)
main.add_command(data)
main.add_command(pins)
main.add_command(bootstrap)
main.add_command(fingerprint)
main.add_command(manifest)
main.add_command(bench)
bench.add_command(freshness)
miner.add_command(miner_bench)
main.add_command(unit)
main.add_command(env)
main.add_command(state)
main.add_command(status)
main.add_command(doctor)
main.add_command(web)
main.add_command(evaluate)
main.add_command(certify)
main.add_command(certificate)
certificate.add_command(certificate_render)


@main.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script for your shell: eval "$(perturb completion bash)"."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"{shell} is not one of {', '.join(SHELLS)}")
    click.echo(found(main, {}, "perturb", "_PERTURB_COMPLETE").source())


def _print_table(
    rows: Sequence[Mapping[str, str | None]], columns: Iterable[str], json_file: str | None
) -> None:
    from rich.console import Console
    from rich.table import Table

    if json_file != "-":
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(row[column] if row[column] is not None else "–" for column in columns))
        Console().print(table)
    _write_json(json.dumps(list(rows), indent=2), json_file)


def _write_json(text: str, json_file: str | None) -> None:
    if json_file == "-":
        click.echo(text)
    elif json_file:
        Path(json_file).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
