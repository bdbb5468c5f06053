"""`perturb evaluate`: the network's evaluation of a user's own model, offline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perturbnet.commands.given import read_settings, split_pairs
from perturbnet.commands.printing import write_json
from perturbnet.display.bars import open_bar

if TYPE_CHECKING:
    from perturbnet.attack_comparison.metering import VirtualCosts
    from perturbnet.evaluation.run import EvaluationRequest, PreparedEvaluation

DEFAULT_OUT = Path("evaluation")


@click.command()
@click.option(
    "--model",
    required=True,
    metavar="timm:NAME|FILE.safetensors|reference",
    help="A name of timm's in a hub cache, a file of weights, or the package's own.",
)
@click.option(
    "--images",
    "folder",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Pictures: DIR/class/picture.png, or DIR/picture.png without classes.",
)
@click.option(
    "--attack",
    "attacks",
    multiple=True,
    default=("exchange",),
    show_default=True,
    help="Attack; may be given several times. `perturb attack --list` names them.",
)
@click.option(
    "--seconds",
    default="20",
    show_default=True,
    metavar="S",
    help="Time that each attack has for each image.",
)
@click.option(
    "--out",
    default=DEFAULT_OUT,
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder for everything; the same command goes on with what is there.",
)
@click.option(
    "--arch", metavar="NAME", help="FILE's architecture, as timm calls it  [default: what FILE says]"
)
@click.option(
    "--labels",
    metavar="FILE|folders",
    help="Names of the outputs: a file, or the class folders' names, sorted.",
)
@click.option("--unlabelled", is_flag=True, help="Folders are no classes: no accuracy against ground truth.")
@click.option("--limit", type=click.IntRange(1), help="Judge only so many pictures, drawn by --seed.")
@click.option("--seed", default="", help="Text that the order of pictures and --limit follow from.")
@click.option(
    "--longest-side",
    type=click.IntRange(32, 8192),
    metavar="PIXELS",
    help="Make larger pictures smaller first, in exact integers.",
)
@click.option("--size", type=click.IntRange(1, 2048), help="Side of the network's input  [default: timm's]")
@click.option(
    "--interpolation", "kernel", type=click.Choice(("bicubic", "bilinear")), help="[default: timm's]"
)
@click.option("--resize", type=click.Choice(("shorter", "squash")), help="What is resized  [default: timm's]")
@click.option("--crop-pct", metavar="SHARE", help="What the crop keeps  [default: timm's]")
@click.option("--mean", nargs=3, metavar="R G B", help="Mean of levels / 255  [default: timm's]")
@click.option("--std", nargs=3, metavar="R G B", help="Their deviation  [default: timm's]")
@click.option(
    "--clock",
    default="wall",
    show_default=True,
    type=click.Choice(("wall", "virtual")),
    help="virtual: each pass costs a stated time, so a run finds the same again.",
)
@click.option(
    "--costs-ms",
    nargs=4,
    type=click.FloatRange(0.001),
    metavar="F B V S",
    help="Virtual costs: forward, backward, verification, SSIM  [default: 6 12 25 6]",
)
@click.option("--freshness", is_flag=True, help="Rescale, crop and flip each picture as the network does.")
@click.option("--float64", "plain", is_flag=True, help="Judge in float64 even where it could be compiled.")
@click.option("--fetch", is_flag=True, help="Ask the hub for timm:NAME's weights where no cache has them.")
@click.option(
    "--key",
    "key_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="An unencrypted hotkey that owns the log  [default: one of its own]",
)
@click.option("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N  [default: PERTURB_DEVICE]")
@click.option("--check", is_flag=True, help="Judge nothing: recompute the log in --out, as a stranger would.")
@click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="Set one setting, e.g. a gate.")
@click.option(
    "--json", "json_file", metavar="FILE", help="Also write the result as JSON; '-' prints it instead."
)
@click.pass_context
def evaluate(ctx: click.Context, /, **given: Any) -> None:
    """Evaluate any classifier on your own images, by the network's rules, offline.

    Every image is attacked and every answer verified as a validator would, in a ledger of its own; it ends in
    a certificate and a report. Only safetensors are read. A network of the EfficientNetV2 family whose
    preprocessing allows it is compiled, and every number can be recomputed bit for bit on any machine; others
    are judged in float64, and certificate and report say so.

    \b
    perturb evaluate --model timm:resnet18 --images photos --limit 100
    perturb evaluate --model mine.safetensors --arch convnext_atto --labels folders --images photos
    perturb evaluate ... --clock virtual --seconds 5        the same numbers again

    Killed or interrupted, the same command goes on. Exit code 0: done; 1: its own audit found something;
    2: options; 3: --out holds another evaluation, or an image changed.
    """
    from perturbnet.evaluation.judging import conclude_with_products
    from perturbnet.evaluation.outcome import conclude, introduce
    from perturbnet.evaluation.run import prepare

    quiet = given["json_file"] == "-"
    request = _request(given)
    with open_bar("reading", quiet=quiet) as reading:
        prepared = prepare(request, reading)
    _say(introduce(prepared), quiet=quiet)
    if not given["check"]:
        _judge(ctx, prepared, quiet=quiet)
    with open_bar("checking", quiet=quiet) as show:
        finish = conclude if given["check"] else conclude_with_products
        outcome = finish(prepared, lambda what, done, of: show(done, of, what))
    _say(outcome.lines(), quiet=quiet)
    write_json(outcome.to_json(), given["json_file"])
    ctx.exit(0 if outcome.passed else 1)


def _request(given: dict[str, Any]) -> EvaluationRequest:
    from perturbnet.evaluation.attackers import SearchBudget
    from perturbnet.evaluation.images import ImageOptions
    from perturbnet.evaluation.networks import Choices
    from perturbnet.evaluation.run import EvaluationRequest
    from perturbnet.evaluation.session import offline_settings

    overrides = offline_settings(given["seconds"], freshness=given["freshness"])
    for name in split_pairs(given["pairs"]):
        if name in overrides:
            raise click.UsageError(f"--set {name}: an evaluation sets it itself (--seconds, --freshness)")
    settings = read_settings(given["pairs"], None, PERTURB_DEVICE=given["device"], **overrides)
    virtual = given["clock"] == "virtual"
    if given["costs_ms"] and not virtual:
        raise click.UsageError("--costs-ms: needs --clock virtual")
    return EvaluationRequest(
        model=given["model"],
        images=given["folder"],
        out=given["out"],
        settings=settings,
        attacks=list(given["attacks"]),
        budget=SearchBudget(float(settings.timeout_seconds), virtual, _costs(given["costs_ms"])),
        arch=given["arch"],
        choices=Choices(
            given["labels"],
            given["size"],
            given["kernel"],
            given["crop_pct"],
            given["resize"],
            given["mean"] or None,
            given["std"] or None,
        ),
        wish=ImageOptions(given["limit"], given["seed"], given["longest_side"]),
        labelled=not given["unlabelled"],
        compiled=not given["plain"],
        fetch=given["fetch"],
        key_file=given["key_file"],
    )


def _say(lines: list[str], *, quiet: bool) -> None:
    if not quiet:
        click.echo("\n".join(lines))


def _costs(milliseconds: tuple[float, ...] | None) -> VirtualCosts:
    from perturbnet.attack_comparison.metering import VirtualCosts

    return VirtualCosts(*(each / 1000 for each in milliseconds)) if milliseconds else VirtualCosts()


def _judge(ctx: click.Context, prepared: PreparedEvaluation, *, quiet: bool) -> None:
    """Every image that is left; an interruption is said, and ends the command."""
    from perturbnet.evaluation.judging import judge_images

    reached = 0, prepared.images.identity.rows
    with open_bar("judging", quiet=quiet) as show:

        def tell(done: int, of: int, said: str) -> None:
            nonlocal reached
            reached = done, of
            show(done, of, said)

        try:
            judge_images(prepared, tell)
        except KeyboardInterrupt:
            done, of = reached
            said = f"Interrupted: {done} of {of} images judged; the same command goes on."
            click.echo(said, err=True)
            ctx.exit(1)
