"""One question to the hub: who gets the token, which faults pass, how long to wait.

1. The token goes to the endpoint's own origin (scheme, host, port). A redirect elsewhere, to the store that
   keeps large files, carries none; from https it may not lead to http.
2. 401, 403 and 404 of the hub itself are final (`HubRefused`). So is any other 4xx.
3. 408, 425, 429, every 5xx, a refusal by a store (its signed address may have expired), a cut, a silence of
   `READ_S`, a wrong framing: a `Fault`, which may pass.
4. After a fault: wait 1, 2, 4 … up to 60 s, times a random 0.5 to 1 so that twenty clients do not come back
   at once (exponential backoff with jitter); a Retry-After is honoured instead, whatever it says up to
   `MAX_WAIT_S`. `FRUITLESS` faults in a row without progress end it (`HubUnavailable`).

Addresses in errors and reports lose their query: a store's query is a signature. Sources: RFC 9110 (10.2.3
Retry-After, 14 ranges), huggingface_hub's `X-Error-Code`, `X-Repo-Commit`, `X-Linked-Etag`.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn
from urllib.parse import urljoin, urlsplit

import httpx2
from huggingface_hub import constants, get_session
from huggingface_hub.errors import OfflineModeIsEnabled

from perturbnet.errors import ConfigError, HubRefused, HubUnavailable
from perturbnet.version import __version__

CONNECT_S = 15.0
READ_S = 30.0
MAX_WAIT_S = 900.0  # a hub that asks for more is not waited for
FRUITLESS = 8
MAX_JSON_BYTES = 64 << 20
_MAX_REDIRECTS = 5
_NAME = f"perturbnet/{__version__}"
_PASSING = frozenset({408, 425, 429})
_TOKEN = re.compile(r"[\x21-\x7e]{1,512}")
_GATE = "Set HF_TOKEN to a token of an account that was granted access; check that it has not expired."
_PIN = "The pinned revision is gone from the hub, or the pin is wrong: see `perturb pins show`."


class Fault(Exception):
    """Something that may be gone at the next try: what happened, and the wait the hub asked for."""

    def __init__(self, reason: str, *, retry_after_s: float | None = None) -> None:
        """Keep both."""
        super().__init__(reason)
        self.reason, self.retry_after_s = reason, retry_after_s


@dataclass(frozen=True, slots=True)
class Pace:
    """Time and chance: how to sleep, how to draw a number between two, what time it is."""

    sleep: Callable[[float], None] = time.sleep
    uniform: Callable[[float, float], float] = random.uniform
    monotonic_s: Callable[[], float] = time.monotonic


@dataclass(slots=True)
class Patience:
    """How often a question was asked, and whether to ask it again."""

    what: str
    pace: Pace
    attempts: int = 0
    fruitless: int = 0
    on_wait: Callable[[str, float], None] = lambda _reason, _wait_s: None

    def endure(self, fault: Fault, *, progress: bool) -> None:
        """Wait after a fault.

        Raises:
            HubUnavailable: it was one too many, or the hub asks for a wait that is too long.

        """
        self.fruitless = 0 if progress else self.fruitless + 1
        wait_s = min(60.0, 2.0 ** max(0, self.fruitless - 1)) * self.pace.uniform(0.5, 1.0)
        if fault.retry_after_s is not None:
            wait_s = fault.retry_after_s
        if self.fruitless >= FRUITLESS:
            self._give_up(f"{self.attempts} tries, the last: {fault.reason}")
        if wait_s > MAX_WAIT_S:
            self._give_up(f"{fault.reason}, and asks to wait {wait_s:.0f} s")
        self.on_wait(fault.reason, wait_s)
        self.pace.sleep(wait_s)

    def _give_up(self, why: str) -> NoReturn:
        raise HubUnavailable(
            f"{self.what}: {why}", hint="Run it again later: what arrived is kept and is not fetched again."
        )


@dataclass(frozen=True, slots=True)
class Hub:
    """An endpoint and the token that belongs to it."""

    endpoint: str
    token: str | None = field(default=None, repr=False)

    @classmethod
    def open(cls, endpoint: str | None, token: str | None) -> Hub:
        """Check both; without `endpoint` it is HF_ENDPOINT's, else the public hub.

        Raises:
            ConfigError: no http address; a token that cannot stand in a header (it is not repeated).

        """
        address = (endpoint or constants.ENDPOINT).rstrip("/")
        if not re.fullmatch(r"https?://[\w.-]+(:\d{1,5})?(/[\w./-]*)?", address, re.ASCII):
            raise ConfigError("HF_ENDPOINT", address, "an address such as https://host or http://host:port")
        if token is not None and not _TOKEN.fullmatch(token):
            raise ConfigError("HF_TOKEN", "(hidden)", "1 to 512 printable characters without spaces")
        return cls(address, token or None)

    def read_json(self, path: str, what: str, pace: Pace) -> tuple[Any, str | None]:
        """GET a JSON answer of at most `MAX_JSON_BYTES`; return it and the path of the next page, if any.

        Raises:
            HubRefused, HubUnavailable: see the module.

        """
        patience = Patience(what, pace)
        while True:
            patience.attempts += 1
            try:
                with self.get(path, what, {}) as (response, _):
                    body = _read_capped(response)
                    return json.loads(body), self._next_page(response, what)
            except Fault as fault:
                patience.endure(fault, progress=False)
            except (ValueError, RecursionError):
                patience.endure(Fault("the answer is not JSON"), progress=False)

    @contextmanager
    def get(
        self, path: str, what: str, headers: Mapping[str, str]
    ) -> Iterator[tuple[httpx2.Response, Mapping[str, str]]]:
        """GET a path of the endpoint, redirects followed by rule 1.

        Yields the response (200 or 206, its body not yet read) and the headers of the hub's own answer, which
        with a redirect came before it.

        Raises:
            Fault: something that may pass.
            HubRefused: something that will not.

        """
        url, answer = self.endpoint + path, None
        try:
            for _ in range(_MAX_REDIRECTS):
                ours = _origin(url) == _origin(self.endpoint)
                sent = {"Accept-Encoding": "identity", "User-Agent": _NAME, **headers}
                if ours and self.token:
                    sent["Authorization"] = f"Bearer {self.token}"
                with get_session().stream(
                    "GET",
                    url,
                    headers=sent,
                    follow_redirects=False,
                    timeout=httpx2.Timeout(READ_S, connect=CONNECT_S),
                ) as response:
                    _check_status(response, what, ours=ours, has_token=self.token is not None)
                    answer = response.headers if ours else answer
                    if not response.has_redirect_location:
                        yield response, answer if answer is not None else {}
                        return
                    url = self._redirected(url, response.headers["Location"], what)
        except OfflineModeIsEnabled:
            raise HubRefused(f"{what}: HF_HUB_OFFLINE is set", hint="Unset it to fetch.") from None
        except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL) as error:
            # Named by its kind only: the text of a client's error may quote a header or a signed address.
            raise Fault(f"{type(error).__name__} from {urlsplit(url).netloc}") from None
        raise HubRefused(f"{what}: more than {_MAX_REDIRECTS} redirects")

    def _redirected(self, url: str, location: str, what: str) -> str:
        target = _joined(url, location, what)
        scheme = urlsplit(target).scheme
        if scheme not in ("http", "https") or (scheme == "http" and urlsplit(url).scheme == "https"):
            raise HubRefused(f"{what}: redirected from {_plain(url)} to {_plain(target)}; expected https")
        return target

    def _next_page(self, response: httpx2.Response, what: str) -> str | None:
        following = response.links.get("next", {}).get("url")
        if not following:
            return None
        target = _joined(str(response.url), following, what)
        if not target.startswith(self.endpoint + "/"):
            raise HubRefused(f"{what}: the next page is at {_plain(target)}; expected {self.endpoint}")
        return target[len(self.endpoint) :]


def _joined(url: str, location: str, what: str) -> str:
    """Return where a header points to.

    Raises:
        HubRefused: to nothing.

    """
    try:
        target = urljoin(url, location)
        _ = urlsplit(target).port  # read, a port says whether it is one
    except ValueError as error:
        raise HubRefused(f"{what}: {_plain(url)} points to no address: {error}") from error
    return target


def _check_status(response: httpx2.Response, what: str, *, ours: bool, has_token: bool) -> None:
    status, where = response.status_code, _plain(str(response.url))
    if response.has_redirect_location or status in (200, 206):
        return
    if status in _PASSING or status >= 500 or not ours:
        raise Fault(f"{where} answered {status}", retry_after_s=_retry_after_s(response.headers))
    code = response.headers.get("X-Error-Code", "")
    if status in (401, 403):
        why = "the token was refused" if has_token else "it wants a token, or does not exist"
        gated = ", the repository is gated" if code == "GatedRepo" else ""
        raise HubRefused(f"{what}: {where} answered {status}{gated}: {why}", hint=_GATE)
    if status == 404:
        known = {"RevisionNotFound": "no such revision", "EntryNotFound": "no such file"}
        raise HubRefused(f"{what}: {where} answered 404, {known.get(code, 'no such repository')}", hint=_PIN)
    raise HubRefused(f"{what}: {where} answered {status}")


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After, seconds or a date; or the hub's own RateLimit header, `"api";r=0;t=55`."""
    stated = headers.get("Retry-After", "").strip()
    if stated.isascii() and stated.isdigit():
        return float(stated[:9])
    if stated:
        try:
            return max(0.0, parsedate_to_datetime(stated).timestamp() - time.time())
        except ValueError:
            return None
    limit = re.search(r";\s*r=0\s*;\s*t=(\d{1,9})", headers.get("RateLimit", ""))
    return float(limit[1]) if limit else None


def _read_capped(response: httpx2.Response) -> bytes:
    body = bytearray()
    for piece in response.iter_bytes():
        body += piece
        if len(body) > MAX_JSON_BYTES:
            raise HubRefused(f"{_plain(str(response.url))} answers with more than {MAX_JSON_BYTES} bytes")
    return bytes(body)


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or {"https": 443}.get(parts.scheme, 80)


def _plain(url: str) -> str:
    """An address for a person: no user, no query (a store's query is a signature), no fragment."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:300]
