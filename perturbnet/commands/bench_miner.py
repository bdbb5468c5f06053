"""`perturb miner bench`: what a miner can expect of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from perturbnet.commands.given import read_settings
from perturbnet.commands.printing import print_facts, write_json
from perturbnet.display.bars import open_bar

if TYPE_CHECKING:
    from perturbnet.config import Settings

TIMEOUTS = "5,10,20"


@click.command("bench")
@click.option("--n", "challenges", default=8, show_default=True, type=click.IntRange(1), help="Challenges.")
@click.option("--seconds", default=TIMEOUTS, show_default=True, metavar="S,S,…", help="Time-outs.")
@click.option(
    "--at-once",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Searches that share the model.",
)
@click.option("--attack", "attack_name", help="Attack  [default: PERTURB_ATTACK]")
@click.option("--profile", help="Data set and model: imagenet100 or reference  [default: PERTURB_PROFILE]")
@click.option(
    "--json", "json_file", metavar="FILE", help="Also write the result as JSON; '-' prints it instead."
)
def miner_bench(
    challenges: int,
    seconds: str,
    at_once: int,
    attack_name: str | None,
    profile: str | None,
    json_file: str | None,
) -> None:
    """Measure this machine as a miner: what a pass costs, and the score at several time-outs.

    Real searches with the real model, judged by the verifier; each lasts as long as the longest time-out. Run
    it while nothing else runs.

    \b
    perturb miner bench                            8 challenges, 20 s each
    perturb miner bench --at-once 4 --n 12         with several validators asking at once
    """
    settings = read_settings(PERTURB_PROFILE=profile, PERTURB_ATTACK=attack_name)
    timeouts_s = _read_timeouts(seconds, float(settings.answer_reserve_seconds))
    found = _measure(settings, challenges, timeouts_s, at_once)
    if json_file != "-":
        _print(found)
    write_json(found, json_file)


def _read_timeouts(text: str, reserve_s: float) -> list[float]:
    try:
        timeouts_s = sorted({float(part) for part in text.split(",")})
    except ValueError as error:
        raise click.UsageError(
            f"--seconds {text!r}: expected seconds with commas, like {TIMEOUTS}"
        ) from error
    if not reserve_s < timeouts_s[0] <= timeouts_s[-1] <= 600:
        raise click.UsageError(
            f"--seconds {text!r}: each must be above {reserve_s} (the reserve) and at most 600"
        )
    return timeouts_s


def _measure(settings: Settings, challenges: int, timeouts_s: list[float], at_once: int) -> dict[str, Any]:
    from perturbnet.miner.expectation import expect

    with open_bar("challenges") as progress:
        return expect(
            settings, challenges=challenges, timeouts_s=timeouts_s, at_once=at_once, progress=progress
        )


def _print(found: dict[str, Any]) -> None:
    costs = found["costs"]
    precision = "bfloat16" if found["bfloat16"] else "float32"
    batch = costs["images_per_pass"]
    lines = {
        "model": f"{found['profile']} on {found['device']}, {precision} to search, attack {found['attack']}",
        "pictures": f"{found['challenges']} from {found['pictures']}, {found['at_once']} at once",
        "forward pass": f"{costs['forward_s'] * 1e3:.1f} ms an image",
        "gradient": f"{costs['gradient_s'] * 1e3:.1f} ms an image alone, "
        f"{costs['pass_s'] / batch * 1e3:.1f} ms in batches of {batch}",
        "verifying": f"{(costs['verdict_s'] + costs['answer_s']) * 1e3:.1f} ms an image",
        "memory": f"{found['peak_mib']:.0f} MiB at most"
        + ("" if found["peak_device_mib"] is None else f", {found['peak_device_mib']:.0f} MiB on the device"),
        "passes": f"{found['forward_passes']:.0f} forward, {found['backward_passes']:.0f} backward each",
        "late answers": str(found["late"]),
    }
    for row in found["timeouts"]:
        name = f"score at {row['timeout_s']:g} s"
        lines[name] = f"{row['score']:.3f}, {row['answered']:.0%} answered"
    print_facts(lines)
