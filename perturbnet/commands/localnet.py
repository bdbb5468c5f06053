"""`perturb localnet`: a whole network on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from perturbnet.commands.given import read_settings, split_pairs
from perturbnet.commands.printing import JSON_HELP, TO_STDOUT, write_text
from perturbnet.errors import PerturbError


@click.command()
@click.option(
    "--miners",
    default=8,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Miners in all; beyond the first, up to six are bad on purpose.",
)
@click.option("--rounds", default=8, show_default=True, type=click.IntRange(1, 10_000), help="Rounds to run.")
@click.option("--profile", default="reference", show_default=True, help="Data set and model.")
@click.option(
    "--keep", type=click.Path(path_type=Path), help="Folder for everything  [default: localnet/NNN]"
)
@click.option("--seed", help="Text that keys and the order of images follow from; default: random.")
@click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="Set one setting of every process.")
@click.option("--json", "json_file", metavar="FILE", help=JSON_HELP)
def localnet(
    miners: int,
    rounds: int,
    profile: str,
    keep: Path | None,
    seed: str | None,
    pairs: tuple[str, ...],
    json_file: str | None,
) -> None:
    """Run a whole network on this machine: chain, wallets, one validator, miners good and bad.

    Ends with a table, an audit of its own log, a contact sheet of what was found, and the folder where it is
    all kept. Exit code 1 when no weights were set, or the audit found something.
    """
    from rich.console import Console

    from perturbnet.localnet import run
    from perturbnet.localnet.network import LocalnetPlan

    folder = keep or run.new_folder(Path("localnet"))
    if (folder / "chain.sqlite").exists():
        raise PerturbError(f"{folder} holds a network already", hint="name another folder with --keep")
    settings = read_settings(pairs)
    plan = LocalnetPlan(
        folder.absolute(),
        miners,
        rounds,
        profile,
        seed,
        settings.cache_dir,
        split_pairs(pairs),
    )
    run.check_overrides(plan)
    outcome = run.run_localnet(plan, Console(stderr=json_file == TO_STDOUT))
    write_text(run.outcome_json(plan, outcome), json_file)
    if not outcome.audit.passed:
        raise PerturbError(
            "the network's own log did not pass its audit",
            hint=f"perturb audit {plan.folder / 'bundle'} shows what was found",
        )
    if not outcome.weights_set:
        raise PerturbError(
            "no weights were set on chain", hint=f"see {plan.folder / 'logs' / 'validator.log'}"
        )
