"""What a profile pins on the hub, what of a snapshot it wants, and how a download is written into the pins.

`perturbnet/data/<profile>.json` pins a data set and weights, each by repository and commit. Before the first
download that is all that can be known; the download records the digests (`perturb pins update`), a person
reviews them as a diff, and from then on the file is a lock: what the hub lists at the pinned commit must be
what the lock holds, file by file, or nothing is fetched.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from perturbnet.errors import ArtifactError, DigestMismatch
from perturbnet.hub.listing import HubFile, HubSnapshot, Kind
from perturbnet.runtime.artifacts import Pin, read_pins

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.parquet\Z")
_ENTRY = re.compile(r"\{\n\s+\"sha256\": (\"[0-9a-f]{64}\"),\n\s+\"size\": (\d+)\n\s+\}")


@dataclass(frozen=True, slots=True)
class WantedFile:
    """What is pinned of one repository; `part` is `dataset` or `weights`, `locked` empty until recorded."""

    part: str
    kind: Kind
    repository: str
    revision: str
    pattern: re.Pattern[str]  # of the paths that are wanted
    locked: Mapping[str, Pin]


def read_profile_pins(profile: str, file: Path | None = None) -> dict[str, Any]:
    """Return a profile's pins: the package's, or those of another file of the same shape.

    Raises:
        ArtifactError: the file is missing or is no JSON object.

    """
    if file is None:
        return read_pins(f"{profile}.json")
    try:
        stated = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"the pins {file} cannot be read: {error}") from error
    if not isinstance(stated, dict):
        raise ArtifactError(f"the pins {file} hold {type(stated).__name__}; expected an object")
    return stated


def wanted_of(pins: Mapping[str, Any]) -> tuple[WantedFile, ...]:
    """Return what a profile wants from the hub, data set first; nothing for the reference profile.

    Raises:
        ArtifactError: a pin lacks something, or is of the wrong type.

    """
    try:
        found = []
        if "dataset" in pins:
            found.append(_dataset(pins["dataset"]))
        if "weights" in pins:
            found.append(_weights(pins["weights"]))
        return tuple(found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"the pins are not as expected: {error!r}") from error


def select(wanted: WantedFile, snapshot: HubSnapshot) -> HubSnapshot:
    """Return the snapshot with only the files that are wanted, each compared with the lock.

    Raises:
        DigestMismatch: the hub has another file than the lock, at the same commit.
        ArtifactError: another repository; no such file; a shard is missing; an LFS digest is missing.

    """
    if (snapshot.repository, snapshot.kind) != (wanted.repository, wanted.kind) or not (
        snapshot.commit.startswith(wanted.revision)
    ):
        raise ArtifactError(
            f"the snapshot is of {snapshot.kind} {snapshot.repository} at {snapshot.commit}; "
            f"pinned is {wanted.kind} {wanted.repository} at {wanted.revision}"
        )
    files = tuple(file for file in snapshot.files if wanted.pattern.fullmatch(file.path))
    where = f"{wanted.repository} at {snapshot.commit}"
    _check_complete(files, where)
    for file in files:
        if file.sha256 is None:
            raise ArtifactError(
                f"{where}: {file.path} has no SHA-256 on the hub; expected a file kept with LFS"
            )
    if wanted.locked:
        _check_lock(wanted.locked, files, where)
    return replace(snapshot, files=files)


def updated(
    pins: Mapping[str, Any], snapshots: Mapping[str, HubSnapshot], rows: int | None
) -> dict[str, Any]:
    """Return the pins with what was downloaded: full commits, digests, sizes, and the number of rows."""
    fresh = {key: dict(value) if isinstance(value, dict) else value for key, value in pins.items()}
    if "dataset" in snapshots:
        snapshot = snapshots["dataset"]
        listed = {file.path: {"sha256": file.sha256, "size": file.size} for file in snapshot.files}
        fresh["dataset"] |= {"revision": snapshot.commit, "files": listed}
        if rows is not None:
            fresh["dataset"]["rows"] = rows
    if "weights" in snapshots:
        (file,) = snapshots["weights"].files
        fresh["weights"] |= {
            "revision": snapshots["weights"].commit,
            "sha256": file.sha256,
            "size": file.size,
        }
    return fresh


def format_pins(pins: Mapping[str, Any]) -> str:
    """Return pins as a person reviews them: sorted, indented, one shard to a line, a newline at the end."""
    text = json.dumps(pins, indent=2, sort_keys=True, ensure_ascii=False)
    return _ENTRY.sub(r'{"sha256": \1, "size": \2}', text) + "\n"


def diff_pins(before: str, after: str, name: str) -> str:
    """Return a unified diff, empty if nothing changed."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{name}", f"b/{name}"
    )
    return "".join(lines)


def _dataset(stated: Mapping[str, Any]) -> WantedFile:
    files = stated["files"] or {}
    locked = {path: Pin(path, str(pin["sha256"]), int(pin["size"])) for path, pin in files.items()}
    pattern = re.compile(rf"data/{re.escape(stated['split'])}-\d{{5}}-of-\d{{5}}\.parquet")
    return WantedFile(
        "dataset",
        "dataset",
        str(stated["repository"]),
        str(stated["revision"]),
        pattern,
        MappingProxyType(locked),
    )


def _weights(stated: Mapping[str, Any]) -> WantedFile:
    name, locked = str(stated["file"]), {}
    if stated["sha256"] is not None:
        locked[name] = Pin(name, str(stated["sha256"]), int(stated["size"]))
    return WantedFile(
        "weights",
        "model",
        str(stated["repository"]),
        str(stated["revision"]),
        re.compile(re.escape(name)),
        MappingProxyType(locked),
    )


def _check_complete(files: Sequence[HubFile], where: str) -> None:
    """Shards say in their names how many there are; anything else is one file."""
    if not files:
        raise ArtifactError(f"{where} holds none of the files that are wanted")
    shards = [found for file in files if (found := _SHARD.search(file.path))]
    if not shards:
        return
    totals = {int(shard[2]) for shard in shards}
    missing = set(range(max(totals))) - {int(shard[1]) for shard in shards}
    if len(totals) != 1 or missing or len(shards) != max(totals):
        raise ArtifactError(
            f"{where} holds {len(shards)} shards of {sorted(totals)}; missing: {sorted(missing)[:20]}"
        )


def _check_lock(locked: Mapping[str, Pin], files: Sequence[HubFile], where: str) -> None:
    hint = "The pins were reviewed; the hub changed under the same commit. Do not update them blindly."
    listed = {file.path: file for file in files}
    if listed.keys() != locked.keys():
        differing = ", ".join(sorted(listed.keys() ^ locked.keys())[:5])
        raise ArtifactError(f"{where}: the hub's files are not those of the lock: {differing}", hint=hint)
    for path, pin in locked.items():
        file = listed[path]
        if (file.sha256, file.size) != (pin.sha256, pin.size):
            raise DigestMismatch(
                f"{where}: {path}",
                f"sha256 {pin.sha256}, {pin.size} bytes (lock)",
                f"sha256 {file.sha256}, {file.size} bytes (hub)",
                hint=hint,
            )
