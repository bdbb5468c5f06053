"""The columns of an exported data set: name, type and meaning, once, for Parquet, data card and Croissant.

Rules
- What the ledger holds as an integer stands here as that integer; the readable number beside it is computed
  from it and from nothing else.
- `positions` and `changes` are the sparse signed perturbation: `changes[i]` is added, modulo 256, to the
  value at `positions[i]` of the clean image's H * W * 3 values in the order of rows, columns, channels.
- Images are PNG (RGB, 8 bits), as `datasets` describes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from perturbnet.adversarial_dataset.layout import Mode

if TYPE_CHECKING:
    import pyarrow as pa

IMAGE = "image"


@dataclass(frozen=True)
class Column:
    """One column. `kind` is a type of Arrow's, `list<…>` of one, or `image`."""

    name: str
    kind: str
    meaning: str


COMMON = (
    Column("leaf", "int64", "place of the receipt in the log"),
    Column("leaf_hash", "string", "RFC 6962 hash of the receipt"),
    Column("challenge_leaf", "int64", "place of the challenge in the log"),
    Column("challenge_id", "string", "hash of the challenge"),
    Column("round", "int64", "number of the round"),
    Column("epoch", "int64", "pass over the data set"),
    Column("task_id", "string", "epoch and draw"),
    Column("block", "int64", "block of the chain at the challenge"),
    Column("validator", "string", "hotkey of who judged"),
    Column("miner", "string", "hotkey of who found it"),
    Column("uid", "int64", "the miner's number on the subnet then"),
    Column("source_repository", "string", "the data set that the image is from"),
    Column("source_revision", "string", "its revision"),
    Column("source_split", "string", "its split"),
    Column("row", "int64", "the image: its row there"),
    Column("source_label", "string", "the true class, where the source names one"),
    Column("freshness", "string", "JSON: how the image was cropped, scaled and flipped before it was sent"),
    Column("height", "int32", "of the image that was sent, pixels"),
    Column("width", "int32", "of the image that was sent, pixels"),
    Column("label", "int64", "class before: the model's own, of the clean image"),
    Column("label_text", "string", "its name"),
    Column("adversarial_label", "int64", "class after"),
    Column("adversarial_label_text", "string", "its name"),
    Column("margin", "float64", "largest logit less the second, after the change; null where not computed"),
    Column("epsilon", "string", "largest change allowed, of 1, decimal text"),
    Column("linf_u8", "int64", "largest change, levels of 255 (exact)"),
    Column("linf", "float64", "linf_u8 / 255"),
    Column("sum_sq", "int64", "sum of squared changes over all values (exact)"),
    Column("rmse", "float64", "root of sum_sq / (height * width * 3), / 255"),
    Column("changed", "int64", "number of values changed (exact)"),
    Column("ssim_ppb", "int64", "structural similarity, parts per 10^9 (exact)"),
    Column("ssim", "float64", "ssim_ppb / 10^9"),
    Column("psnr_micro_db", "int64", "peak signal-to-noise ratio, 10^-6 dB (exact)"),
    Column("psnr_db", "float64", "psnr_micro_db / 10^6"),
    Column("score_ppb", "int64", "what it earned, parts per 10^9"),
    Column("score", "float64", "score_ppb / 10^9"),
    Column("response_ms", "int64", "time to answer; the validator's word"),
    Column("model_name", "string", "the model that was fooled"),
    Column("model_digest", "string", "digest of its compiled artefact"),
    Column("engine", "string", "what computed the labels"),
    Column("rules_version", "int64", "rules under which it was accepted"),
    Column("clean_pixels", "string", "digest of the clean pixels"),
    Column("adversarial_pixels", "string", "digest of the adversarial pixels"),
    Column("logits_before", "string", "digest of the clean image's logits"),
    Column("logits_after", "string", "digest of the adversarial image's logits"),
    Column("licence", "string", "terms of the source"),
)
PERTURBATION = (
    Column("delta", "string", "SHA-256 of the published blob that the perturbation was read from"),
    Column("positions", "list<int32>", "which values change: ascending, of H * W * 3"),
    Column("changes", "list<int8>", "by how much, levels, added modulo 256"),
)
PICTURES = (
    Column("clean", IMAGE, "the clean image that was sent"),
    Column("adversarial", IMAGE, "the miner's image"),
)


def columns_of(mode: Mode) -> tuple[Column, ...]:
    """The columns of a data set in this mode, in their order."""
    return (*COMMON, *(PERTURBATION if mode is Mode.DELTA else PICTURES))


@cache
def schema_of(mode: Mode) -> pa.Schema:
    """The Arrow schema, with the description of the features that `datasets` reads."""
    import datasets

    features = datasets.Features({column.name: _feature(column) for column in columns_of(mode)})
    return features.arrow_schema


def feature_lines(mode: Mode) -> list[str]:
    """The features as the data card's front matter has them: lines of YAML."""
    lines = []
    for column in columns_of(mode):
        kind = _item(column.kind)
        name = "list" if column.kind.startswith("list<") else "dtype"
        lines += [f"  - name: {column.name}", f"    {name}: {kind}"]
    return lines


def encoding_of(mode: Mode) -> dict[str, Any]:
    """How `pyarrow.parquet.ParquetWriter` packs the columns: small, and the same bytes every time."""
    options: dict[str, Any] = {
        "compression": "zstd",
        "compression_level": 3,
    }
    words = [column.name for column in columns_of(mode) if column.kind == "string"]
    if mode is Mode.FULL:
        return options | {"use_dictionary": words}
    positions, changes = "positions.list.element", "changes.list.element"
    return options | {
        # Ascending numbers: only the gaps are kept. Changes are a few levels, again and again.
        "column_encoding": {positions: "DELTA_BINARY_PACKED"},
        "use_dictionary": [*words, changes],
        "write_statistics": [column.name for column in COMMON],
    }


def _feature(column: Column) -> Any:
    import datasets

    if column.kind == IMAGE:
        return datasets.Image()
    value = datasets.Value(_item(column.kind))
    return datasets.List(value) if column.kind.startswith("list<") else value


def _item(kind: str) -> str:
    return kind.removeprefix("list<").removesuffix(">")
