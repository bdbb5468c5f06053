"""Where a published log lies: a folder, a bucket, or a web server that shows one.

Rules
- What is read is hostile: its length is capped before it is read and while it is read, a folder's file must
  be a plain file, and a server has one deadline for a whole file, however slowly it sends.
- A server is not followed elsewhere: a redirect is an error that names the place it points to.
- What is written to a folder is durable, whole or not there (`artifacts.write_durably`).
"""

from __future__ import annotations

import http.client
import os
import shutil
import stat
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlsplit

from perturbnet.errors import BundleError, BundleMissing, LedgerError
from perturbnet.runtime.artifacts import write_durably
from perturbnet.runtime.clock import Clock, SystemClock
from perturbnet.runtime.folders import make_folder, sync_folder
from perturbnet.version import __version__

FILE_TIMEOUT_S = 60.0
_CHUNK = 1 << 16
_BROKEN = (OSError, http.client.HTTPException)


class Place(Protocol):
    """A published log that can be read. Names are relative, with slashes."""

    def read(self, name: str, limit_bytes: int) -> bytes:
        """A file's bytes.

        Raises:
            BundleMissing: there is no such file, or a web server does not hand it out.
            BundleError: it is longer than `limit_bytes`, no plain file, or cannot be read.
            LedgerError: a bucket refuses it, or cannot be reached.

        """

    def close(self) -> None:
        """Let go of it."""


class WritablePlace(Place, Protocol):
    """A published log that can be written."""

    at_once: int
    """How many files it takes at the same time, each from a thread of its own."""

    def write(self, name: str, data: bytes) -> None:
        """Put a file there, whole or not at all; when it returns it is there to stay.

        Raises:
            LedgerError: it cannot be written.

        """

    def place(self, name: str, data: bytes, origin: Path) -> None:
        """As `write`, for bytes that also lie in the file `origin`, which never changes; twice is fine."""

    def remove(self, name: str) -> None:
        """Take a file away; none is fine."""

    def remove_folder(self, name: str) -> None:
        """Take away everything below a name; nothing is fine."""


class Folder:
    """A folder of this machine."""

    at_once = 1

    def __init__(self, path: Path) -> None:
        """Use `path`, which need not exist yet."""
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def read(self, name: str, limit_bytes: int) -> bytes:
        """See `Place`."""
        path = self.path / name
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(handle, "rb") as file:
                _check_plain(path, os.fstat(handle), limit_bytes)
                data = file.read(limit_bytes + 1)
        except (FileNotFoundError, NotADirectoryError):
            raise BundleMissing(f"{name} is not in {self.path}") from None
        except OSError as error:
            # Not "missing": a publisher must not take a checkpoint it cannot read for one that is not there.
            raise BundleError(f"{path} cannot be read: {error.strerror}") from error
        _check_length(str(path), len(data), limit_bytes)
        return data

    def write(self, name: str, data: bytes) -> None:
        """See `WritablePlace`."""
        path = self.path / name
        try:
            make_folder(path.parent)
            write_durably(path, data)
        except OSError as error:
            raise LedgerError(f"{path} cannot be written: {error.strerror}") from error

    def place(self, name: str, data: bytes, origin: Path) -> None:
        """See `WritablePlace`: a second name for the same file where the file system allows it."""
        path = self.path / name
        try:
            make_folder(path.parent)
            path.hardlink_to(origin)
            sync_folder(path.parent)
        except FileExistsError:
            pass
        except OSError:
            self.write(name, data)

    def remove_folder(self, name: str) -> None:
        """See `WritablePlace`."""
        try:
            shutil.rmtree(self.path / name)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise LedgerError(f"{self.path / name} cannot be removed: {error.strerror}") from error

    def remove(self, name: str) -> None:
        """See `WritablePlace`; a folder that is empty then goes too."""
        path = self.path / name
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise LedgerError(f"{path} cannot be removed: {error.strerror}") from error
        with suppress(OSError):
            path.parent.rmdir()

    def close(self) -> None:
        """Nothing is held."""


