"""The same data set described for machines: Croissant 1.0, JSON-LD. Pure.

Rules
- One file set and one record set a split; a field for each column. Shards are found by their pattern, so that
  a million rows take no more lines than ten; their digests stand in the manifest.
- mlcroissant reads it from the folder without our code; tests do.

Source: docs.mlcommons.org/croissant/docs/croissant-spec.html.
"""

from __future__ import annotations

import json
from typing import Any

from perturbnet.adversarial_dataset.columns import IMAGE, Column, columns_of
from perturbnet.adversarial_dataset.layout import MANIFEST, Split
from perturbnet.adversarial_dataset.manifest import DatasetManifest

_CR = "http://mlcommons.org/croissant/"
_TERMS = (
    "citeAs column conformsTo:dct equivalentProperty extract field fileProperty fileObject fileSet format "
    "includes isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace "
    "samplingRate separator source subField transform"
)
_TYPES = {"int32": "sc:Integer", "int64": "sc:Integer", "int8": "sc:Integer", "float64": "sc:Float"}


def write_croissant(manifest: DatasetManifest) -> str:
    """The description of a version of a data set."""
    splits = [split for split in Split if manifest.rows(split)]
    value = {
        "@context": _context(),
        "@type": "sc:Dataset",
        "name": "perturb-adversarial-examples",
        "description": "Verified adversarial examples of image classifiers, from a published log.",
        "conformsTo": f"{_CR}1.0",
        "citeAs": f"{manifest.origin}, {manifest.leaves} leaves, root {manifest.root}",
        "license": sorted({source.terms for source in manifest.sources}) or ["none: no rows"],
        "url": f"urn:perturb:dataset:{manifest.origin}:{manifest.root}",
        "version": f"{manifest.leaves}.0.0",
        "isLiveDataset": True,
        "distribution": [_file_set(split) for split in splits],
        "recordSet": [_record_set(split, manifest) for split in splits],
        "creator": {
            "@type": "sc:Organization",
            "name": manifest.hotkey,
            "url": f"urn:perturb:{manifest.origin}",
        },
    }
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _context() -> dict[str, Any]:
    context: dict[str, Any] = {"@language": "en", "@vocab": "https://schema.org/"}
    for term in _TERMS.split():
        name, _, prefix = term.partition(":")
        context[name] = f"{prefix or 'cr'}:{name}"
    return context | {
        "cr": _CR,
        "dct": "http://purl.org/dc/terms/",
        "rai": f"{_CR}RAI/",
        "sc": "https://schema.org/",
        "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        "examples": {"@id": "cr:examples", "@type": "@json"},
    }


def _file_set(split: Split) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": f"{split}-shards",
        "description": f"The shards of split {split}; {MANIFEST} names each by SHA-256.",
        "encodingFormat": "application/x-parquet",
        "includes": f"data/{split}-*.parquet",
    }


def _record_set(split: Split, manifest: DatasetManifest) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": split.value,
        "name": split.value,
        "description": f"{manifest.rows(split)} changed images of split {split}.",
        "key": {"@id": f"{split}/leaf"},
        "field": [_field(split, column) for column in columns_of(manifest.mode)],
    }


def _field(split: Split, column: Column) -> dict[str, Any]:
    item = column.kind.removeprefix("list<").removesuffix(">")
    extract: dict[str, Any] = {"extract": {"column": column.name}}
    if column.kind == IMAGE:
        extract["transform"] = {"jsonPath": "bytes"}
    return {
        "@type": "cr:Field",
        "@id": f"{split}/{column.name}",
        "name": column.name,
        "description": column.meaning,
        "dataType": "sc:ImageObject" if column.kind == IMAGE else _TYPES.get(item, "sc:Text"),
        **({"repeated": True} if column.kind.startswith("list<") else {}),
        "source": {"fileSet": {"@id": f"{split}-shards"}, **extract},
    }
