"""An S3 on loopback: the part of the real protocol that publishing a log uses, and its refusals.

    with S3Server("logs") as s3: … s3.use(monkeypatch) makes this process its client …

What it keeps of the real one
- Path-style addresses; `PUT`, `GET` (whole, or from a byte on), `DELETE` of an object, `ListObjectsV2` in
  pages. An object has the Content-Type and Cache-Control it was put with.
- AWS Signature Version 4 in the Authorization header is verified: key, date, region, headers, the payload's
  SHA-256. The verifier reproduces the example of Amazon's documentation
  (tests/unit/support/test_s3_server.py).
- A refusal is XML with S3's code. `SignatureDoesNotMatch` repeats the canonical request, as the real one
  does: the session token is part of it, so a client that shows the body shows the token.
- `public` is a bucket policy that lets anybody read objects, and nobody list them.
- A missing object is 404 only for a key that may list the bucket, else 403.

Faults are scripted: `s3.fault("PUT", "log/checkpoint", Refuse(503, "SlowDown"), times=2)`. They are used up
in order; what happened is counted in `s3.injected`, and every request is kept in `s3.requests`.

Source: Amazon S3 API reference, "Authenticating requests: using the Authorization header" and "Errors".
"""

from __future__ import annotations

import hashlib
import hmac
import http.server
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

from tests.support.s3_protocol import (
    AUTHORIZATION,
    SKEW,
    Call,
    Cut,
    Denied,
    Fault,
    Refuse,
    Request,
    Short,
    Stored,
)

__all__ = ["Cut", "Fault", "Refuse", "Request", "S3Server", "Short", "Stored"]

KEPT_HEADERS = ("content-type", "cache-control")


