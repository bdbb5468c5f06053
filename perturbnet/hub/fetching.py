"""One file from the hub into the cache, whole and right, or a named error.

1. Lock, under the name huggingface_hub uses. Who waits finds the file done.
2. A blob that is in place is hashed. If it is right, only the link is renewed; if not, it was damaged after
   it was fetched: quarantine, and it is fetched anew. One that another cache of this machine holds is hashed
   too and, if right, taken from there: a hard link, or a copy from another disk.
3. Room on the disk for what is missing.
4. What an earlier run left is hashed, and the rest is asked for by range (RFC 9110, 14). Bytes are written
   at their place and hashed as they come; every `FLUSH_BYTES` they are flushed, so a power cut costs at most
   that. A store that ignores the range and sends all is taken from the beginning.
5. A fault: patience, then 4 again from where it stopped. Progress is counted in bytes.
6. The digest. Wrong: quarantine, `DigestMismatch`, no second try: it is what the hub has, or what a disk made
   of the part that lay there; the next run begins from nothing either way.
7. Flush, rename to the blob's name, flush the folder, link it into the snapshot.

The lock is the kernel's, so kill -9 releases it. On a file system whose locks hold nobody two would write the
same bytes at the same places, and step 6 decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from perturbnet.errors import ArtifactMissing, DigestMismatch
from perturbnet.hub import lock
from perturbnet.hub.connection import Hub, Pace
from perturbnet.hub.digests import digest_of
from perturbnet.hub.disk import naming_full_disk
from perturbnet.hub.download import Download, Progress, named
from perturbnet.hub.layout import place_of, put_link
from perturbnet.hub.listing import HubFile, HubSnapshot

__all__ = ["Fetched", "Progress", "fetch", "missing_bytes", "verify_cached"]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file in place: its path, bytes over the network, bytes an earlier run had left, tries, seconds."""

    path: Path
    bytes_fetched: int
    resumed_from: int
    attempts: int
    seconds: float


def fetch(  # noqa: PLR0913 - what, from where, to where, and how
    file: HubFile,
    snapshot: HubSnapshot,
    hub_cache: Path,
    *,
    report: Callable[[Progress], None],
    token: str | None,
    endpoint: str | None = None,
    pace: Pace | None = None,
    caches: Sequence[Path] = (),
) -> Fetched:
    """Bring one file of a snapshot into a hub cache; see the module for the steps.

    Args:
        file: which; from `snapshot`.
        snapshot: from `listing.list_snapshot`.
        hub_cache: folder laid out as huggingface_hub's; made if it is not there.
        report: told of progress, at most once per MiB; it may raise to stop the fetch, nothing is lost.
        token: for gated repositories; sent to the endpoint's own origin only.
        endpoint: the hub; without it HF_ENDPOINT, else the public one.
        pace: how to wait between tries.
        caches: other hub caches of this machine, such as the user's own.

    Raises:
        DigestMismatch: the bytes are not those the hub names; they are in quarantine.
        HubRefused, HubUnavailable: see `connection`.
        DiskFull: before or while writing; what was written stays.

    """
    hub, pace = Hub.open(endpoint, token), pace or Pace()
    place = place_of(file, snapshot, hub_cache)
    begun_s = pace.monotonic_s()
    with naming_full_disk(_existing(place.hub_cache), file.size, file.path):
        place.blob.parent.mkdir(parents=True, exist_ok=True)
        place.lock.parent.mkdir(parents=True, exist_ok=True)
        download = Download(file, snapshot, place, hub, pace, report)
        with lock.hold(place.lock, sleep=pace.sleep, waiting=download.tell_lock):
            if not download.is_done() and not download.take_from(caches):
                download.run()
            put_link(place, snapshot.revision)
    seconds = pace.monotonic_s() - begun_s
    return Fetched(place.link, download.fetched, download.resumed_from, download.attempts, seconds)


def verify_cached(file: HubFile, snapshot: HubSnapshot, hub_cache: Path) -> Path:
    """Return the path of a file in the cache after hashing all of it; nothing is changed.

    Raises:
        ArtifactMissing: it is not there.
        DigestMismatch: it is not what the hub has under that name.

    """
    place = place_of(file, snapshot, hub_cache)
    hint = "Fetch it again with `snakemake bootstrap`: what is damaged goes to quarantine."
    if not place.link.is_file():
        raise ArtifactMissing(f"{file.path} is missing: {place.link} does not exist", hint=hint)
    found = digest_of(file, place.link)
    if found != file.etag:
        raise DigestMismatch(
            f"{file.path} ({place.link})", named(file, file.etag), named(file, found), hint=hint
        )
    return place.link


def missing_bytes(file: HubFile, snapshot: HubSnapshot, hub_cache: Path) -> int:
    """Return how many bytes of a file are not in the cache yet, by size alone."""
    place = place_of(file, snapshot, hub_cache)
    for there in (place.blob, place.incomplete):
        if there.is_file():
            return max(0, file.size - there.stat().st_size)
    return file.size


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder
