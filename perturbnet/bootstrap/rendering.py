"""The reference pictures: what is rendered on this machine instead of fetched, repaired in the same way."""

from __future__ import annotations

from pathlib import Path

from perturbnet.datasets.reference import DEFAULT_SPLIT, open_reference, parquet_path
from perturbnet.errors import DatasetError, DigestMismatch
from perturbnet.runtime.artifacts import sha256_file
from perturbnet.runtime.progress import Progress


def prepare_reference(cache_dir: Path, progress: Progress | None = None) -> tuple[Path, Path | None]:
    """Have the pictures that validators draw from, rendering them if the cache lacks them.

    Returns the Parquet file, and where a damaged one was moved to, if there was one.

    Raises:
        DigestMismatch: this machine renders other pixels than were pinned.

    """
    path = parquet_path(cache_dir, DEFAULT_SPLIT)
    try:
        open_reference(cache_dir, DEFAULT_SPLIT, progress)
    except (DigestMismatch, DatasetError):
        # Rendering checks itself against the pins, so what is rendered anew is right or raises again.
        moved = _quarantine(path, cache_dir / "quarantine")
        path.with_name(f"{DEFAULT_SPLIT}.rows.json").unlink(missing_ok=True)
        open_reference(cache_dir, DEFAULT_SPLIT, progress)
        return path, moved
    return path, None


def _quarantine(path: Path, folder: Path) -> Path | None:
    """Move a file away under a name that holds its digest, so the same damage takes room once."""
    if not path.is_file():
        return None
    folder.mkdir(parents=True, exist_ok=True)
    return path.replace(folder / f"reference--{path.name}.{sha256_file(path)[:16]}")
