"""What the classes are called. A verdict compares class texts, so the texts are part of the model's identity.

ImageNet's 1000 texts are WordNet's lemmas as timm has them (`timm.data.ImageNetInfo`), copied into the
package so that no library's update changes a verdict; a test compares. Two of them are the same ("crane", the
bird and the machine): moving from one to the other is not a flip, because texts are compared; the index is
recorded beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

from perturbnet.errors import ModelError

REFERENCE_LABELS = (
    "arrow",
    "crescent",
    "cross",
    "disc",
    "heart",
    "hourglass",
    "ring",
    "square",
    "star",
    "triangle",
)


@dataclass(frozen=True, slots=True)
class ImageNetClass:
    """One of ImageNet's 1000 classes: its index in the network's output, WordNet synset, and text."""

    index: int
    synset: str
    text: str


@cache
def imagenet_classes() -> tuple[ImageNetClass, ...]:
    """Return the 1000 classes in the order of the network's output."""
    rows = [line.split("\t") for line in _read("imagenet1k-labels.tsv")]
    if len(rows) != 1000:
        raise ModelError(f"imagenet1k-labels.tsv holds {len(rows)} classes; expected 1000")
    return tuple(ImageNetClass(index, synset, text) for index, (synset, text) in enumerate(rows))


@cache
def imagenet100_classes() -> tuple[ImageNetClass, ...]:
    """Return the network's classes for the 100 labels of `clane9/imagenet-100`, in its order.

    The synsets are those of HobbitLong/CMC, imagenet100.txt, which the data set was made from.
    """
    by_synset = {known.synset: known for known in imagenet_classes()}
    return tuple(by_synset[synset] for synset in _read("imagenet100-synsets.txt"))


def imagenet_labels() -> tuple[str, ...]:
    """Return the 1000 texts in the order of the network's output."""
    return tuple(known.text for known in imagenet_classes())


def _read(name: str) -> list[str]:
    return resources.files("perturbnet").joinpath(f"data/{name}").read_text(encoding="utf-8").splitlines()
