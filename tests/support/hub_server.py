"""A hub on loopback: the part of the real API that huggingface_hub, `datasets` and bootstrap use.

    hub = HubServer(); repository = hub.add("dataset", "owner/name", {"data/a.parquet": b"…"})
    with hub: … HF_ENDPOINT=hub.endpoint …

What it keeps of the real one
- `GET /api/{datasets,models}/<repo>[/revision/<rev>][?blobs=true]`, `…/tree/<rev>`, `…/commits/<rev>` paged
  with a Link header; `HEAD` and `GET /[datasets/]<repo>/resolve/<rev>/<path>`.
- A file kept with LFS is answered 302 to a store on another origin (another port here) at a signed address,
  with `X-Repo-Commit`, `X-Linked-Etag`, `X-Linked-Size` beside it; a small file is answered at once with
  `ETag`. The store answers ranges (206, 416).
- 404 with `X-Error-Code` RevisionNotFound, EntryNotFound, RepoNotFound; 401 and 403 with GatedRepo; a
  shortened commit is resolved by the API.
- The token is asked for where a repository is gated. The store refuses any request that carries one (400), as
  S3 does, and the breach is counted.
huggingface_hub's own client fetches from it; a test shows that.

Faults are scripted: `hub.fault("store", "data/a.parquet", Cut(100), times=2)`. They are used up in order, and
every request is kept in `hub.requests`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.support.hub_contents import Repository, describe, entry_of, git_blob
from tests.support.hub_faults import Cut, Fault, Headers, IgnoreRange, Short, Slow, Status, Wrong
from tests.support.hub_handler import Handler, Request, Server, Where

__all__ = [
    "Cut",
    "Fault",
    "Headers",
    "HubServer",
    "IgnoreRange",
    "Repository",
    "Request",
    "Short",
    "Slow",
    "Status",
    "Wrong",
]

COMMITS_PER_PAGE = 3


class HubServer:
    """The hub and its store, each on a port of its own."""

    def __init__(self, *, token: str | None = None) -> None:
        self.token = token
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[Request] = []
        self.token_leaked = 0
        self.broken: list[BaseException] = []
        self.bytes_sent: dict[str, int] = {}
        self._faults: dict[tuple[Where, str], list[Fault]] = {}
        self._signatures: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._servers = [Server(self, _ApiHandler), Server(self, _StoreHandler)]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._servers[0].server_port}"

    @property
    def store(self) -> str:
        return f"http://127.0.0.1:{self._servers[1].server_port}"

    def environment(self, cache_dir: Path) -> dict[str, str]:
        """What a process needs in its environment to fetch from this hub into a cache."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_OFFLINE": "0",
            "PERTURB_CACHE_DIR": str(cache_dir),
            **({"HF_TOKEN": self.token} if self.token else {}),
        }

    def add(
        self,
        kind: str,
        name: str,
        files: Mapping[str, bytes],
        *,
        commit: str | None = None,
        gated: bool = False,
    ) -> Repository:
        """Add a repository of one commit."""
        commit = commit or hashlib.sha1(f"{kind}{name}".encode()).hexdigest()
        made = Repository(kind, name, {commit: dict(files)}, gated)
        self.repositories[kind, name] = made
        return made

    def fault(self, where: Where, path: str, *faults: Fault, times: int = 1) -> None:
        """Script faults for the next GETs of a file (`resolve`, `store`) or an address (`api`, no query)."""
        with self._lock:
            self._faults.setdefault((where, path), []).extend(
                itertools.chain(*itertools.repeat(faults, times))
            )

    def count(self, where: Where, path: str | None = None, method: str = "GET") -> int:
        """How many requests came."""
        return sum(
            r.where == where and r.method == method and path in (None, r.path) for r in list(self.requests)
        )

    def __enter__(self) -> Self:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
        if self.broken and error is None:
            raise self.broken[0]

    def seen(self, request: Request) -> Fault | None:
        """Keep a request; return the fault that is due, if any."""
        with self._lock:
            self.requests.append(request)
            due = self._faults.get((request.where, request.path))
            return due.pop(0) if due and request.method == "GET" else None

    def sent(self, path: str, count: int) -> None:
        with self._lock:
            self.bytes_sent[path] = self.bytes_sent.get(path, 0) + count

    def sign(self, data: bytes) -> str:
        signature = secrets.token_hex(16)
        self._signatures[signature] = data
        return signature

    def signed(self, signature: str) -> bytes | None:
        return self._signatures.get(signature)


