"""Step 4 of a verification: whether shares and intervals follow from the counts beside them."""

from __future__ import annotations

from collections.abc import Iterator

from perturbnet.errors import OutputError
from perturbnet.statistics.robustness import Rate, Statistics, rate


def wrong_rates(said: Statistics) -> Iterator[str]:
    """What is wrong with the shares and intervals of a certificate's counts."""
    trials = {"stability": said.images, "clean_accuracy": said.labelled, "robust_accuracy": said.labelled}
    for name, images in trials.items():
        found: Rate = getattr(said, name)
        sizes = {found.trials, found.exact.trials, found.anytime.trials}
        if said.attempts != images and said.attempts in sizes:
            yield f"{name}: an interval over {said.attempts} attempts instead of {images} images"
        elif sizes != {images}:
            yield f"{name}: of {sorted(sizes)} images, expected {images}"
        elif name == "stability" and found.successes != said.images - said.broken:
            yield f"stability: {found.successes} unbroken of {said.images}, of which {said.broken} broken"
        else:
            try:
                expected = rate(found.successes, images, found.exact.level)
            except OutputError as error:
                yield f"{name}: {error.message}"
                continue
            if found != expected:
                yield f"{name}: expected {_bounds(expected)}, got {_bounds(found)}"


def _bounds(found: Rate) -> str:
    exact, always = found.exact, found.anytime
    return f"{found.share} [{exact.lower}, {exact.upper}], anytime [{always.lower}, {always.upper}]"
