"""`perturb audit fraud`: two heads of one log that contradict each other, checked offline."""

from __future__ import annotations

from pathlib import Path

import click

from perturbnet.auditing.opening import read_file


@click.command("fraud")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--hotkey", help="The validator it should be against, ss58.")
def audit_fraud(file: Path, hotkey: str | None) -> None:
    """Verify a proof of fraud: two signed heads of one log that cannot both be true.

    Needs no network, no chain and no log. Exit code 0: it is proven, and the line says against whom. 3: the
    file proves nothing, and the line says why.
    """
    from perturbnet.transparency.fraud import verify_fraud_proof

    proof = verify_fraud_proof(read_file(file), hotkey=hotkey)
    click.echo(f"Proven: {proof.describe()}")
