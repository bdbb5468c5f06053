"""`perturb validator run`, `perturb miner run`: the two neurons, with settings from the command line."""

from __future__ import annotations

from pathlib import Path

import click

from perturbnet.commands.bench_miner import miner_bench
from perturbnet.commands.given import load_given, settings_options


@click.group()
def validator() -> None:
    """The validator: draws images, asks miners, verifies, scores, sets weights."""


@validator.command("run")
@click.option("--paranoid", is_flag=True, help="First hash every file and decode every row of the data set.")
@settings_options
def validator_run(paranoid: bool, pairs: tuple[str, ...], file: Path | None) -> None:
    """Run until Ctrl-C or SIGTERM. Needs WALLET_NAME, WALLET_HOTKEY, NETUID and NETWORK.

    What `perturb bootstrap` prepared is compared with its manifest first; anything else is refused by name.
    """
    from perturbnet.validator.main import main as run

    run(load_given(pairs, file, PERTURB_PARANOID="true" if paranoid else None))


@click.group()
def miner() -> None:
    """The miner: answers challenges with the smallest change it finds."""


@miner.command("run")
@settings_options
def miner_run(pairs: tuple[str, ...], file: Path | None) -> None:
    """Run until Ctrl-C or SIGTERM.

    Needs WALLET_NAME, WALLET_HOTKEY, NETUID, NETWORK and PERTURB_AXON_EXTERNAL_IP.
    """
    from perturbnet.miner.main import main as run

    run(load_given(pairs, file))


miner.add_command(miner_bench)
