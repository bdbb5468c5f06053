"""Logs to export: an honest validator's, published; and what a test changes in them or in an export."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from perturbnet.adversarial_dataset.columns import encoding_of
from perturbnet.adversarial_dataset.exporting import Asked, export
from perturbnet.adversarial_dataset.layout import MANIFEST, Mode, Split
from perturbnet.adversarial_dataset.loading import AdversarialSet, Example
from perturbnet.adversarial_dataset.manifest import DatasetManifest, read_manifest
from perturbnet.auditing.run import Means
from perturbnet.ledger import Leaf
from perturbnet.runtime.artifacts import sha256_file
from perturbnet.transparency.bundle import open_bundle
from perturbnet.transparency.notes import SigningKey
from tests.support.auditing.honest import Honest
from tests.support.auditing.published import publish

ROUNDS = 8


@dataclass(frozen=True)
class Published:
    """An honest log and the folder of its bundle."""

    honest: Honest
    folder: Path

    def grow(self, folder: Path, leaves: int | Sequence[Leaf]) -> Path:
        """Another bundle: the log's first leaves, or these."""
        items = self.honest.leaves()[:leaves] if isinstance(leaves, int) else leaves
        return publish(items, folder, self.honest.blobs.folder)

    @property
    def means(self) -> Means:
        return Means(self.honest.source, self.honest.engine)

    def export(
        self, out: Path, *, bundle: Path | None = None, key: SigningKey | None = None, **asked: Any
    ) -> DatasetManifest:
        with open_bundle(bundle or self.folder) as opened:
            return export(opened, out, Asked(**asked), self.means, key=key)

    def examples(self, out: Path) -> list[Example]:
        """Everything in an export, split after split."""
        return [one for split in Split for one in self.opened(out, split)]

    def opened(self, out: Path, split: Split = Split.TRAIN) -> AdversarialSet:
        return AdversarialSet(out, read_manifest(out), split, self.honest.source)

    def rows(self, out: Path) -> list[dict[str, Any]]:
        found = [dict(row) for split in Split for row in self.opened(out, split).rows()]
        return sorted(found, key=lambda row: int(row["leaf"]))


def tree(folder: Path) -> dict[str, bytes]:
    """Every file by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rewrite_manifest(out: Path, **changes: Any) -> DatasetManifest:
    """A manifest as a stranger would write it: canonical, with other values."""
    manifest = msgspec.structs.replace(read_manifest(out), **changes)
    (out / MANIFEST).write_bytes(manifest.encode())
    return manifest


def rewrite_rows(out: Path, change: Callable[[list[dict[str, Any]]], object], shard: int = 0) -> None:
    """One shard with other rows, and a manifest that fits: what a hostile exporter hands out."""
    manifest = read_manifest(out)
    path = out / manifest.shards[shard].path
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path, **encoding_of(manifest.mode))
    refit(out, shard, rows=len(rows))


def refit(out: Path, shard: int = 0, **changes: Any) -> None:
    """Make the manifest fit a shard that was changed."""
    shards = list(read_manifest(out).shards)
    path = out / shards[shard].path
    facts = {"bytes": path.stat().st_size, "sha256": sha256_file(path), **changes}
    shards[shard] = msgspec.structs.replace(shards[shard], **facts)
    rewrite_manifest(out, shards=shards)


def copy(out: Path, to: Path) -> Path:
    """A copy to spoil."""
    shutil.copytree(out, to)
    return to


__all__ = ["ROUNDS", "Mode", "Published", "copy", "refit", "rewrite_manifest", "rewrite_rows", "tree"]
