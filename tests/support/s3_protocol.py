"""What goes over the wire of an S3: requests and their signatures (Signature Version 4), refusals, faults."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import quote
from xml.sax.saxutils import escape

AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, ?"
    r"SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})"
)
SKEW = timedelta(minutes=15)


@dataclass(frozen=True)
class Refuse:
    """Answer with this status and code, and do nothing."""

    status: int
    code: str


@dataclass(frozen=True)
class Cut:
    """Close the connection without a word: before the request takes effect, or after."""

    done: bool


@dataclass(frozen=True)
class Short:
    """Announce the whole object, send so many bytes of it and close the connection."""

    sent: int


Fault = Refuse | Cut | Short


@dataclass(frozen=True)
class Stored:
    """An object: its bytes and the headers it was put with."""

    data: bytes
    headers: dict[str, str]


@dataclass(frozen=True)
class Request:
    """What came, and how it was answered; status 0 is a connection that was cut."""

    method: str
    key: str
    status: int
    signed: bool


@dataclass
class Call:
    """One request on its way: what SigV4 signs."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes = b""

    def canonical(self, signed_headers: str) -> str:
        """The canonical request."""
        pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in self.query)
        names = signed_headers.split(";")
        lines = [f"{name}:{' '.join(self.headers.get(name, '').split())}" for name in names]
        return "\n".join(
            [
                self.method,
                quote(self.path, safe="/-_.~"),
                "&".join(f"{name}={value}" for name, value in pairs),
                *lines,
                "",
                signed_headers,
                self.headers.get("x-amz-content-sha256", ""),
            ]
        )

    def signature(self, secret: str, date: str, region: str, signed_headers: str) -> str:
        """What the Authorization header must say, in hex."""
        scope = f"{date}/{region}/s3/aws4_request"
        digest = hashlib.sha256(self.canonical(signed_headers).encode()).hexdigest()
        text = "\n".join(["AWS4-HMAC-SHA256", self.headers.get("x-amz-date", ""), scope, digest])
        key = f"AWS4{secret}".encode()
        for part in (date, region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.digest(key, text.encode(), "sha256").hex()


class Denied(Exception):
    """A refusal: status, code, and what its XML says beside."""

    def __init__(self, status: int, code: str, **said: str) -> None:
        super().__init__(code)
        self.status, self.code, self.said = status, code, said

    def xml(self) -> bytes:
        said = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in self.said.items())
        head = '<?xml version="1.0" encoding="UTF-8"?>'
        return f"{head}<Error><Code>{self.code}</Code>{said}<RequestId>0</RequestId></Error>".encode()
