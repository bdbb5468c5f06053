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
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

Where = Literal["api", "resolve", "store"]
COMMITS_PER_PAGE = 3
PIECE = 64 << 10


@dataclass(frozen=True)
class Status:
    """Answer with a status and headers instead."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cut:
    """Announce all of it, send so many bytes, then reset the connection."""

    after: int


@dataclass(frozen=True)
class Short:
    """Announce and send so many bytes only: a proper answer that is too short."""

    bytes: int


@dataclass(frozen=True)
class Wrong:
    """Answer with these bytes instead."""

    data: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class IgnoreRange:
    """Send all of it with 200, whatever range was asked for."""


@dataclass(frozen=True)
class Slow:
    """Send so many bytes a second."""

    bytes_per_s: float


@dataclass(frozen=True)
class Headers:
    """Answer as ever, with other headers."""

    headers: Mapping[str, str]


Fault = Status | Cut | Short | Wrong | IgnoreRange | Slow | Headers


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    where: Where
    method: str
    path: str  # of the file or of the address
    range: str | None
    token: str | None


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


class HubServer:
    """The hub and its store, each on a port of its own."""

    def __init__(self, *, token: str | None = None) -> None:
        self.token = token
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[Request] = []
        self.token_leaked = 0
        self.bytes_sent: dict[str, int] = {}
        self._faults: dict[tuple[Where, str], list[Fault]] = {}
        self._signatures: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._servers = [_Server(self, _ApiHandler), _Server(self, _StoreHandler)]

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


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: HubServer, handler: type[_Handler]) -> None:
        self.hub = hub
        super().__init__(("127.0.0.1", 0), handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what half of the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as in the base class
        """Quiet."""

    @property
    def hub(self) -> HubServer:
        return self.server.hub

    @property
    def bearer(self) -> str | None:
        return self.headers.get("Authorization")

    def note(self, where: Where, path: str) -> Fault | None:
        return self.hub.seen(Request(where, self.command, path, self.headers.get("Range"), self.bearer))

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str) -> None:
        self.answer(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

    def content(self, path: str, data: bytes, fault: Fault | None, headers: Mapping[str, str]) -> None:
        """Send a file, or the range of it that was asked for, with the fault that is due."""
        if isinstance(fault, Wrong):
            data = fault.data
        start, status = 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and not isinstance(fault, IgnoreRange):
            start, status = int(asked[1]), 206
            if start >= len(data):
                self.answer(416, headers={"Content-Range": f"bytes */{len(data)}"})
                return
            headers = {**headers, "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        body = data[start:]
        if isinstance(fault, Short):
            body = body[: fault.bytes]
        self.send_response(status)
        extra = fault.headers if isinstance(fault, Headers) else {}
        for name, value in {"Content-Length": str(len(body)), **headers, **extra}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self._send(path, body, fault)

    def _send(self, path: str, body: bytes, fault: Fault | None) -> None:
        limit = fault.after if isinstance(fault, Cut) else len(body)
        piece = PIECE if not isinstance(fault, Slow) else max(1, int(fault.bytes_per_s / 20))
        for start in range(0, limit, piece):
            part = body[start : min(start + piece, limit)]
            self.wfile.write(part)
            self.hub.sent(path, len(part))
            if isinstance(fault, Slow):
                time.sleep(0.05)
        if isinstance(fault, Cut):
            self.wfile.flush()
            time.sleep(0.05)  # a reset overtakes what the other side has not read yet
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()


class _ApiHandler(_Handler):
    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
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
            self._json(200, [_entry(repository, commit, name) for name in repository.commits[commit]])
        else:
            self._json(200, _info(repository, commit, blobs="blobs" in query))

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
            self.content(path, data, fault, {**stated, "ETag": f'"{_git_blob(data)}"'})
            return
        signed = f"{self.hub.store}/{quote(path)}?signature={self.hub.sign(data)}"
        linked = {"X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Linked-Size": str(len(data))}
        self.answer(302, headers={"Location": signed, **linked, **stated})

    def _json(self, status: int, value: object, headers: Mapping[str, str] | None = None) -> None:
        self.answer(
            status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})}
        )


class _StoreHandler(_Handler):
    def do_GET(self) -> None:
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


def _info(repository: Repository, commit: str, *, blobs: bool) -> dict[str, Any]:
    files = repository.commits[commit]
    siblings = [
        _sibling(repository, path, data) if blobs else {"rfilename": path} for path, data in files.items()
    ]
    return {
        "id": repository.name,
        "sha": commit,
        "siblings": siblings,
        "private": False,
        "tags": [],
        "downloads": 0,
    }


def _sibling(repository: Repository, path: str, data: bytes) -> dict[str, Any]:
    stated: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": _git_blob(data)}
    if repository.lfs(path):
        digest = hashlib.sha256(data).hexdigest()
        pointer = (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(data)}\n".encode()
        )
        stated |= {
            "blobId": _git_blob(pointer),
            "lfs": {"sha256": digest, "size": len(data), "pointerSize": len(pointer)},
        }
    return stated


def _entry(repository: Repository, commit: str, path: str) -> dict[str, Any]:
    sibling = _sibling(repository, path, repository.commits[commit][path])
    entry: dict[str, Any] = {"type": "file", "path": path, "size": sibling["size"], "oid": sibling["blobId"]}
    if "lfs" in sibling:
        entry["lfs"] = {
            "oid": sibling["lfs"]["sha256"],
            "size": sibling["size"],
            "pointerSize": sibling["lfs"]["pointerSize"],
        }
    return entry


def _git_blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
