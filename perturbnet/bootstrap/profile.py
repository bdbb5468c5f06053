"""All that a profile wants from the hub: listed, looked up by path, and written down for the rules.

The list is one JSON file: `{"profile": …, "snapshots": {"dataset": …, "weights": …}}`, each snapshot in the
hub's own words with only the wanted files. It is made by one look at the hub and handed to every rule, so
that twenty shards do not ask twenty times; whoever reads it compares it with the pins again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from perturbnet.bootstrap.pins import WantedFile, select, wanted_of
from perturbnet.errors import ArtifactError
from perturbnet.hub.connection import Pace
from perturbnet.hub.fetching import missing_bytes
from perturbnet.hub.listing import HubFile, HubSnapshot, list_snapshot, read_snapshot, snapshot_json

Listing = Mapping[str, HubSnapshot]  # by part: dataset, weights
_MAX_LISTING_BYTES = 64 << 20


def list_wanted(
    pins: Mapping[str, Any], *, token: str | None, endpoint: str | None = None, pace: Pace | None = None
) -> Listing:
    """Ask the hub for every snapshot the pins name; only wanted files, compared with the lock.

    Raises:
        HubRefused, HubUnavailable, ArtifactError, DigestMismatch: see `listing.list_snapshot` and
        `pins.select`.

    """
    return MappingProxyType(
        {
            wanted.part: select(
                wanted,
                list_snapshot(
                    wanted.repository, wanted.kind, wanted.revision, endpoint=endpoint, token=token, pace=pace
                ),
            )
            for wanted in wanted_of(pins)
        }
    )


def write_listing(profile: str, listing: Listing) -> str:
    """Return the list as JSON: sorted, indented, a newline at the end."""
    snapshots = {part: snapshot_json(snapshot) for part, snapshot in listing.items()}
    return json.dumps({"profile": profile, "snapshots": snapshots}, indent=2, sort_keys=True) + "\n"


def read_listing(file: Path, profile: str, pins: Mapping[str, Any]) -> Listing:
    """Return what `write_listing` wrote, compared with the pins.

    Raises:
        ArtifactError: it is missing, malformed, of another profile, or not what is pinned.
        DigestMismatch: a file differs from the lock.

    """
    try:
        if file.stat().st_size > _MAX_LISTING_BYTES:
            raise ArtifactError(f"{file} is larger than {_MAX_LISTING_BYTES} bytes: no list of files")
        stated = json.loads(file.read_text(encoding="utf-8"))
        found, snapshots = stated["profile"], dict(stated["snapshots"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(
            f"{file} is no list of files: {error!r}; write it with `perturb data list`"
        ) from error
    if found != profile:
        raise ArtifactError(f"{file} is of profile {found!r:.40}; expected {profile!r}")
    return MappingProxyType({wanted.part: _read_part(wanted, snapshots, file) for wanted in wanted_of(pins)})


def find_file(listing: Listing, path: str) -> tuple[HubSnapshot, HubFile]:
    """Return a file by its path, with its snapshot.

    Raises:
        ArtifactError: no such file, or one in both repositories.

    """
    found = [
        (snapshot, file) for snapshot in listing.values() for file in snapshot.files if file.path == path
    ]
    if len(found) != 1:
        listed = [file.path for snapshot in listing.values() for file in snapshot.files]
        known = ", ".join(listed[:3]) + (", …" if len(listed) > 3 else "")
        raise ArtifactError(
            f"{len(found)} files are named {path!r}; expected one of {len(listed)}: {known or 'none'}"
        )
    return found[0]


def bytes_to_fetch(listing: Listing, hub_cache: Path) -> int:
    """Return how many bytes of all that is listed are not in the cache, by size alone."""
    return sum(
        missing_bytes(file, snapshot, hub_cache) for snapshot in listing.values() for file in snapshot.files
    )


def _read_part(wanted: WantedFile, snapshots: Mapping[str, Any], file: Path) -> HubSnapshot:
    stated = snapshots.get(wanted.part)
    if not isinstance(stated, dict):
        raise ArtifactError(f"{file} lists no {wanted.part}; write it with `perturb data list`")
    return select(wanted, read_snapshot(stated))
