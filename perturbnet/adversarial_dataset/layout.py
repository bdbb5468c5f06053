"""Where an exported data set's parts lie and what is cut how: splits, ranges of leaves, names. Pure.

Rules
- A split follows from the image alone: SHA-256 over (data set, its split, row). Every attempt on an image, in
  every epoch and every version of the export, lands in the same split; so no image sits in two.
- The log is cut at multiples of `shard_leaves`; a shard holds one split of one range and is named after both.
  A later version adds ranges behind the last one and touches none before.
- Names in a manifest are a stranger's: only names of this form are ever opened.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum

from perturbnet.wire import canonical_json

DATA_FOLDER = "data"
CARD = "README.md"
CROISSANT = "croissant.json"
CHECKPOINT = "checkpoint"
MANIFEST = "manifest.json"
NOTE = "manifest.note"
WORK_FOLDER = ".export"
SHARD_LEAVES = 8192
_SHARD = re.compile(r"data/(train|validation|test)-(\d{12})-(\d{12})\.parquet")
_TENTHS = 10


class Mode(StrEnum):
    """What a row holds of its pictures: the perturbation, or both pictures."""

    DELTA = "delta"
    FULL = "full"


class Split(StrEnum):
    """Eight, one and one tenth of the images."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


def split_of(dataset: Mapping[str, str | int], row: int) -> Split:
    """The split of one image. `dataset` is a config leaf's; its revision and digests do not matter."""
    image = ["perturb/split/1", dataset.get("repository", ""), dataset.get("split", ""), row]
    digest = hashlib.sha256(canonical_json.encode(image)).digest()
    tenth = int.from_bytes(digest[:8]) * _TENTHS >> 64
    return (*[Split.TRAIN] * (_TENTHS - 2), Split.VALIDATION, Split.TEST)[tenth]


def cut_ranges(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    """From `start` to before `stop`, cut at multiples of `step`."""
    while start < stop:
        end = min(stop, (start // step + 1) * step)
        yield start, end
        start = end


def shard_path(split: str, start: int, stop: int) -> str:
    """The name of a shard, relative to the data set's folder."""
    return f"{DATA_FOLDER}/{split}-{start:012d}-{stop:012d}.parquet"


def is_shard_path(path: str) -> bool:
    """Whether a name is one that `shard_path` gives."""
    return _SHARD.fullmatch(path) is not None
