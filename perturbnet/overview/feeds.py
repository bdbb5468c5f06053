"""Where an overview comes from: a running validator on loopback, or a published log.

Rules
- The ledger itself is locked by the validator, so it is asked, never read beside it.
- A published log is a stranger's: it is folded from its first leaf, each leaf checked up to the root; later
  looks read only what came since, and refuse a log that is not an extension of what was seen.
- An answer from loopback has a deadline and a largest size: another program may listen there.
"""

from __future__ import annotations

import http.client
import json
import time
from contextlib import closing
from pathlib import Path
from typing import Protocol

from perturbnet.errors import LedgerForked, PerturbError
from perturbnet.ledger import BlobStore, LedgerState
from perturbnet.ledger.merkle import EMPTY_ROOT
from perturbnet.overview.build import Facts, build_overview
from perturbnet.overview.tail import Tail
from perturbnet.overview.views import AnchorView, Overview, decode_overview
from perturbnet.runtime.progress import Progress
from perturbnet.telemetry.loopback import HOST
from perturbnet.transparency.bundle import Bundle, open_bundle

OVERVIEW_PATH = "/overview.json"
DEADLINE_S = 10.0
MAX_OVERVIEW_BYTES = 32 << 20


class Feed(Protocol):
    """Where overviews and the blobs they name come from."""

    def read(self) -> Overview:
        """The overview as it is now; raises PerturbError."""

    def blob(self, digest: str) -> bytes:
        """A delta that an answer names; raises PerturbError."""


class NotRunning(PerturbError):
    """No validator answers on loopback."""


class LiveFeed:
    """Asks the validator that runs on this machine."""

    def __init__(self, port: int, state_dir: Path) -> None:
        """Ask at `port`; deltas are read from `state_dir`."""
        self._port, self._state_dir = port, state_dir
        self._deltas = BlobStore(state_dir / "deltas")

    def read(self) -> Overview:
        """See `Feed`.

        Raises:
            NotRunning: nobody answers there, or not with an overview.
            PerturbError: it is another validator than the one of these settings.

        """
        where = f"http://{HOST}:{self._port}{OVERVIEW_PATH}"
        overview = decode_overview(_fetch(self._port, where), where)
        if overview.place != str(self._state_dir):
            raise PerturbError(
                f"the validator on port {self._port} keeps its state in {overview.place}, "
                f"not in {self._state_dir}",
                hint="name the right PERTURB_STATE_DIR, or its PERTURB_METRICS_PORT",
            )
        return overview

    def blob(self, digest: str) -> bytes:
        """See `Feed`."""
        return self._deltas.get(digest)


class PublishedFeed:
    """Follows a published log."""

    def __init__(self, place: str, progress: Progress | None = None) -> None:
        """Follow the log in a folder or at an address; `progress` is told (leaves read, of all)."""
        self._place, self._progress = place, progress
        self._state, self._tail = LedgerState(), Tail()
        self._seen: tuple[int, bytes] | None = None

    def read(self) -> Overview:
        """See `Feed`; the first reading takes as long as the log is.

        Raises:
            BundleError, NoteError: see `open_bundle` and `Bundle.entries`.
            LedgerForked: it is not an extension of what was read before.
            LeafRefused: its leaves contradict each other.

        """
        with open_bundle(self._place) as bundle:
            authority = bundle.verify_signature()
            self._follow(bundle)
            anchor = bundle.anchors[-1] if bundle.anchors else None
            facts = Facts(
                source="published",
                place=self._place,
                made_ms=time.time_ns() // 10**6,
                root=bundle.checkpoint.root.hex(),
                hotkey=authority.hotkey,
                published_leaves=bundle.size,
                anchor=AnchorView(anchor.block, anchor.size, anchor.root.hex()) if anchor else None,
            )
        return build_overview(self._state, self._tail, facts)

    def blob(self, digest: str) -> bytes:
        """See `Feed`."""
        with open_bundle(self._place) as bundle:
            return bundle.blob(digest)

    def _follow(self, bundle: Bundle) -> None:
        size, root = self._seen or (0, EMPTY_ROOT)
        if bundle.size < size or bundle.root_at(size) != root:
            raise LedgerForked(
                f"{self._place} is not an extension of the {size} leaves that were read before"
            )
        for entry in bundle.entries(self._state.size):
            self._state.apply(entry)
            self._tail.look([entry])
            if self._progress is not None:
                self._progress(entry.position + 1, bundle.size)
        self._seen = bundle.size, bundle.checkpoint.root


def open_feed(
    place: str | None, *, port: int, state_dir: Path, progress: Progress | None = None
) -> LiveFeed | PublishedFeed:
    """The published log in `place`, or without one the validator of these settings.

    Raises:
        NotRunning: it shows nothing, because `port` is 0.

    """
    if place is not None:
        return PublishedFeed(place, progress)
    if port == 0:
        raise NotRunning("PERTURB_METRICS_PORT is 0: the validator shows nothing", hint=_HINT)
    return LiveFeed(port, state_dir)


_HINT = "start it (perturb validator run), or name a published log: a folder, or its address"


def _fetch(port: int, where: str) -> bytes:
    connection = http.client.HTTPConnection(HOST, port, timeout=DEADLINE_S)
    with closing(connection):
        try:
            connection.request("GET", OVERVIEW_PATH)
            response = connection.getresponse()
            data = response.read(MAX_OVERVIEW_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise NotRunning(f"no validator answers at {where}: {reason}", hint=_HINT) from None
    if response.status != http.HTTPStatus.OK:
        raise NotRunning(f"{where} answered {response.status}: {_reason(data)}", hint=_HINT)
    if len(data) > MAX_OVERVIEW_BYTES:
        raise PerturbError(f"{where} answered more than {MAX_OVERVIEW_BYTES} bytes")
    return data


def _reason(data: bytes) -> str:
    try:
        return str(json.loads(data[:4096])["error"])[:300]
    except (ValueError, KeyError, TypeError):
        return "no reason given"
