"""What the hub holds at a pinned revision: every file with its size and digest.

    GET /api/datasets/<repository>/revision/<commit>?blobs=true     commit, files, sizes, LFS digests
    GET /api/models/<repository>/commits/main                       only to complete a shortened commit

Files kept with Git LFS (all large ones) have a SHA-256; the others have the SHA-1 of their git blob. A
shortened commit is completed from the repository's list of commits: exactly one must begin with it. The hub
is believed in nothing that becomes a file name or a size before it was checked here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal, cast
from urllib.parse import quote

from perturbnet.errors import ArtifactError, HubRefused
from perturbnet.hub.connection import Hub, Pace
from perturbnet.wire.digests import is_digest

Kind = Literal["dataset", "model"]
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHORT = re.compile(r"[0-9a-f]{7,39}")
_REPOSITORY = re.compile(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", re.ASCII)
_MAX_FILES = 100_000
_MAX_PAGES = 200  # of commits, 50 each
_MAX_SIZE = 1 << 40  # bytes in one file


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file: its path in the repository, bytes, hex SHA-256 (LFS files only), SHA-1 of its git blob."""

    path: str
    size: int
    sha256: str | None
    blob_id: str

    @property
    def etag(self) -> str:
        """The digest the hub and its caches name the content by; `digests.digest_of` computes it."""
        return self.sha256 or self.blob_id


@dataclass(frozen=True, slots=True)
class HubSnapshot:
    """A repository at one commit. `revision` is what was pinned: the commit itself, or its beginning."""

    repository: str
    kind: Kind
    commit: str
    files: tuple[HubFile, ...]
    revision: str

    def file(self, path: str) -> HubFile:
        """Return one file.

        Raises:
            ArtifactError: there is none of that path.

        """
        for file in self.files:
            if file.path == path:
                return file
        raise ArtifactError(f"{self.repository} at {self.commit} holds no file {path!r}")


def list_snapshot(
    repository: str,
    kind: Kind,
    revision: str,
    *,
    endpoint: str | None = None,
    token: str | None = None,
    pace: Pace | None = None,
) -> HubSnapshot:
    """Ask the hub what it holds at a revision: a commit of 40 hex digits, or its first 7 or more.

    Args:
        repository: `owner/name`.
        kind: `dataset` or `model`.
        revision: the pinned commit.
        endpoint: the hub; without it HF_ENDPOINT, else the public one.
        token: for gated and private repositories; sent to the endpoint's own origin only.
        pace: how to wait between tries.

    Raises:
        HubRefused: revision or repository gone, token refused, a shortened commit that fits none or several.
        HubUnavailable: no answer that makes sense, after several tries.
        ArtifactError: the revision is no commit; the listing is malformed.

    """
    if kind not in ("dataset", "model") or not _REPOSITORY.fullmatch(repository):
        raise ArtifactError(f"{kind} {repository!r} is no repository; expected dataset or model, owner/name")
    hub = Hub.open(endpoint, token)
    pace = pace or Pace()
    commit = revision
    if not _COMMIT.fullmatch(revision):
        commit = _complete(hub, repository, kind, revision, pace)
    what = f"{kind} {repository} at {commit}"
    stated, _ = hub.read_json(f"/api/{kind}s/{repository}/revision/{commit}?blobs=true", what, pace)
    return parse_snapshot(stated, repository, kind, commit, revision)


def parse_snapshot(stated: object, repository: str, kind: Kind, commit: str, revision: str) -> HubSnapshot:
    """Return the hub's answer as a snapshot of `commit`, files sorted by path.

    Raises:
        ArtifactError: another commit, or a file that is not described as files are.

    """
    if not isinstance(stated, dict) or stated.get("sha") != commit:
        found = stated.get("sha") if isinstance(stated, dict) else stated
        raise ArtifactError(f"{repository}: the hub answered for commit {_short(found)}; expected {commit}")
    listed = stated.get("siblings")
    if not isinstance(listed, list) or not 0 < len(listed) <= _MAX_FILES:
        raise ArtifactError(f"{repository} at {commit}: the hub lists no files, or more than {_MAX_FILES}")
    files = sorted((_parse_file(entry, repository) for entry in listed), key=lambda file: file.path)
    if len({file.path for file in files}) != len(files):
        raise ArtifactError(f"{repository} at {commit}: the hub lists a path twice")
    return HubSnapshot(repository, kind, commit, tuple(files), revision)