class Web:
    """A web server that shows a folder. One thread at a time."""

    def __init__(self, url: str, *, timeout_s: float = FILE_TIMEOUT_S, clock: Clock | None = None) -> None:
        """Use the folder at `url`; nothing is fetched yet.

        Raises:
            BundleError: not an http or https address.

        """
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise BundleError(f"{url[:200]!r} is no address of a published log: http(s)://host[:port]/path")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self.url = url.rstrip("/")
        self._prefix = parts.path.rstrip("/")
        self._connection = kind(parts.hostname, parts.port, timeout=timeout_s)
        self._timeout_s, self._clock = timeout_s, clock or SystemClock()

    def __str__(self) -> str:
        return self.url

    def read(self, name: str, limit_bytes: int) -> bytes:
        """See `Place`. A connection that the server has closed meanwhile is opened once more."""
        try:
            try:
                return self._get(name, limit_bytes)
            except (http.client.RemoteDisconnected, ConnectionError, http.client.CannotSendRequest):
                self._connection.close()
                return self._get(name, limit_bytes)
        except _BROKEN as error:
            self._connection.close()
            reason = str(error) or type(error).__name__
            raise BundleMissing(f"{self.url}/{name} cannot be fetched: {reason}") from error
        except BundleError:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _get(self, name: str, limit_bytes: int) -> bytes:
        where = f"{self.url}/{name}"
        deadline_s = self._clock.monotonic_s() + self._timeout_s
        headers = {"User-Agent": f"perturb/{__version__}", "Accept-Encoding": "gzip, identity"}
        self._connection.request("GET", f"{self._prefix}/{quote(name)}", headers=headers)
        response = self._connection.getresponse()
        if response.status != http.client.OK:
            elsewhere = response.getheader("Location", "")[:200]
            raise BundleMissing(f"{where}: status {response.status} {elsewhere}".rstrip())
        length = response.length
        if length is not None and length > limit_bytes:
            raise BundleError(f"{where} has {length} bytes; at most {limit_bytes} are allowed")
        data = self._body(response, where, limit_bytes, deadline_s)
        match response.getheader("Content-Encoding", "identity").lower():
            case "identity":
                return data
            case "gzip":
                return _gunzip(where, data, limit_bytes)
            case other:
                raise BundleError(f"{where} is encoded as {other[:40]!r}, which nobody asked for")

    def _body(
        self, response: http.client.HTTPResponse, where: str, limit_bytes: int, deadline_s: float
    ) -> bytes:
        data = bytearray()
        while piece := response.read1(_CHUNK):
            data += piece
            _check_length(where, len(data), limit_bytes)
            if self._clock.monotonic_s() > deadline_s:
                raise BundleMissing(f"{where} did not come within {self._timeout_s:g} s")
        if response.length:
            raise BundleMissing(f"{where} was cut off {response.length} bytes before its end")
        response.close()  # `read1` forgets to before Python 3.11.8, and the connection takes no other request
        return bytes(data)


def open_place(place: str | Path) -> Place:
    """The folder or the web server that `place` names.

    Raises:
        BundleError: an address of another kind.

    """
    if isinstance(place, str) and "://" in place:
        return Web(place)
    return Folder(Path(place).expanduser())


def open_target(place: str | Path) -> WritablePlace:
    """The folder or the bucket (s3://BUCKET/PREFIX) that `place` names, to be written to.

    Raises:
        BundleError: an address of another kind; a web server shows what is published, it does not take it.
        LedgerError: a bucket, and the library for it is not installed or has no key.

    """
    if isinstance(place, str) and "://" in place:
        from perturbnet.transparency.buckets import SCHEME, Bucket

        if place.startswith(SCHEME):
            return Bucket(place)
        raise BundleError(
            f"{place[:200]} cannot be written to: publish into a folder that a web server shows, or into "
            "s3://BUCKET/PREFIX"
        )
    return Folder(Path(place).expanduser())


def _check_plain(path: Path, found: os.stat_result, limit_bytes: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise BundleError(f"{path} is no plain file")
    if found.st_size > limit_bytes:
        raise BundleError(f"{path} has {found.st_size} bytes; at most {limit_bytes} are allowed")


def _check_length(where: str, length: int, limit_bytes: int) -> None:
    if length > limit_bytes:
        raise BundleError(f"{where} has more than the {limit_bytes} bytes that are allowed")


def _gunzip(where: str, data: bytes, limit_bytes: int) -> bytes:
    inflater = zlib.decompressobj(wbits=31)
    try:
        plain = inflater.decompress(data, limit_bytes + 1)
    except zlib.error as error:
        raise BundleError(f"{where} does not inflate: {error}") from None
    if not inflater.eof and len(plain) <= limit_bytes:
        raise BundleMissing(f"{where} was cut off before its end")
    _check_length(where, len(plain), limit_bytes)
    return plain
