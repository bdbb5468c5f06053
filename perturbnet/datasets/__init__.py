"""Data sets: images with their true labels, read by row. `open_source` is the door."""

from __future__ import annotations

from pathlib import Path

from perturbnet.datasets.source import ImageSource, SourceIdentity, SourceImage
from perturbnet.errors import ConfigError, DatasetError
from perturbnet.runtime.progress import Progress

__all__ = ["PROFILES", "ImageSource", "SourceIdentity", "SourceImage", "open_source"]

PROFILES = ("imagenet100", "reference")


def open_source(
    profile: str,
    *,
    cache_dir: Path,
    split: str | None = None,
    progress: Progress | None = None,
) -> ImageSource:
    """Open the data set of a profile; without `split`, the one that validators draw from (`train` in both).

    `progress` is told (rows done, rows) while the reference pictures are rendered, once per cache.

    Raises:
        ConfigError: no such profile.
        ArtifactMissing: not on this machine; the hint says how to get it.
        DatasetError: truncated, damaged, of another revision; no such split.
        DigestMismatch: the cache is not what was pinned.

    """
    if profile == "reference":
        from perturbnet.datasets.reference import DEFAULT_SPLIT, open_reference

        return open_reference(cache_dir, split or DEFAULT_SPLIT, progress)
    if profile == "imagenet100":
        from perturbnet.datasets.imagenet100 import open_snapshot, pinned_snapshot

        pinned = pinned_snapshot()
        if split not in (None, pinned.split):
            raise DatasetError(f"imagenet100 is opened with split {pinned.split!r} only, not {split!r}")
        return open_snapshot(pinned, _hubs(cache_dir))
    raise ConfigError("PERTURB_PROFILE", profile, f"one of {', '.join(PROFILES)}")


def _hubs(cache_dir: Path) -> list[Path]:
    """Where snapshots may lie: our own cache first, then the one huggingface_hub uses for this user."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return [cache_dir / "hub", Path(HF_HUB_CACHE)]
