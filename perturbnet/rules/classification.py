"""What a classifier says to an image, and what an engine is.

Verdicts depend on these values alone; the engines themselves live in `perturbnet.classifier`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from perturbnet.wire.images import Pixels

CANONICAL = ("float64", "integer")  # engines whose answer is the same on every machine


@dataclass(frozen=True, slots=True)
class Classification:
    """The network's answer for one image.

    `index` and `text` name the class; `logits_digest` is hex SHA-256 of the logits as little-endian float64;
    `margin` is the largest logit less the second; `saturated` counts numbers that cannot be trusted.
    """

    index: int
    text: str
    logits_digest: str
    margin: float
    saturated: int

    @property
    def healthy(self) -> bool:
        """Whether every number can be trusted."""
        return self.saturated == 0


class Engine(Protocol):
    """A classifier: preprocessing, network and labels in one."""

    @property
    def name(self) -> str:
        """Which engine this is, for example float32."""
        ...

    @property
    def model_name(self) -> str:
        """Which network it runs."""
        ...

    @property
    def model_digest(self) -> str:
        """Hex SHA-256 that names weights, preprocessing and labels."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """Class texts by index; a text may appear twice."""
        ...

    @property
    def together(self) -> int:
        """How many images share one pass; a call with more takes several."""
        ...

    def classify(self, images: Sequence[Pixels]) -> list[Classification]:
        """Classify uint8 images (H, W, 3) of any sizes, each on its own terms, in the order given."""
        ...
