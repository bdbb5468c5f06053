"""`perturb bench freshness`: what a miner earns that lives from prepared answers."""

from __future__ import annotations

from typing import Any

import click

from perturbnet.commands.given import read_settings
from perturbnet.commands.printing import write_json
from perturbnet.display.bars import open_bar


@click.command("freshness")
@click.option("--n", "pictures", default=40, show_default=True, type=click.IntRange(2), help="Pictures.")
@click.option("--draws", default=3, show_default=True, type=click.IntRange(1), help="Challenges of each.")
@click.option("--attack", "attack_name", help="Attack that prepares and searches  [default: PERTURB_ATTACK]")
@click.option(
    "--seconds", "budget_s", default=2.0, show_default=True, type=click.FloatRange(0.1), help="For a search."
)
@click.option(
    "--clock",
    default="virtual",
    show_default=True,
    type=click.Choice(("virtual", "wall")),
    help="virtual: each pass costs a stated time, so the table is the same on every machine.",
)
@click.option("--profile", help="Data set and model: imagenet100 or reference  [default: PERTURB_PROFILE]")
@click.option("--split", help="Split of the data set  [default: the one that validators draw from]")
@click.option(
    "--scale",
    nargs=2,
    type=click.IntRange(100, 1000),
    metavar="LEAST MOST",
    help="Try another rescale, in thousandths.",
)
@click.option(
    "--cut",
    nargs=2,
    type=click.IntRange(0, 900),
    metavar="LEAST MOST",
    help="Try another cut of each side, in thousandths.",
)
@click.option(
    "--form",
    default=2,
    show_default=True,
    type=click.IntRange(1, 2),
    help="The network's form of freshness to begin from; 1 had one view.",
)
@click.option("--views", type=click.IntRange(1, 256), help="Try at most so many views of a draw.")
@click.option("--robust/--no-robust", default=True, help="Prepare against many warps too: most of the time.")
@click.option("--json", "json_file", metavar="FILE", help="Also write all trials as JSON; '-' prints it.")
def freshness(
    *,
    pictures: int,
    draws: int,
    attack_name: str | None,
    budget_s: float,
    clock: str,
    profile: str | None,
    split: str | None,
    scale: tuple[int, int] | None,
    cut: tuple[int, int] | None,
    form: int,
    views: int | None,
    robust: bool,
    json_file: str | None,
) -> None:
    """Let a miner try to live from prepared answers, and compare it with one that searches.

    It has attacked every picture in advance, as it is and mirrored, and warps what it prepared to the
    challenge. `cached` sends that as it is, `amplified` multiplies it until it is accepted, `robust` prepared
    it against many warps at once. `share` is what each earns of what a search earns, with freshness on.

    \b
    perturb bench freshness --n 8                  a first look, minutes
    perturb bench freshness --cut 0 62             with milder ranges
    perturb bench freshness --form 1               as the network first had it
    """
    from dataclasses import replace

    from perturbnet.rules.freshness import FRESHNESS_FORMS

    _require_order(scale=scale, cut=cut)
    settings = read_settings(PERTURB_PROFILE=profile, PERTURB_ATTACK=attack_name)
    asked = {"scale_milli": scale, "cut_milli": cut, "views": views}
    changes: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    ranges = replace(FRESHNESS_FORMS[form], **changes)
    found = _run(settings, ranges, pictures, draws, budget_s, clock, split, robust=robust)
    if json_file != "-":
        _print(found)
    write_json(found, json_file)


def _require_order(**ranges: tuple[int, int] | None) -> None:
    for name, given in ranges.items():
        if given is not None and given[0] > given[1]:
            raise click.UsageError(f"--{name} {given[0]} {given[1]}: the least is above the most")


def _run(
    settings: Any,
    ranges: Any,
    pictures: int,
    draws: int,
    budget_s: float,
    clock: str,
    split: str | None,
    *,
    robust: bool,
) -> dict[str, Any]:
    from dataclasses import asdict

    from perturbnet.attack_comparison.freshness import FreshnessBench, summarise
    from perturbnet.attacks import open_attack
    from perturbnet.classifier import open_engine
    from perturbnet.classifier.canonical.profiles import open_gradient
    from perturbnet.datasets import open_source
    from perturbnet.rules.from_settings import build_rules

    profile, cache_dir, device = settings.profile, settings.cache_dir, settings.device
    source = open_source(profile, cache_dir=cache_dir, split=split)
    pictures = min(pictures, source.identity.rows)
    bench = FreshnessBench(
        open_engine(profile, cache_dir=cache_dir, device=device, kind=settings.engine),
        open_gradient(profile, cache_dir=cache_dir, device=device),
        open_attack(settings.attack),
        build_rules(settings),
        budget_s,
        clock == "virtual",
        ranges,
        robust,
    )
    rows = [number * source.identity.rows // pictures for number in range(pictures)]
    trials = []
    with open_bar("pictures") as progress:
        for done, row in enumerate(rows, 1):
            trials += bench.run(row, source.read(row).pixels, draws)
            progress(done, pictures)
    return {
        "profile": profile,
        "split": source.identity.split,
        "attack": settings.attack,
        "seconds": budget_s,
        "clock": clock,
        "ranges": asdict(ranges),
        "miners": summarise(trials),
        "trials": [asdict(trial) for trial in trials],
    }


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    ranges = found["ranges"]
    title = f"{found['profile']}, {found['attack']} for {found['seconds']} s; rescale {ranges['scale_milli']}"
    title += f", cut {ranges['cut_milli']} thousandths; {ranges['views']} views"
    table = Table(title=title, title_justify="left", box=None)
    for heading in ("miner", "off", "on", "share", "95 %", "success on"):
        table.add_column(heading, justify="left" if heading == "miner" else "right")
    for row in found["miners"]:
        table.add_row(
            row["miner"],
            "–" if row["off"] is None else f"{row['off']:.3f}",
            f"{row['on']:.3f}",
            f"{row['share']:.1%}",
            f"{row['share_low']:.1%} to {row['share_high']:.1%}",
            f"{row['success']:.1%}",
        )
    Console().print(table)
