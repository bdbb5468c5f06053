"""`perturb`: parse, call, print. The work is done in the rooms; heavy imports wait until they are needed.

Exit codes: 0 done; 1 a finding or a failure; 2 usage or settings; 3 state or artefacts that were refused.
"""

from __future__ import annotations

import os
from typing import Any

import click

from perturbnet.commands.attack import attack
from perturbnet.commands.audit import audit
from perturbnet.commands.bench_attacks import bench
from perturbnet.commands.bootstrap import bootstrap
from perturbnet.commands.certify import certificate, certify
from perturbnet.commands.config import config
from perturbnet.commands.data import data
from perturbnet.commands.doctor import doctor
from perturbnet.commands.env import env
from perturbnet.commands.evaluate import evaluate
from perturbnet.commands.export import export
from perturbnet.commands.fingerprint import fingerprint
from perturbnet.commands.ledger import ledger
from perturbnet.commands.localnet import localnet
from perturbnet.commands.manifest import manifest
from perturbnet.commands.model import model
from perturbnet.commands.neurons import miner, validator
from perturbnet.commands.pins import pins
from perturbnet.commands.report import report
from perturbnet.commands.smoke import smoke
from perturbnet.commands.state import state
from perturbnet.commands.status import status
from perturbnet.commands.unit import unit
from perturbnet.commands.web import web
from perturbnet.errors import PerturbError
from perturbnet.version import __version__

SHELLS = ("bash", "zsh", "fish")


class _Group(click.Group):
    """Turns the project's errors, and files that cannot be used, into a sentence and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except PerturbError as error:
            click.echo(f"perturb: {error.diagnostics()}", err=True)
            ctx.exit(error.exit_code)
        except OSError as error:
            if error.filename is None:
                raise
            click.echo(f"perturb: {os.fsdecode(error.filename)}: {error.strerror}", err=True)
            ctx.exit(PerturbError.exit_code)


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
    Use:          perturb export dataset       the adversarial examples as a data set
                  perturb certify              a signed certificate of how the model stood up
                  perturb report               the same as a page with pictures
                  perturb evaluate             the same of your own model, on your own images, offline
    Look:         perturb status               last round, standings, next weights, health
                  perturb web                  the same and more in the browser, with pictures
                  perturb config show          every setting, its value and where it came from
                  perturb doctor               the readiness checklist, executed: what to do before you start
                  perturb smoke                does this machine have what a neuron needs?
    """


for command in (
    attack,
    audit,
    bench,
    bootstrap,
    certificate,
    certify,
    config,
    data,
    doctor,
    env,
    evaluate,
    export,
    fingerprint,
    ledger,
    localnet,
    manifest,
    miner,
    model,
    pins,
    report,
    smoke,
    state,
    status,
    unit,
    validator,
    web,
):
    main.add_command(command)


@main.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script for your shell: eval "$(perturb completion bash)"."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"{shell} is not one of {', '.join(SHELLS)}")
    click.echo(found(main, {}, "perturb", "_PERTURB_COMPLETE").source())


if __name__ == "__main__":
    main()