class _ApiHandler(Handler):
    def do_HEAD(self) -> None:  # noqa: N802 - http.server's name
        self.do_GET()

    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        address = urlsplit(self.path)
        if address.path.startswith("/api/"):
            self._api(address.path, parse_qs(address.query))
            return
        found = re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", address.path)
        if not found:
            self.refuse(404, "RepoNotFound")
            return
        kind, name = ("dataset" if found[1] else "model"), found[2]
        self._resolve(kind, name, unquote(found[3]), unquote(found[4]))

    def _api(self, path: str, query: Mapping[str, list[str]]) -> None:
        fault = self.note("api", path)
        if isinstance(fault, Status):
            self.answer(fault.status, b"busy", fault.headers)
            return
        if isinstance(fault, Wrong):
            self.answer(200, fault.data, fault.headers)
            return
        found = re.fullmatch(
            r"/api/(dataset|model)s/([^/]+/[^/]+)(?:/(revision|tree|commits)/([^/]+)(/.*)?)?", path
        )
        repository = self._admitted(found[1], found[2]) if found else None
        if not found or repository is None:
            if not found:
                self.refuse(404, "RepoNotFound")
            return
        commit = repository.commit_of(unquote(found[4] or "main"))
        if commit is None:
            self.refuse(404, "RevisionNotFound")
        elif found[3] == "commits":
            self._commits(repository, path, int(query.get("p", ["0"])[0]))
        elif found[3] == "tree":
            self._json(200, [entry_of(repository, commit, name) for name in repository.commits[commit]])
        else:
            self._json(200, describe(repository, commit, blobs="blobs" in query))

    def _admitted(self, kind: str, name: str) -> Repository | None:
        repository = self.hub.repositories.get((kind, name))
        if repository is None:
            self.refuse(401 if self.bearer is None else 404, "RepoNotFound")
        elif repository.gated and self.bearer != f"Bearer {self.hub.token}":
            self.refuse(401 if self.bearer is None else 403, "GatedRepo")
        else:
            return repository
        return None

    def _commits(self, repository: Repository, path: str, page: int) -> None:
        commits = list(repository.commits)
        start = page * COMMITS_PER_PAGE
        listed = [
            {"id": commit, "title": "t", "message": "", "authors": [], "date": "2024-01-01T00:00:00.000Z"}
            for commit in commits[start : start + COMMITS_PER_PAGE]
        ]
        more = start + COMMITS_PER_PAGE < len(commits)
        link = {"Link": f'<{self.hub.endpoint}{path}?p={page + 1}>; rel="next"'} if more else {}
        self._json(200, listed, link)

    def _resolve(self, kind: str, name: str, revision: str, path: str) -> None:
        fault = self.note("resolve", path)
        if isinstance(fault, Status):
            self.answer(fault.status, b"busy", fault.headers)
            return
        repository = self._admitted(kind, name)
        if repository is None:
            return
        commit = repository.commit_of(revision)
        if commit is None or path not in repository.commits[commit]:
            self.refuse(404, "RevisionNotFound" if commit is None else "EntryNotFound")
            return
        data = repository.commits[commit][path]
        stated = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if isinstance(fault, Headers):
            stated.update(fault.headers)
        if not repository.lfs(path):
            self.content(path, data, fault, {**stated, "ETag": f'"{git_blob(data)}"'})
            return
        signed = f"{self.hub.store}/{quote(path)}?signature={self.hub.sign(data)}"
        linked = {"X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Linked-Size": str(len(data))}
        self.answer(302, headers={"Location": signed, **linked, **stated})

    def _json(self, status: int, value: object, headers: Mapping[str, str] | None = None) -> None:
        self.answer(
            status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})}
        )


class _StoreHandler(Handler):
    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        address = urlsplit(self.path)
        path = unquote(address.path[1:])
        fault = self.note("store", path)
        if self.bearer is not None:
            self.hub.token_leaked += 1
            self.answer(400, b"<Error>Only one auth mechanism allowed</Error>")
            return
        data = self.hub.signed(parse_qs(address.query).get("signature", [""])[0])
        if isinstance(fault, Status):
            self.answer(fault.status, b"busy", fault.headers)
        elif data is None:
            self.answer(403, b"<Error>SignatureDoesNotMatch</Error>")
        else:
            self.content(path, data, fault, {"ETag": f'"{hashlib.md5(data).hexdigest()}"'})
