"""The data card: what a person, and the hub, read first. Markdown under YAML front matter. Pure.

What the log says is a stranger's text: it is quoted, shortened, and never part of the front matter.

Source: the hub's dataset cards (huggingface.co/docs/hub/datasets-cards); for what a card should say, Gebru et
al., Datasheets for Datasets, 2018, arXiv:1803.09010.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from perturbnet.adversarial_dataset.columns import columns_of, feature_lines
from perturbnet.adversarial_dataset.layout import Mode, Split
from perturbnet.adversarial_dataset.manifest import DatasetManifest

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LARGEST = "1M<n<10M"
_MARKS = re.compile(r"[^A-Za-z0-9 ._:/+@-]")
_LONGEST = 200

_LOAD = {
    Mode.DELTA: """```python

for clean, adversarial, label in perturbnet.load_adversarial("this folder", source="{profile}"):
    ...  # uint8 (H, W, 3), uint8 (H, W, 3), the model's class of the clean image
```

This set holds no pictures. `source` is your own copy of the data set they are from (`perturb bootstrap`
prepares it); every image is rebuilt and compared with its digest, and one that differs is an error.
Elsewhere: `adversarial.flat[positions] += changes`, modulo 256, on the clean image cropped, scaled and
flipped as `freshness` says.""",
    Mode.FULL: """```python
import datasets

rows = datasets.load_dataset("this folder", split="train")
rows[0]["clean"], rows[0]["adversarial"], rows[0]["label"]  # two pictures and the class before
```

`perturbnet.load_adversarial("this folder")` gives `(clean, adversarial, label)` as arrays, each compared with
its digest.""",
}


def write_card(manifest: DatasetManifest, *, signed: bool) -> str:
    """The card of a version of a data set."""
    return "\n".join(
        [
            *_front_matter(manifest),
            f"# Adversarial examples of {_list(model.name for model in manifest.models)}",
            "",
            *_summary(manifest, signed=signed),
            "",
            _LOAD[manifest.mode].format(profile=_profile(manifest)),
            "",
            *_provenance(manifest, signed=signed),
            *_unchecked(manifest),
            *_columns(manifest),
            *_terms(manifest),
        ]
    )


def _front_matter(manifest: DatasetManifest) -> list[str]:
    rows = manifest.rows()
    size = next((name for most, name in _SIZES if rows < most), _LARGEST)
    identifiers = sorted({source.licence for source in manifest.sources}) or ["other"]
    splits = [split for split in Split if manifest.rows(split)]
    return [
        "---",
        "pretty_name: Verified adversarial examples",
        f"license: {identifiers[0] if len(identifiers) == 1 else 'other'}",
        "task_categories:",
        "- image-classification",
        "tags:",
        "- adversarial-examples",
        "- robustness",
        "- perturb",
        "size_categories:",
        f"- {size}",
        "configs:",
        "- config_name: default",
        *(["  data_files:"] if splits else ["  data_files: []"]),
        *(line for split in splits for line in (f"  - split: {split}", f"    path: data/{split}-*.parquet")),
        "dataset_info:",
        "  features:",
        *feature_lines(manifest.mode),
        *(["  splits:"] if splits else ["  splits: []"]),
        *(line for split in splits for line in _split_lines(manifest, split)),
        "---",
        "",
    ]


def _split_lines(manifest: DatasetManifest, split: Split) -> list[str]:
    size = sum(shard.bytes for shard in manifest.shards if shard.split is split)
    return [f"  - name: {split}", f"    num_bytes: {size}", f"    num_examples: {manifest.rows(split)}"]


def _summary(manifest: DatasetManifest, *, signed: bool) -> list[str]:
    counts = {name: f"{count:,}" for name, count in manifest.counts.items()}
    rows = ", ".join(f"{manifest.rows(split):,} {split}" for split in Split)
    signature = "signed by the log's key" if signed else "not signed"
    return [
        f"{manifest.rows():,} changed images ({rows}), each accepted by the verification of a validator of",
        "the Perturb network: the change lies within the gates, and the model errs.",
        "",
        f"Version {manifest.leaves}, {signature}: leaves {manifest.begin} to {manifest.leaves - 1}.",
        f"They hold {counts.get('rounds')} rounds with {counts.get('attempts')} attempts on",
        f"{counts.get('images')} source images, of which {counts.get('broken')} were broken.",
        "Rejected attempts are not rows: the set says how images break; how often, `perturb certify` says.",
    ]


def _provenance(manifest: DatasetManifest, *, signed: bool) -> list[str]:
    models = [
        f"| model `{_q(one.name)}` (`{_q(one.engine)}`) | `{_q(one.digest)}` |" for one in manifest.models
    ]
    left_out = [f"| left out: {name} | {count:,} |" for name, count in sorted(manifest.left_out.items())]
    note = "`manifest.note`" if signed else "none: whoever exported this had not the log's key"
    return [
        "## Where it is from",
        "",
        "| | |",
        "|---|---|",
        f"| log | `{_q(manifest.origin)}` |",
        f"| hotkey | `{_q(manifest.hotkey)}` (subnet {manifest.netuid}) |",
        f"| root over {manifest.leaves:,} leaves | `{manifest.root}` |",
        *models,
        *left_out,
        f"| rounds cut off | {manifest.counts.get('cut_off', 0):,} |",
        f"| signature | {note} |",
        "",
        "`manifest.json` names every file by SHA-256; `perturb export verify` compares them, the signature",
        "and, with the log, every row. All changes of one source image are in one split.",
        "",
    ]


def _unchecked(manifest: DatasetManifest) -> list[str]:
    checked = ["the log's signature, every leaf up to the root, and that each change has the numbers stated"]
    if manifest.rebuild:
        checked.append("every image, rebuilt from the source and equal to its digest")
    if manifest.margins:
        checked.append("every changed image's class and logits, computed again")
    open_points = [
        "similarities (SSIM, PSNR), scores, the drawing of images, the anchor on chain: `perturb audit` does",
        *([] if manifest.rebuild else ["that the images can be rebuilt (`--rebuild`): loading checks each"]),
        *([] if manifest.margins else ["classes before and after (`--margins`): `perturb audit` does"]),
        "response times: the validator's word",
        "that two rows of the source do not show the same picture",
    ]
    return [
        "## What the export checked, and what it did not",
        "",
        *(f"- checked: {text}" for text in checked),
        *(f"- not checked: {text}" for text in open_points),
        "",
    ]


def _columns(manifest: DatasetManifest) -> list[str]:
    lines = [f"| `{one.name}` | {one.kind} | {one.meaning} |" for one in columns_of(manifest.mode)]
    return ["## Columns", "", "| column | type | meaning |", "|---|---|---|", *lines, ""]


def _terms(manifest: DatasetManifest) -> list[str]:
    lines = [
        f"- `{_q(one.repository)}`, revision `{_q(one.revision)}`, split `{_q(one.split)}`: {one.terms}"
        for one in manifest.sources
    ]
    return [
        "## Terms",
        "",
        *lines,
        "",
        "Made for training and testing image classifiers against small changes. The examples attack the",
        "models named above; whoever trains on them should test with an attack of another kind as well.",
        "",
    ]


def _profile(manifest: DatasetManifest) -> str:
    found = {source.repository for source in manifest.sources}
    return "imagenet100" if "clane9/imagenet-100" in found else "reference"


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted({_q(name) for name in names})) or "no model"


def _q(text: str) -> str:
    """A stranger's text on one line, with nothing in it that Markdown or HTML would read."""
    return _MARKS.sub("?", text)[:_LONGEST]
