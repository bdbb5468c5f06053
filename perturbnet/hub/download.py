"""A fetch under way: steps 2 to 6 of `fetching`, on one file whose lock is held."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import httpx2

from perturbnet.errors import DigestMismatch, HubRefused
from perturbnet.hub.connection import Fault, Hub, Pace, Patience
from perturbnet.hub.digests import PIECE, Digest, digest_of, feed, start_digest
from perturbnet.hub.disk import require_space
from perturbnet.hub.layout import CachePlace, link_or_copy, quarantine
from perturbnet.hub.listing import HubFile, HubSnapshot, file_url
from perturbnet.runtime.folders import sync_folder

FLUSH_BYTES = 64 << 20
WINDOW_S = 60.0
LEAST_BYTES_PER_WINDOW = 64 << 10  # slower than this is a hub that holds us, not one that serves us
_CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a file is: bytes there, bytes in all, tries, what it waits for."""

    path: str
    done: int
    total: int
    attempt: int
    note: str = ""


@dataclass(slots=True)
class _Crawl:
    """Notices a hub that sends just enough not to be silent."""

    since_s: float
    since_done: int

    def check(self, now_s: float, done: int) -> None:
        if now_s - self.since_s <= WINDOW_S:
            return
        gained = done - self.since_done
        if gained < LEAST_BYTES_PER_WINDOW:
            raise Fault(f"{gained} bytes in {now_s - self.since_s:.0f} s")
        self.since_s, self.since_done = now_s, done


