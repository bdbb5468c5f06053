"""Feeds: a published log, followed and not believed; a validator on loopback, asked and checked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from perturbnet.errors import (
    BundleMissing,
    BundleTampered,
    ConfigError,
    LedgerForked,
    NoteError,
    PerturbError,
    Reject,
)
from perturbnet.ledger import fold
from perturbnet.ledger.leaves import SkipLeaf
from perturbnet.overview import LiveFeed, Overview, PublishedFeed, decode_overview, encode_overview, open_feed
from perturbnet.overview.feeds import MAX_OVERVIEW_BYTES, NotRunning
from perturbnet.telemetry import Loopback, new_registry
from tests.support.auditing.honest import Honest, live
from tests.support.auditing.published import OTHER_KEY, publish, publish_honest


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Honest:
    return live(tmp_path_factory.mktemp("honest"))


@pytest.fixture
def bundle(honest: Honest, tmp_path: Path) -> Path:
    return publish_honest(honest, tmp_path / "bundle")


def test_a_published_log_at_one_look(honest: Honest, bundle: Path) -> None:
    told: list[tuple[int, int]] = []
    overview = PublishedFeed(str(bundle), lambda done, of: told.append((done, of))).read()
    state = fold(honest.entries)
    assert (overview.leaves, overview.rounds) == (state.size, state.rounds)
    assert overview.root == overview.root.lower()
    assert overview.source == "published"
    assert overview.health == ()
    assert {one.uid: one.processed for one in overview.standings} == state.processed()
    assert sum(share for _, share in overview.next_weights) in {0, 10**9}
    assert overview.rejects[Reject.OK] == sum(miner.succeeded for miner in state.miners.values())
    assert told[-1] == (state.size, state.size)


def test_its_json_comes_back_as_it_was(bundle: Path) -> None:
    overview = PublishedFeed(str(bundle)).read()
    assert decode_overview(encode_overview(overview), "here") == overview


def test_a_growing_log_is_followed(honest: Honest, bundle: Path, tmp_path: Path) -> None:
    leaves = honest.leaves()
    half = publish(leaves[:40], tmp_path / "growing", honest.blobs.folder)
    feed = PublishedFeed(str(half))
    assert feed.read().leaves == 40
    assert feed.read().leaves == 40
    publish(leaves, half, honest.blobs.folder)
    whole = PublishedFeed(str(bundle)).read()
    assert replace(feed.read(), place="", made_ms=0) == replace(whole, place="", made_ms=0)


def test_a_log_that_shrinks_or_changes_is_refused(honest: Honest, tmp_path: Path) -> None:
    leaves = honest.leaves()
    place = publish(leaves[:40], tmp_path / "bundle", honest.blobs.folder)
    feed = PublishedFeed(str(place))
    feed.read()
    publish(leaves[:30], place, honest.blobs.folder)
    with pytest.raises(LedgerForked):
        feed.read()
    changed = [*leaves[:39], SkipLeaf(0, 0, 0, "another"), *leaves[40:]]
    publish(changed, place, honest.blobs.folder)
    with pytest.raises(LedgerForked):
        feed.read()


def test_a_log_signed_by_another_is_refused(honest: Honest, tmp_path: Path) -> None:
    place = publish(honest.leaves(), tmp_path / "b", honest.blobs.folder, key=OTHER_KEY)
    with pytest.raises(NoteError):
        PublishedFeed(str(place)).read()


def test_a_leaf_of_other_bytes_is_refused(bundle: Path) -> None:
    file = max((bundle / "tile" / "entries").rglob("*"), key=lambda path: path.stat().st_size)
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(BundleTampered):
        PublishedFeed(str(bundle)).read()


def test_deltas_come_with_it(bundle: Path) -> None:
    feed = PublishedFeed(str(bundle))
    overview = feed.read()
    delta = next(answer.delta for found in overview.latest for answer in found.answers if answer.delta)
    assert feed.blob(delta).startswith(b"perturb/delta/1")
    with pytest.raises(BundleMissing):
        feed.blob("0" * 64)


# Loopback.


def serve(overview: Overview) -> Loopback:
    shown = Loopback(new_registry("validator"), {"/overview.json": lambda: encode_overview(overview)})
    assert shown.start(0)
    return shown


def test_a_running_validator_is_asked(bundle: Path, tmp_path: Path) -> None:
    overview = replace(PublishedFeed(str(bundle)).read(), source="validator", place=str(tmp_path))
    shown = serve(overview)
    try:
        assert LiveFeed(shown.port, tmp_path).read() == overview
        with pytest.raises(PerturbError, match="keeps its state in"):
            LiveFeed(shown.port, tmp_path / "other").read()
    finally:
        shown.close()


def test_nobody_there() -> None:
    shown = Loopback(new_registry("validator"))
    assert shown.start(0)
    port = shown.port
    with pytest.raises(NotRunning, match="404"):
        LiveFeed(port, Path()).read()
    shown.close()
    with pytest.raises(NotRunning, match="no validator answers"):
        LiveFeed(port, Path()).read()
    with pytest.raises(NotRunning, match="PERTURB_METRICS_PORT is 0"):
        open_feed(None, port=0, state_dir=Path())


@contextmanager
def stranger(status: bytes, body: bytes) -> Iterator[int]:
    """Another program on that port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.wfile.write(status + b"\r\n\r\n" + body)

        def log_message(self, *words: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "match"),
    [
        (b"HTTP/1.0 200 OK", b"<html>", "no overview"),
        (b"HTTP/1.0 200 OK", b"{}", "no overview"),
        (b"SSH-2.0-OpenSSH", b"", "no validator answers"),
        (b"HTTP/1.0 200 OK", b" " * (MAX_OVERVIEW_BYTES + 1), "more than"),
    ],
    ids=["html", "empty", "ssh", "endless"],
)
def test_another_program_is_named(status: bytes, body: bytes, match: str) -> None:
    with stranger(status, body) as port, pytest.raises(PerturbError, match=match):
        LiveFeed(port, Path()).read()


def test_settings_errors_are_theirs() -> None:
    with pytest.raises(PerturbError) as raised:
        open_feed("ftp://example", port=0, state_dir=Path()).read()
    assert not isinstance(raised.value, ConfigError)
