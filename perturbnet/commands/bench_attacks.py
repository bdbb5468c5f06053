"""`perturb bench`: measure attacks on this machine, judged as the network judges."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from perturbnet.commands.bench_freshness import freshness
from perturbnet.commands.given import read_settings
from perturbnet.commands.printing import write_json
from perturbnet.display.bars import open_bar

BUDGETS = "1,2,5,18"


@click.group()
def bench() -> None:
    """Benches: how well attacks do, by the verifier's word."""


bench.add_command(freshness)


@bench.command("attacks")
@click.option("--n", "images", default=60, show_default=True, type=click.IntRange(1), help="Images.")
@click.option(
    "--budgets", default=BUDGETS, show_default=True, metavar="S,S,…", help="Time budgets, in seconds."
)
@click.option("--attack", "ours", default="exchange", show_default=True, help="Attack all are compared with.")
@click.option(
    "--against",
    default="pgd,fgsm",
    show_default=True,
    metavar="NAME,NAME,…",
    help="Its opponents: names (--list), module:Class, `public` for libraries' attacks, `all`.",
)
@click.option("--list", "list_attacks", is_flag=True, help="List the attacks and opponents, and end.")
@click.option(
    "--clock",
    default="virtual",
    show_default=True,
    type=click.Choice(("virtual", "wall")),
    help="virtual: each pass costs a stated time, so the table is the same on every machine.",
)
@click.option("--forward-ms", default=6.0, show_default=True, help="Virtual cost of an image's forward pass.")
@click.option("--backward-ms", default=12.0, show_default=True, help="Virtual cost of its backward pass.")
@click.option("--verification-ms", default=25.0, show_default=True, help="Virtual cost of a verification.")
@click.option("--similarity-ms", default=6.0, show_default=True, help="Virtual cost of an SSIM.")
@click.option("--profile", help="Data set and model: imagenet100 or reference  [default: PERTURB_PROFILE]")
@click.option("--jobs", default=0, help="Processes of one thread each  [default: the machine's cores]")
@click.option(
    "--record",
    default=Path("attack-bench.jsonl"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="Every trial is kept here; a run that was broken off goes on from it.",
)
@click.option("--picture", type=click.Path(path_type=Path), help="Write score over time as SVG.")
@click.option(
    "--json", "json_file", metavar="FILE", help="Also write the table as JSON; '-' prints it instead."
)
def attacks(
    *,
    images: int,
    budgets: str,
    ours: str,
    against: str,
    list_attacks: bool,
    clock: str,
    forward_ms: float,
    backward_ms: float,
    verification_ms: float,
    similarity_ms: float,
    profile: str | None,
    jobs: int,
    record: Path,
    picture: Path | None,
    json_file: str | None,
) -> None:
    """Compare attacks: score at time budgets, success, changed values, passes, late answers.

    Challenges are drawn as validators draw them, from rows the network was not trained on, and every
    answer is verified as a validator would. One run of each attack on each image gives the score at
    every budget.

    \b
    perturb bench attacks --n 12                                a first look, a minute
    perturb bench attacks --against all --picture scores.svg    everything, half an hour and more
    perturb bench attacks --attack mine --against exchange      your own, by entry point
    perturb bench attacks --attack my_file:MyAttack             your own, not installed yet
    """
    from perturbnet.attack_comparison.contenders import contender_names, expand, open_contender
    from perturbnet.attack_comparison.metering import VirtualCosts
    from perturbnet.attack_comparison.running import ComparisonPlan, run_plan
    from perturbnet.attack_comparison.table import tabulate, to_markdown
    from perturbnet.attack_comparison.values import compare_values, values_markdown

    if list_attacks:
        click.echo("\n".join(contender_names()))
        return
    budgets_s = _read_budgets(budgets)
    specs = tuple(dict.fromkeys([ours, *expand(against)]))
    names = [open_contender(spec).name for spec in specs]
    costs = VirtualCosts(*(each / 1000 for each in (forward_ms, backward_ms, verification_ms, similarity_ms)))
    plan = ComparisonPlan(specs, images, budgets_s[-1], clock == "virtual", costs)
    with open_bar("trials") as progress:
        trials = run_plan(
            plan, read_settings(PERTURB_PROFILE=profile), record, jobs=jobs or _cores(), progress=progress
        )
    values = compare_values(trials, budgets_s[-1], names[0])
    table = {"clock": clock, **tabulate(trials, budgets_s, names[0]), "values": values}
    if picture is not None:
        picture.write_text(_draw(trials, names, budgets_s[-1], clock), encoding="utf-8")
    if json_file != "-":
        click.echo(to_markdown(table))
        click.echo(values_markdown(values, names[0]))
    write_json(table, json_file)


def _read_budgets(text: str) -> list[float]:
    try:
        budgets = sorted(float(part) for part in text.split(","))
    except ValueError as error:
        raise click.UsageError(f"--budgets {text!r}: expected seconds with commas, like {BUDGETS}") from error
    if budgets[0] <= 0:
        raise click.UsageError(f"--budgets {text!r}: each must be above 0")
    return budgets


def _draw(trials: list[dict[str, Any]], names: list[str], last_s: float, clock: str) -> str:
    from perturbnet.attack_comparison.picture import draw, times
    from perturbnet.attack_comparison.table import curve

    moments = times(last_s)
    images = len({trial["image"] for trial in trials})
    title = f"Mean score over the time budget, {images} images, {clock} clock"
    return draw({name: curve(trials, name, moments) for name in names}, moments, title)


def _cores() -> int:
    return len(os.sched_getaffinity(0))
