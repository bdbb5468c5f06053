"""`evaluate`: the network's evaluation of a model on a folder of pictures, offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from perturbnet.api.arguments import machine_settings, read_count, read_seconds
from perturbnet.evaluation.attackers import SearchBudget
from perturbnet.evaluation.images import ImageOptions
from perturbnet.evaluation.judging import conclude_with_products, judge_images
from perturbnet.evaluation.outcome import EvaluationOutcome
from perturbnet.evaluation.run import EvaluationRequest, prepare
from perturbnet.evaluation.session import offline_settings


def evaluate(
    model: str,
    images: str | Path,
    *,
    out: str | Path,
    limit: int | None = None,
    seconds: float = 20.0,
    attacks: Sequence[str] = ("exchange",),
    labelled: bool = True,
) -> EvaluationOutcome:
    """Attack a model on every picture of a folder, by the network's rules, in a ledger of its own.

    As `perturb evaluate`, which has more options: it ends in a published log, a certificate and a report in
    `out`. Killed or interrupted, the same call goes on; a call that was finished only counts again.

    Args:
        model: `reference` (the network in the package), `timm:NAME`, or a file of safetensors that says its
            architecture.
        images: a folder: `class/picture.png`, or `picture.png` without classes.
        out: the folder for everything; new, or of the same evaluation.
        limit: judge only so many pictures.
        seconds: the time that each attack has for each picture.
        attacks: names as `attack` takes them.
        labelled: False where the folders' names are no classes of the model.

    Returns:
        `statistics` (stability, accuracies with intervals, reject codes), `audit` (what recomputing the log
        found), `certificate`, `files`; `passed` when nothing was found, and `lines()` for people.

    Raises:
        ArgumentError, ConfigError: an argument that is not allowed.
        ArtifactMissing, ModelError: the model is not on this machine, or cannot be run.
        DatasetError: no pictures, or a folder that is no class of the model.
        LedgerError: `out` holds something else, or another process evaluates there.
        AttackError: an attack failed; nothing may be concluded from that.

    Example:
        >>> import numpy, pathlib, perturbnet, PIL.Image, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> (folder / "photos").mkdir()
        >>> square = PIL.Image.fromarray(numpy.full((96, 96, 3), 128, dtype=numpy.uint8))
        >>> square.save(folder / "photos" / "square.png")
        >>> outcome = perturbnet.evaluate("reference", folder / "photos", out=folder / "out", seconds=0.5)
        >>> outcome.passed, outcome.statistics.images
        (True, 1)

    """
    budget_s = read_seconds(seconds)
    settings = machine_settings(**offline_settings(f"{budget_s:g}", freshness=False))
    request = EvaluationRequest(
        model=model,
        images=Path(images),
        out=Path(out),
        settings=settings,
        attacks=list(attacks),
        budget=SearchBudget(float(settings.timeout_seconds)),
        wish=ImageOptions(read_count("limit", limit)),
        labelled=labelled,
    )
    prepared = prepare(request, lambda _done, _of: None)
    judge_images(prepared)
    return conclude_with_products(prepared, lambda _what, _done, _of: None)