def snapshot_json(snapshot: HubSnapshot) -> dict[str, Any]:
    """Return a snapshot in the hub's own words, with repository, kind and revision beside them."""
    siblings = [
        {
            "rfilename": file.path,
            "size": file.size,
            "blobId": file.blob_id,
            **({"lfs": {"sha256": file.sha256, "size": file.size}} if file.sha256 else {}),
        }
        for file in snapshot.files
    ]
    return {
        "repository": snapshot.repository,
        "kind": snapshot.kind,
        "revision": snapshot.revision,
        "sha": snapshot.commit,
        "siblings": siblings,
    }


def read_snapshot(stated: Mapping[str, Any]) -> HubSnapshot:
    """Return what `snapshot_json` wrote, checked as if the hub had sent it.

    Raises:
        ArtifactError: it is something else.

    """
    try:
        repository, kind, revision, commit = (stated[k] for k in ("repository", "kind", "revision", "sha"))
    except KeyError as error:
        raise ArtifactError(f"a list of files lacks {error}; write it with `perturb data list`") from None
    if kind not in ("dataset", "model") or not (
        _REPOSITORY.fullmatch(str(repository))
        and _COMMIT.fullmatch(str(commit))
        and str(commit).startswith(str(revision))
    ):
        raise ArtifactError(f"a list of files is of {_short(repository)} at {_short(commit)}: not a snapshot")
    return parse_snapshot(dict(stated), repository, cast("Kind", kind), commit, revision)


def _complete(hub: Hub, repository: str, kind: Kind, revision: str, pace: Pace) -> str:
    if not _SHORT.fullmatch(revision):
        raise ArtifactError(
            f"{repository}: revision {revision!r} is not a commit; expected 40 hex digits, or the first 7 or "
            "more of them. A branch or tag can move and is no pin."
        )
    found: set[str] = set()
    page: str | None = f"/api/{kind}s/{repository}/commits/main"
    for _ in range(_MAX_PAGES):
        if page is None:
            break
        listed, page = hub.read_json(page, f"{kind} {repository}, its commits", pace)
        found |= _matching(listed, revision)
    if len(found) == 1:
        return found.pop()
    stated = f"{len(found)} commits begin with it: {', '.join(sorted(found))}" if found else "no such commit"
    raise HubRefused(
        f"{kind} {repository}, revision {revision}: {stated}",
        hint="Pin the full commit of 40 hex digits.",
    )


def _matching(listed: object, revision: str) -> set[str]:
    if not isinstance(listed, list):
        raise ArtifactError(f"the hub's list of commits is {_short(listed)}; expected a list")
    ids = (entry.get("id") for entry in listed if isinstance(entry, dict))
    return {
        commit
        for commit in ids
        if isinstance(commit, str) and _COMMIT.fullmatch(commit) and commit.startswith(revision)
    }


def _parse_file(entry: object, repository: str) -> HubFile:
    if not isinstance(entry, dict):
        raise ArtifactError(f"{repository}: the hub lists {_short(entry)}; expected a file")
    path, blob_id, lfs = entry.get("rfilename"), entry.get("blobId"), entry.get("lfs")
    size = lfs.get("size") if isinstance(lfs, dict) else entry.get("size")
    sha256 = lfs.get("sha256") if isinstance(lfs, dict) else None
    if not _is_safe(path):
        raise ArtifactError(f"{repository}: the hub lists the path {_short(path)}; it is refused")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= _MAX_SIZE:
        raise ArtifactError(f"{repository}/{path}: size {_short(size)}; expected 0 to {_MAX_SIZE} bytes")
    if not isinstance(blob_id, str) or not _COMMIT.fullmatch(blob_id):
        raise ArtifactError(f"{repository}/{path}: git blob {_short(blob_id)}; expected 40 hex digits")
    if sha256 is not None and not (isinstance(sha256, str) and is_digest(sha256)):
        raise ArtifactError(f"{repository}/{path}: sha256 {_short(sha256)}; expected 64 hex digits")
    return HubFile(str(path), size, sha256, blob_id)


def _is_safe(path: object) -> bool:
    """Say whether a path stays inside its folder, whoever joins it."""
    if not isinstance(path, str) or not 0 < len(path) <= 512 or not path.isprintable() or "\\" in path:
        return False
    parts = path.split("/")
    return not PurePosixPath(path).is_absolute() and not any(part in ("", ".", "..") for part in parts)


def file_url(snapshot: HubSnapshot, file: HubFile) -> str:
    """Return the path under the endpoint at which the hub gives a file."""
    prefix = "/datasets" if snapshot.kind == "dataset" else ""
    return f"{prefix}/{snapshot.repository}/resolve/{snapshot.commit}/{quote(file.path)}"


def _short(value: object) -> str:
    return json.dumps(value, default=repr)[:80]