@dataclass
class S3Server:
    """A store with one key pair, and buckets by name."""

    bucket: str
    public: bool = True
    may_list: bool = True
    key_id: str = "AKIDTWIN"
    secret: str = "a secret of the twin"
    token: str = "a session token of the twin"
    region: str = "us-east-1"
    page: int = 3
    pause_s: float = 0.0
    busiest: int = 0
    objects: dict[str, Stored] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    injected: Counter[str] = field(default_factory=Counter)
    _faults: dict[tuple[str, str], list[Fault]] = field(default_factory=dict)
    _busy: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.s3 = self

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        """Where anybody reads the bucket."""
        return f"{self.endpoint}/{self.bucket}"

    def environment(self) -> dict[str, str]:
        """What a client needs in its environment."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": self.region,
            "AWS_ACCESS_KEY_ID": self.key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_SESSION_TOKEN": self.token,
        }

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make this process a client of it, and of nothing else that speaks S3."""
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        for name, value in self.environment().items():
            monkeypatch.setenv(name, value)

    def fault(self, method: str, key: str, fault: Fault, *, times: int = 1) -> None:
        """Script faults for the next requests for an object; `key` may be '*'."""
        with self._lock:
            self._faults.setdefault((method, key), []).extend([fault] * times)

    def order(self, method: str) -> list[str]:
        """The keys of the requests that were done, in their order."""
        return [item.key for item in self.requests if item.method == method and 200 <= item.status < 300]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def next_fault(self, method: str, key: str) -> Fault | None:
        """The fault that is due, used up and counted."""
        with self._lock:
            for name in (key, "*"):
                if left := self._faults.get((method, name)):
                    fault = left.pop(0)
                    self.injected[fault.code if isinstance(fault, Refuse) else type(fault).__name__] += 1
                    return fault
        return None

    def check(self, call: Call) -> bool:
        """Whether the call is signed; an unsigned one may be allowed to read.

        Raises:
            Denied: the signature, the key, the date or the payload is wrong.

        """
        if "authorization" not in call.headers:
            return False
        found = AUTHORIZATION.fullmatch(call.headers["authorization"])
        if not found:
            raise Denied(400, "AuthorizationHeaderMalformed")
        key_id, date, region, signed, signature = found.groups()
        if key_id != self.key_id:
            raise Denied(403, "InvalidAccessKeyId", AWSAccessKeyId=key_id)
        if region != self.region:
            raise Denied(400, "AuthorizationHeaderMalformed", Region=self.region)
        stamp = datetime.strptime(call.headers.get("x-amz-date", ""), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs(datetime.now(UTC) - stamp) > SKEW:
            raise Denied(403, "RequestTimeTooSkewed")
        needed = {"host", *(name for name in call.headers if name.startswith("x-amz-"))}
        wanted = call.signature(self.secret, date, region, signed)
        if not needed <= set(signed.split(";")) or not hmac.compare_digest(wanted, signature):
            raise Denied(403, "SignatureDoesNotMatch", CanonicalRequest=call.canonical(signed))
        if call.headers["x-amz-content-sha256"] != hashlib.sha256(call.body).hexdigest():
            raise Denied(400, "XAmzContentSHA256Mismatch")
        if call.headers.get("x-amz-security-token") != self.token:
            raise Denied(400, "InvalidToken")
        return True

    @contextmanager
    def taking_time(self) -> Iterator[None]:
        """Take as long as a real one, and remember how many requests were under way at once."""
        with self._lock:
            self._busy += 1
            self.busiest = max(self.busiest, self._busy)
        time.sleep(self.pause_s)
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1

    def perform(self, call: Call, key: str, *, signed: bool) -> Stored:
        """Do it; what is answered.

        Raises:
            Denied: not allowed, or not there.

        """
        reads = call.method in {"GET", "HEAD"}
        if not signed and not (self.public and reads and key):
            raise Denied(403, "AccessDenied")
        with self._lock:
            match call.method:
                case "PUT" if key:
                    kept = {name: call.headers[name] for name in KEPT_HEADERS if name in call.headers}
                    self.objects[key] = Stored(call.body, kept)
                    return Stored(b"", {"ETag": f'"{hashlib.md5(call.body).hexdigest()}"'})
                case "DELETE" if key:
                    self.objects.pop(key, None)
                    return Stored(b"", {})
                case "GET" | "HEAD" if key:
                    return self._get(key, may_know=signed and self.may_list)
                case "GET" if self.may_list:
                    return Stored(self._list(dict(call.query)), {"content-type": "application/xml"})
        raise Denied(403, "AccessDenied")

    def _get(self, key: str, *, may_know: bool) -> Stored:
        if key not in self.objects:
            raise Denied(404, "NoSuchKey", Key=key) if may_know else Denied(403, "AccessDenied")
        found = self.objects[key]
        tag = hashlib.md5(found.data).hexdigest()
        more = {"ETag": f'"{tag}"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        return Stored(found.data, found.headers | more)

    def _list(self, query: dict[str, str]) -> bytes:
        after = query.get("continuation-token", "")
        names = sorted(
            name for name in self.objects if name.startswith(query.get("prefix", "")) and name > after
        )
        page, more = names[: self.page], len(names) > self.page
        rows = "".join(
            f"<Contents><Key>{escape(name)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<Size>{len(self.objects[name].data)}</Size></Contents>"
            for name in page
        )
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        head = f"<Name>{self.bucket}</Name><IsTruncated>{str(more).lower()}</IsTruncated>"
        return f"<ListBucketResult>{head}{rows}{token}</ListBucketResult>".encode()


class _Server(http.server.ThreadingHTTPServer):
    s3: S3Server
    daemon_threads = True


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes; else each answer waits 40 ms
    server: _Server

    def _handle(self) -> None:
        s3, parts = self.server.s3, urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        query = parse_qsl(parts.query, keep_blank_values=True)
        call = Call(self.command, unquote(parts.path), query, headers, body)
        bucket, _, key = call.path.removeprefix("/").partition("/")
        fault, signed = s3.next_fault(self.command, key), False
        if fault == Cut(done=False):
            return self._cut(key)
        try:
            if isinstance(fault, Refuse):
                raise Denied(fault.status, fault.code)
            signed = s3.check(call)
            if bucket != s3.bucket:
                raise Denied(404, "NoSuchBucket", BucketName=bucket)
            with s3.taking_time():
                answer, status = s3.perform(call, key, signed=signed), 200
        except Denied as denied:
            answer, status = Stored(denied.xml(), {"content-type": "application/xml"}), denied.status
        if fault == Cut(done=True):
            return self._cut(key)
        s3.requests.append(Request(self.command, key, status, signed))
        return self._answer(status, answer, fault.sent if isinstance(fault, Short) else None)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _handle  # noqa: N815 - http.server's names

    def _answer(self, status: int, answer: Stored, sent: int | None) -> None:
        data, total = answer.data, len(answer.data)
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if status == 200 and found:
            start, end = int(found[1]), min(int(found[2] or total), total - 1)
            status, data = 206, data[start : end + 1]
        self.send_response(status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if status == 206 and found:
            self.send_header("Content-Range", f"bytes {found[1]}-{int(found[1]) + len(data) - 1}/{total}")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            with suppress(BrokenPipeError, ConnectionResetError):  # a reader need not hear a refusal out
                self.wfile.write(data[:sent])
        self.close_connection = sent is not None

    def _cut(self, key: str) -> None:
        self.server.s3.requests.append(Request(self.command, key, 0, signed=False))
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""
