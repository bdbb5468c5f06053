"""A published log in an S3-compatible store: `s3://BUCKET/PREFIX`.

Rules
- The library is obstore (Rust's object_store), an extra of this package, imported when it is needed. It takes
  credentials, region and endpoint from its own variables: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
  AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL; AWS_ALLOW_HTTP for an endpoint without TLS.
- One object is one PUT, which a store makes visible whole or not at all. Tries are bounded; a PUT may be
  tried again after a cut connection, because the same name always gets the same bytes or newer ones.
- Only the store's own word NoSuchKey means that an object is not there. Whatever else goes wrong while the
  checkpoint is looked for must not look as if nothing had been published.
- What the store answers is not repeated: the body of a refusal holds the request's headers, and among them
  the session token. Its code, a word, is. The library's error never follows as the cause of ours.
- What never changes may be cached for ever; checkpoint, keys and anchors may not be cached at all.

Source: c2sp.org/tlog-tiles (content types, caching); Amazon S3 API reference, "Error responses".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from perturbnet.errors import BundleError, BundleMissing, LedgerError

if TYPE_CHECKING:
    from obstore import Attributes
    from obstore.store import RetryConfig, S3Store

SCHEME = "s3://"
TRIES_AFTER_THE_FIRST = 5
TRYING_S = 60.0
_CHUNK = 1 << 16
_ADDRESS = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])((?:/[A-Za-z0-9][A-Za-z0-9._-]{0,62})*)/?")
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,64})</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_TRIES = re.compile(r"after (\d{1,3}) retries")
_MISSING = "NoSuchKey"
_UNSEALED = "builder error"
_ROLE = "/latest/"
_KEY_HINT = "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, where there is one, AWS_SESSION_TOKEN"
_HINTS = {
    "NoSuchBucket": "create the bucket first, or mend its name",
    "AccessDenied": "the key needs s3:GetObject, PutObject and DeleteObject below the prefix, and ListBucket",
    "InvalidAccessKeyId": _KEY_HINT,
    "SignatureDoesNotMatch": _KEY_HINT,
    "ExpiredToken": _KEY_HINT,
    "InvalidToken": _KEY_HINT,
    "AuthorizationHeaderMalformed": "set AWS_REGION to the bucket's region",
    "PermanentRedirect": "set AWS_REGION to the bucket's region",
    "RequestTimeTooSkewed": "set this machine's clock",
    "SlowDown": "the store asks for fewer requests; it is tried again later",
}
IMMUTABLE = "public, max-age=31536000, immutable"
MUTABLE = "no-store"


class Bucket:
    """A folder of a bucket, as a `places.Target`. Threads may share it."""

    at_once = 16

    def __init__(self, url: str, *, backoff_s: float = 0.2) -> None:
        """Use the folder at `url`; nothing is fetched yet. The first pause before another try is `backoff_s`.

        Raises:
            BundleError: not of the form s3://BUCKET/PREFIX.
            LedgerError: the library is not installed, or its variables contradict each other.

        """
        found = _ADDRESS.fullmatch(url)
        if found is None:
            raise BundleError(
                f"{url[:200]!r} is no place in a bucket: s3://BUCKET/PREFIX, without credentials or a query"
            )
        self.url = url.rstrip("/")
        self._store = _open_store(found[1], found[2].strip("/"), backoff_s)

    def __str__(self) -> str:
        return self.url

    def read(self, name: str, limit_bytes: int) -> bytes:
        """See `Place`."""
        import obstore

        data = bytearray()
        with self._said(name, "read"):
            for piece in obstore.get(self._store, name).stream(_CHUNK):
                data += piece
                if len(data) > limit_bytes:
                    raise BundleError(
                        f"{self.url}/{name} has more than the {limit_bytes} bytes that are allowed"
                    )
        return bytes(data)

    def write(self, name: str, data: bytes) -> None:
        """See `Target`."""
        import obstore

        with self._said(name, "written"):
            obstore.put(self._store, name, data, attributes=headers_of(name), use_multipart=False)

    def place(self, name: str, data: bytes, origin: Path) -> None:  # noqa: ARG002 - a folder's shortcut
        """See `Target`."""
        self.write(name, data)

    def remove(self, name: str) -> None:
        """See `Target`."""
        import obstore

        try:
            with self._said(name, "removed"):
                obstore.delete(self._store, name)
        except BundleMissing:
            return

    def remove_folder(self, name: str) -> None:
        """See `Target`."""
        import obstore

        with self._said(name, "listed"):
            found = [item["path"] for page in obstore.list(self._store, prefix=name) for item in page]
        for path in found:
            self.remove(path)

    def close(self) -> None:
        """Nothing is held."""

    @contextmanager
    def _said(self, name: str, verb: str) -> Iterator[None]:
        """Turn the library's errors into ours, without what the store answered."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError) as error:
            text = str(error)
        else:
            return
        code = _found(_CODE, text)
        if code == _MISSING:
            raise BundleMissing(f"{name} is not in {self.url}") from None
        reason, hint = _reason(text, code)
        raise LedgerError(f"{self.url}/{name} cannot be {verb}: {reason}", hint=hint) from None


def headers_of(name: str) -> Attributes:
    """Content type and caching of a published file."""
    if name.startswith(("tile/", "blobs/")):
        return {"Content-Type": "application/octet-stream", "Cache-Control": IMMUTABLE}
    kind = "application/json" if name.endswith(".json") else "text/plain; charset=utf-8"
    return {"Content-Type": kind, "Cache-Control": MUTABLE}


def _open_store(bucket: str, prefix: str, backoff_s: float) -> S3Store:
    try:
        from obstore.exceptions import BaseError
        from obstore.store import S3Store
    except ImportError:
        raise LedgerError(
            "publishing to s3:// needs the package obstore, which is not installed",
            hint="pip install 'perturbnet[s3]'",
        ) from None
    retries: RetryConfig = {
        "max_retries": TRIES_AFTER_THE_FIRST,
        "retry_timeout": timedelta(seconds=TRYING_S),
        "backoff": {"init_backoff": timedelta(seconds=backoff_s), "max_backoff": timedelta(seconds=15)},
    }
    try:
        # One DELETE an object: the bulk request is not part of every store that calls itself compatible. No
        # options for the client: they would replace what the library's variables say of it (TLS, proxy).
        return S3Store(
            bucket,
            prefix=prefix or None,
            disable_bulk_delete=True,
            retry_config=retries,
        )
    except BaseError as error:
        reason, hint = _reason(str(error), "")
        raise LedgerError(f"s3://{bucket} cannot be used: {reason}", hint=hint or _KEY_HINT) from None


def _reason(text: str, code: str) -> tuple[str, str]:
    """What went wrong, in words that hold nothing of the store's answer but a code; and what to do."""
    tries = _found(_TRIES, text)
    said = f", tried {int(tries) + 1} times" if tries else ""
    if status := _found(_STATUS, text):
        return f"status {status} {code}".rstrip() + said, _HINTS.get(code, "")
    first = text.partition("\n")[0]
    if _UNSEALED in first:
        return "its endpoint is no https:// address", "AWS_ALLOW_HTTP=true allows http://"
    if _ROLE in first:
        return "there is no key, and this machine has no role of its own", _KEY_HINT
    return first.rpartition(" - ")[2][:200] + said, ""


def _found(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match[1] if match else ""
