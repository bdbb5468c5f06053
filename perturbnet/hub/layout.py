"""Where a file of the hub lies on this disk: the folders of huggingface_hub's own cache.

    <hub cache>/datasets--owner--name/
        blobs/<digest>                     the bytes; the name is the SHA-256 (LFS) or the git blob's SHA-1
        blobs/<digest>.incomplete          what is there so far
        snapshots/<commit>/<path>          a relative link to its blob
        refs/<revision>                    the commit a shortened revision stands for
    <hub cache>/.locks/datasets--owner--name/<digest>.lock
    <hub cache>/../quarantine/             files that had another digest

Source: huggingface_hub 2.4, "Understand caching", and `file_download.py`.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from perturbnet.hub.listing import HubFile, HubSnapshot
from perturbnet.runtime.artifacts import replace_durably, write_durably
from perturbnet.runtime.folders import sync_folder


@dataclass(frozen=True, slots=True)
class CachePlace:
    """Where one file of one snapshot lies under a hub cache."""

    hub_cache: Path
    repository: Path  # datasets--owner--name, models--owner--name
    commit: str
    path: str
    etag: str

    @property
    def blob(self) -> Path:
        """The bytes."""
        return self.repository / "blobs" / self.etag

    @property
    def incomplete(self) -> Path:
        """The bytes so far."""
        return self.repository / "blobs" / f"{self.etag}.incomplete"

    @property
    def link(self) -> Path:
        """The name under which everybody opens it."""
        return self.repository / "snapshots" / self.commit / self.path

    @property
    def lock(self) -> Path:
        """The lock, under the name huggingface_hub gives it."""
        return self.hub_cache / ".locks" / self.repository.name / f"{self.etag}.lock"

    @property
    def quarantine(self) -> Path:
        """The folder for what had another digest."""
        return self.hub_cache.parent / "quarantine"

    def within(self, hub_cache: Path) -> CachePlace:
        """Return where the same file lies in another hub cache."""
        return replace(self, hub_cache=hub_cache, repository=hub_cache / self.repository.name)


def place_of(file: HubFile, snapshot: HubSnapshot, hub_cache: Path) -> CachePlace:
    """Return where a file lies, or will lie."""
    folder = f"{snapshot.kind}s--" + snapshot.repository.replace("/", "--")
    hub_cache = hub_cache.absolute()
    return CachePlace(hub_cache, hub_cache / folder, snapshot.commit, file.path, file.etag)


def put_link(place: CachePlace, revision: str) -> None:
    """Name the blob in its snapshot; a shortened revision is noted as huggingface_hub notes it.

    Raises:
        OSError: the folder cannot be written to.

    """
    place.link.parent.mkdir(parents=True, exist_ok=True)
    target = os.path.relpath(place.blob, place.link.parent)
    if not (place.link.is_symlink() and str(place.link.readlink()) == target):
        fresh = place.link.with_name(f".{place.link.name}.{os.getpid()}.link")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target)
        fresh.replace(place.link)
        sync_folder(place.link.parent)
    if revision != place.commit:
        note = place.repository / "refs" / revision
        note.parent.mkdir(parents=True, exist_ok=True)
        write_durably(note, place.commit.encode())


def link_or_copy(source: Path, blob: Path) -> None:
    """Give a file that was verified a second name; from another disk, copy it, whole or not at all.

    Raises:
        OSError: the folder cannot be written to, or is full.

    """
    blob.unlink(missing_ok=True)  # a link that leads nowhere
    try:
        blob.hardlink_to(source)
    except OSError:
        replace_durably(blob, lambda target: _pour(source, target))
    sync_folder(blob.parent)


def _pour(source: Path, target: BinaryIO) -> None:
    with source.open("rb") as origin:
        shutil.copyfileobj(origin, target, 1 << 20)


def quarantine(place: CachePlace, bad: Path, found: str) -> Path:
    """Move a file that has another digest out of the way, named by its path and that digest; return where.

    The same wrong bytes land on the same name, so a hub that keeps sending them cannot fill the disk.

    Raises:
        OSError: it cannot be moved.

    """
    place.quarantine.mkdir(parents=True, exist_ok=True)
    name = f"{place.repository.name}--{place.path.replace('/', '--')}.{found[:16]}"
    return bad.replace(place.quarantine / name)
