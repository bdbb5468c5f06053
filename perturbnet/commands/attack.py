"""`perturb attack`: one picture of the user's own, attacked offline."""

from __future__ import annotations

from pathlib import Path

import click

from perturbnet.commands.given import read_settings, settings_options
from perturbnet.commands.printing import JSON_HELP, print_facts


@click.command()
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
@settings_options
@click.option("--json", "json_file", metavar="FILE", help=JSON_HELP)
def attack(
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

    settings = read_settings(pairs, file, PERTURB_PROFILE=profile, PERTURB_ATTACK=attack_name)
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
    print_facts(row, json_file)
