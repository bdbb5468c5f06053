"""A small data set from the hub, as a bootstrap leaves it: files, records, manifest, page."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from perturbnet.bootstrap.fingerprint import fingerprint_file, merge
from perturbnet.bootstrap.holdings import assemble
from perturbnet.bootstrap.model import ModelRecord
from perturbnet.bootstrap.plan import BootstrapPlan
from perturbnet.bootstrap.profile import write_listing
from perturbnet.bootstrap.records import Workplace, write_fingerprint, write_json, write_part
from perturbnet.bootstrap.report import render_report
from perturbnet.bootstrap.stock import take_stock
from perturbnet.bootstrap.witness import witness_file
from perturbnet.hub.layout import place_of, put_link
from perturbnet.hub.listing import HubFile, HubSnapshot
from tests.support.bootstrap.shards import JUNK, encode, write

ROWS = 5
NAMES = tuple(f"data/train-{number:05d}-of-00003.parquet" for number in range(3))
WEIGHTS = "model.safetensors"
DIGEST = "ab" * 32
UNDECODABLE = 7  # row of the data set


def prepare(folder: Path) -> BootstrapPlan:
    """Do by hand, in one process, what the rules do; return the plan that finds it complete."""
    pins = folder / "pins.json"
    pins.write_text(
        json.dumps(
            {
                "dataset": {
                    "repository": "o/data",
                    "revision": "1" * 40,
                    "split": "train",
                    "files": None,
                    "rows": 3 * ROWS,
                },
                "weights": {
                    "repository": "o/model",
                    "revision": "2" * 40,
                    "file": WEIGHTS,
                    "sha256": None,
                    "size": None,
                },
            }
        )
    )
    plan = BootstrapPlan(Workplace(folder / "cache", "imagenet100"), pins)
    place = plan.place
    data = _put(plan, "dataset", "o/data", "1" * 40, {name: _shard(folder, name) for name in NAMES})
    weights = _put(plan, "model", "o/model", "2" * 40, {WEIGHTS: b"weights"})
    place.listing.write_text(write_listing("imagenet100", {"dataset": data, "weights": weights}))
    _fingerprint(plan)
    plan.artefact.parent.mkdir(parents=True, exist_ok=True)
    plan.artefact.write_bytes(b"integers")
    plan.artefact_note.write_text("{}")
    model = ModelRecord("net", DIGEST, (DIGEST,), DIGEST, "cd" * 32, witness_file(plan.artefact))
    write_json(place.model, model.to_json())
    finish(plan)
    return plan


def finish(plan: BootstrapPlan) -> None:
    """Write manifest and page from the records."""
    place = plan.place
    manifest = assemble(place, listing=place.listing, pins=plan.pins)
    place.manifest.write_bytes(manifest.encode())
    fetched = {name: place.fetched(name) for name in (*NAMES, WEIGHTS)}
    place.report.write_bytes(render_report(place, manifest, fetched))


def _shard(folder: Path, name: str) -> bytes:
    first = NAMES.index(name) * ROWS
    rows = [JUNK if row == UNDECODABLE else encode(row) for row in range(first, first + ROWS)]
    return write(folder / "shard.parquet", rows).read_bytes()


def _put(
    plan: BootstrapPlan, kind: str, repository: str, commit: str, files: dict[str, bytes]
) -> HubSnapshot:
    listed = tuple(
        HubFile(name, len(data), hashlib.sha256(data).hexdigest(), "3" * 40) for name, data in files.items()
    )
    snapshot = HubSnapshot(repository, "dataset" if kind == "dataset" else "model", commit, listed, commit)
    for file in listed:
        spot = place_of(file, snapshot, plan.place.cache_dir / "hub")
        spot.blob.parent.mkdir(parents=True, exist_ok=True)
        spot.blob.write_bytes(files[file.path])
        put_link(spot, commit)
        facts = {
            "path": file.path,
            "file": str(spot.link),
            "sha256": file.sha256,
            "size": file.size,
            "bytes_fetched": file.size,
            "milliseconds": 1200,
        }
        write_json(plan.place.fetched(file.path), facts)
    return snapshot


def _fingerprint(plan: BootstrapPlan) -> None:
    place = plan.place
    stock = take_stock("imagenet100", place.cache_dir, listing=place.listing, pins=plan.pins)
    files = {name: stock.witness(name) for name in NAMES}
    parts = {name: fingerprint_file(Path(file.path), name) for name, file in files.items()}
    for name, part in parts.items():
        write_part(place.part(name), part, files[name])
    write_fingerprint(place.fingerprint, merge(list(parts.values())), [files[name] for name in NAMES])


def file_of(plan: BootstrapPlan, name: str) -> Path:
    stock = take_stock("imagenet100", plan.place.cache_dir, listing=plan.place.listing, pins=plan.pins)
    return stock.files[name].resolve()