class Download:
    """A fetch under way: what is there, what came, how often it was tried."""

    def __init__(
        self,
        file: HubFile,
        snapshot: HubSnapshot,
        place: CachePlace,
        hub: Hub,
        pace: Pace,
        report: Callable[[Progress], None],
    ) -> None:
        self.file, self.place, self.hub, self.pace, self.report = file, place, hub, pace, report
        self.what = f"{snapshot.repository}/{file.path}"
        self.url = file_url(snapshot, file)
        self.commit = snapshot.commit
        self.fetched = self.resumed_from = self.done = self.attempts = 0
        self.digest: Digest = start_digest(file)

    def is_done(self) -> bool:
        """Step 2: say whether the blob is in place and right; a wrong one goes to quarantine."""
        if not self.place.blob.exists():
            return False
        found = digest_of(self.file, self.place.blob)
        if found == self.file.etag:
            return True
        kept = quarantine(self.place, self.place.blob, found)
        wanted, got = named(self.file, self.file.etag), named(self.file, found)
        self._tell(f"damaged since it was fetched: expected {wanted}, got {got}; moved to {kept}")
        return False

    def take_from(self, caches: Sequence[Path]) -> bool:
        """Step 2, from other caches: say whether one of them had it."""
        for cache in caches:
            there = self.place.within(cache).blob
            if not there.is_file() or there.stat().st_size != self.file.size:
                continue
            if digest_of(self.file, there) == self.file.etag:
                self._tell(f"found in {cache}")
                link_or_copy(there.resolve(), self.place.blob)
                self.place.incomplete.unlink(missing_ok=True)
                return True
        return False

    def run(self) -> None:
        """Steps 3 to 7."""
        require_space(self.place.blob.parent, _missing(self.place.incomplete, self.file), self.what)
        with _open_partial(self.place.incomplete) as target:
            self._take_up(target)
            patience = Patience(self.what, self.pace, on_wait=self._tell_wait)
            while self.done < self.file.size:
                before = self.done
                patience.attempts += 1
                self.attempts = patience.attempts
                try:
                    self._attempt(target)
                except Fault as fault:
                    patience.endure(fault, progress=self.done - before >= min(PIECE, self.file.size))
            os.fsync(target.fileno())
        self._judge()
        self.place.incomplete.replace(self.place.blob)
        sync_folder(self.place.blob.parent)

    def _take_up(self, target: BinaryIO) -> None:
        """Hash what an earlier run left; what is longer than the file can be none of it."""
        if os.fstat(target.fileno()).st_size > self.file.size:
            self._begin_again(target)
        self.done = self.resumed_from = feed(self.digest, target)
        self._tell()

    def _begin_again(self, target: BinaryIO) -> None:
        target.seek(0)
        target.truncate()
        self.done, self.digest = 0, start_digest(self.file)

    def _attempt(self, target: BinaryIO) -> None:
        """Ask for what is missing and write it.

        Raises:
            Fault: it did not all come.

        """
        headers = {"Range": f"bytes={self.done}-"} if self.done else {}
        with self.hub.get(self.url, self.what, headers) as (response, stated):
            self._check_identity(stated)
            if response.status_code == 200 and self.done:
                self._begin_again(target)
            self._check_framing(response)
            try:
                self._write(response, target)
            finally:
                target.flush()
        if self.done < self.file.size:
            raise Fault(f"a short read: {self.done} of {self.file.size} bytes")

    def _write(self, response: httpx2.Response, target: BinaryIO) -> None:
        told = flushed = self.done
        crawl = _Crawl(self.pace.monotonic_s(), self.done)
        for piece in response.iter_raw():  # as they arrive: a cut then loses none of them
            if self.done + len(piece) > self.file.size:
                raise Fault(f"more than {self.file.size} bytes came")
            target.write(piece)
            self.digest.update(piece)
            self.done += len(piece)
            self.fetched += len(piece)
            if self.done - flushed >= FLUSH_BYTES:
                target.flush()
                os.fsync(target.fileno())
                flushed = self.done
            if self.done - told >= PIECE or self.done == self.file.size:
                self._tell()
                told = self.done
            crawl.check(self.pace.monotonic_s(), self.done)

    def _check_identity(self, stated: Mapping[str, str]) -> None:
        """Compare what the hub says of the file it hands out with what was listed, before its bytes come."""
        commit = stated.get("X-Repo-Commit")
        if commit not in (None, self.commit):
            raise HubRefused(f"{self.what}: the hub hands out commit {commit!r:.60}; expected {self.commit}")
        etag = stated.get("X-Linked-Etag", "").removeprefix("W/").strip('"')
        if etag and etag != self.file.etag:
            raise DigestMismatch(
                f"{self.what}: the hub hands out another file",
                named(self.file, self.file.etag),
                named(self.file, etag[:64]),
            )

    def _check_framing(self, response: httpx2.Response) -> None:
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise Fault(f"content encoding {encoding!r:.20}; expected identity")
        if response.status_code == 206:
            stated = response.headers.get("Content-Range", "")
            found = _CONTENT_RANGE.fullmatch(stated)
            if not found or int(found[1]) != self.done or int(found[3]) != self.file.size:
                raise Fault(f"range {stated!r:.60}; expected bytes {self.done}- of {self.file.size}")
        length = response.headers.get("Content-Length", "")
        if length.isdigit() and int(length) > self.file.size - self.done:
            raise Fault(f"{length[:20]} bytes announced; expected {self.file.size - self.done}")

    def _judge(self) -> None:
        found = self.digest.hexdigest()
        if found == self.file.etag:
            return
        kept = quarantine(self.place, self.place.incomplete, found)
        part = f" Its first {self.resumed_from} bytes were from an earlier run." if self.resumed_from else ""
        raise DigestMismatch(
            self.what,
            named(self.file, self.file.etag),
            named(self.file, found),
            hint=f"It is in quarantine: {kept}.{part} The next run fetches it from the beginning.",
        )

    def _tell(self, note: str = "") -> None:
        self.report(Progress(self.file.path, self.done, self.file.size, self.attempts, note))

    def tell_lock(self) -> None:
        """Say that another process has the file."""
        self._tell("another process is fetching it; waiting")

    def _tell_wait(self, reason: str, wait_s: float) -> None:
        self._tell(f"{reason}; again in {wait_s:.0f} s")


def _missing(incomplete: Path, file: HubFile) -> int:
    """Return how many bytes of a file are not in its partial file."""
    there = incomplete.stat().st_size if incomplete.exists() else 0
    return file.size - there if there <= file.size else file.size


def _open_partial(path: Path) -> BinaryIO:
    """Open for reading and writing at any place, made if it is not there; a link is not followed."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    return os.fdopen(handle, "r+b")


def named(file: HubFile, digest: str) -> str:
    """Return a digest with its kind, as an error says it."""
    return f"{'sha256' if file.sha256 else 'git blob'} {digest}"
