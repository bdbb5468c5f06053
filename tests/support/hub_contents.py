"""What a hub holds, and how its API describes it; see `hub_server`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class Repository:
    """A repository: its commits, newest first, and the files of each."""

    kind: str
    name: str
    commits: dict[str, dict[str, bytes]]
    gated: bool = False
    lfs: Callable[[str], bool] = lambda path: path.endswith((".parquet", ".safetensors", ".bin"))

    @property
    def head(self) -> str:
        return next(iter(self.commits))

    def commit_of(self, revision: str) -> str | None:
        if revision == "main":
            return self.head
        found = [commit for commit in self.commits if len(revision) >= 7 and commit.startswith(revision)]
        return found[0] if len(found) == 1 else None


def describe(repository: Repository, commit: str, *, blobs: bool) -> dict[str, Any]:
    files = repository.commits[commit]
    siblings = [
        sibling_of(repository, path, data) if blobs else {"rfilename": path} for path, data in files.items()
    ]
    return {
        "id": repository.name,
        "sha": commit,
        "siblings": siblings,
        "private": False,
        "tags": [],
        "downloads": 0,
    }


def sibling_of(repository: Repository, path: str, data: bytes) -> dict[str, Any]:
    stated: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": git_blob(data)}
    if repository.lfs(path):
        digest = hashlib.sha256(data).hexdigest()
        pointer = (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(data)}\n".encode()
        )
        stated |= {
            "blobId": git_blob(pointer),
            "lfs": {"sha256": digest, "size": len(data), "pointerSize": len(pointer)},
        }
    return stated


def entry_of(repository: Repository, commit: str, path: str) -> dict[str, Any]:
    sibling = sibling_of(repository, path, repository.commits[commit][path])
    entry: dict[str, Any] = {"type": "file", "path": path, "size": sibling["size"], "oid": sibling["blobId"]}
    if "lfs" in sibling:
        entry["lfs"] = {
            "oid": sibling["lfs"]["sha256"],
            "size": sibling["size"],
            "pointerSize": sibling["lfs"]["pointerSize"],
        }
    return entry


def git_blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
