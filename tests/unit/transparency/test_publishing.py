"""Publishing: cut off at any write, the place shows the old log or the new one, never two histories."""

from __future__ import annotations

import http.server
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from perturbnet.errors import BundleError, BundleMissing, LedgerError, LedgerForked, NoteError
from perturbnet.transparency.bundle import blob_path, open_bundle
from perturbnet.transparency.notes import SigningKey, parse_note
from perturbnet.transparency.places import Folder, Web, open_place, open_target
from perturbnet.transparency.publishing import (
    LogSource,
    add_cosignatures,
    publish,
    published_checkpoint,
    unpublish_blobs,
)
from tests.support.ledger.samples import skip
from tests.support.transparency.logs import SignedLog, signed_log


class Cut(Exception):
    """The process ended here."""


class CutTarget(Folder):
    """A folder whose process ends before its n-th change."""

    def __init__(self, path: Path, changes: int) -> None:
        super().__init__(path)
        self.left = changes

    def _count(self) -> None:
        if self.left == 0:
            raise Cut
        self.left -= 1

    def write(self, name: str, data: bytes) -> None:
        self._count()
        super().write(name, data)

    def place(self, name: str, data: bytes, origin: Path) -> None:
        self._count()
        super().place(name, data, origin)

    def remove_folder(self, name: str) -> None:
        self._count()
        super().remove_folder(name)


def sizes_shown(path: Path) -> int:
    """How many leaves the place shows, all of them read."""
    with open_bundle(path) as bundle:
        bundle.verify_signature()
        return len(list(bundle.entries()))


def test_cut_off_at_every_write(log: SignedLog) -> None:
    log.grow(*[skip(number) for number in range(100)])
    digest = log.answer(b"a delta")
    publish(log.source, log.target, 300)
    before = log.folder / "before"
    shutil.copytree(log.target.path, before)
    shown, changes = [], 0
    while True:
        place = log.folder / f"cut-{changes}"
        shutil.copytree(before, place)
        try:
            publish(log.source, CutTarget(place, changes), 701)
        except Cut:
            shown.append(sizes_shown(place))
            publish(log.source, Folder(place), 701)
        assert sizes_shown(place) == 701
        with open_bundle(place) as bundle:
            assert bundle.blob(digest) == b"a delta"
        if len(shown) == changes:
            break
        changes += 1
    assert changes > 10
    assert set(shown) == {300, 701}
    assert shown == sorted(shown)


def test_it_grows_and_drops_parts_that_are_full(log: SignedLog) -> None:
    for size in (1, 100, 256, 300, 512, 600):
        publish(log.source, log.target, size)
        assert sizes_shown(log.target.path) == size
    left = sorted(str(path.relative_to(log.target.path)) for path in log.target.path.rglob("*.p/*"))
    assert left == ["tile/0/002.p/88", "tile/1/000.p/1", "tile/1/000.p/2", "tile/entries/002.p/88"]


def test_it_never_shrinks(published: SignedLog) -> None:
    assert publish(published.source, published.target, 5).size == 600
    assert sizes_shown(published.target.path) == 600


def test_what_is_there_is_not_written_again(published: SignedLog) -> None:
    full = published.target.path / "tile/entries/000"
    before = full.stat().st_mtime_ns
    published.grow(*[skip(number) for number in range(50)])
    publish(published.source, published.target, 650)
    assert full.stat().st_mtime_ns == before


def test_an_older_backup_is_refused_and_writes_nothing(published: SignedLog, tmp_path: Path) -> None:
    backup = signed_log(tmp_path / "backup", leaves=300)
    names = sorted(published.target.path.rglob("*"))
    with (
        backup.store,
        pytest.raises(LedgerForked, match=r"shows 600 leaves with the root .*; this ledger has 301"),
    ):
        publish(LogSource(backup.store, backup.deltas, published.key), published.target, 301)
    assert sorted(published.target.path.rglob("*")) == names


def test_a_fork_of_the_same_length_is_refused(published: SignedLog, tmp_path: Path) -> None:
    fork = signed_log(tmp_path / "fork", leaves=500)
    fork.grow(*[skip(number, "another") for number in range(200)])
    with fork.store, pytest.raises(LedgerForked, match="does not begin with them"):
        publish(LogSource(fork.store, fork.deltas, published.key), published.target, 700)


def test_another_s_place_is_refused(published: SignedLog, tmp_path: Path) -> None:
    other = signed_log(tmp_path / "bob", owner="bob", leaves=700)
    with other.store, pytest.raises(LedgerForked, match="holds the log perturb/local/7/"):
        publish(other.source, published.target, 700)


def test_a_checkpoint_that_none_of_our_keys_signed_is_refused(published: SignedLog) -> None:
    stranger = LogSource(
        published.store, published.deltas, SigningKey.from_seed(published.key.name, b"\7" * 32)
    )
    with pytest.raises(LedgerForked, match="that no key of this log signed"):
        published_checkpoint(stranger, published.target)


def test_a_checkpoint_that_cannot_be_read_is_not_one_that_is_not_there(published: SignedLog) -> None:
    path = published.target.path / "checkpoint"
    path.unlink()
    path.symlink_to(path)  # a loop: the system refuses to open it, whoever asks
    with pytest.raises(BundleError, match=r"checkpoint cannot be read: Too many levels"):
        publish(published.source, published.target, 600)
    assert path.is_symlink()


def test_witnesses_stay_until_the_checkpoint_changes(published: SignedLog) -> None:
    witness = SigningKey.from_seed("witness", bytes(32))
    note = parse_note((published.target.path / "checkpoint").read_bytes())
    add_cosignatures(published.source, published.target, note.signed_by(witness.cosign(note.text, 5)))
    publish(published.source, published.target, 600)
    names = [line.name for line in parse_note((published.target.path / "checkpoint").read_bytes()).signatures]
    assert names == [published.key.name, "witness"]
    published.grow(skip(1))
    publish(published.source, published.target, 601)
    with open_bundle(published.target.path) as bundle:
        assert [line.name for line in bundle.signed.signatures] == [published.key.name]
    with pytest.raises(NoteError, match="signed another checkpoint"):
        add_cosignatures(published.source, published.target, note)


def test_blobs_are_second_names_and_go_in_time(log: SignedLog, caplog: pytest.LogCaptureFixture) -> None:
    kept, lost = log.answer(b"kept"), log.answer(b"lost")
    log.deltas.drop(lost)
    publish(log.source, log.target, log.store.size)
    path = log.target.path / blob_path(kept)
    assert path.samefile(log.deltas.path(kept))
    assert f"Not published: blob {lost}" in caplog.text
    unpublish_blobs(log.target, [kept, lost])
    assert not path.exists()
    assert log.deltas.get(kept) == b"kept"


def test_where_nothing_can_be_written(log: SignedLog, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(LedgerError, match="cannot be written"):
        publish(log.source, Folder(tmp_path / "file"), 600)
    with pytest.raises(BundleError, match="cannot be written to"):
        open_target("https://example.com/log")


# A web server


@pytest.fixture
def served(published: SignedLog) -> Iterator[str]:
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(published.target.path))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_a_log_behind_a_web_server(published: SignedLog, served: str) -> None:
    with open_bundle(served) as bundle:
        assert list(bundle.entries()) == list(published.store.entries())
        with pytest.raises(BundleMissing, match="status 404"):
            bundle.blob("ab" * 32)
        assert bundle.entry(5).position == 5
    (published.target.path / "tile/0/000").write_bytes(bytes(8193))
    with (
        open_bundle(served) as bundle,
        pytest.raises(BundleError, match="8193 bytes; at most 8192 are allowed"),
    ):
        bundle.entry(5)


def test_one_connection_serves_a_whole_log(published: SignedLog) -> None:
    connections = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            connections.append(1)
            super().setup()

        def log_message(self, *_: object) -> None:
            pass

    handler = partial(Handler, directory=str(published.target.path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with open_bundle(f"http://127.0.0.1:{server.server_port}") as bundle:
            assert list(bundle.entries()) == list(published.store.entries())
        server.shutdown()
        thread.join()
    assert len(connections) == 1


@pytest.mark.parametrize("url", ["ftp://a/b", "file:///etc/passwd", "http://", "http://a/b?c=d", "s3://a/b"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(BundleError, match="no address of a published log"):
        open_place(url)


_ANSWERS = {
    "redirect": (
        b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\n\r\n",
        BundleMissing,
        "status 302 http://10",
    ),
    "endless": (b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * 10_000, BundleError, "more than the 4096 bytes"),
    "announced too long": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n",
        BundleError,
        "99999 bytes; at most 4096",
    ),
    "cut off": (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nabc", BundleMissing, "fetched|cut off"),
    "nothing": (b"", BundleMissing, "cannot be fetched"),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n\r\n", BundleMissing, "cannot be fetched"),
    "encoded": (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\nabc", BundleError, "nobody asked for"),
    "not gzip": (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nabc", BundleError, "does not inflate"),
}


@pytest.mark.parametrize("name", _ANSWERS)
def test_hostile_servers(name: str) -> None:
    import socket

    answer, kind, said = _ANSWERS[name]
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for _ in range(2):
                try:
                    connection, _address = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        web = Web(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout_s=5)
        with pytest.raises(kind, match=said):
            web.read("checkpoint", 4096)
        web.close()
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_gzip_is_taken_and_capped() -> None:
    import gzip

    from perturbnet.transparency.places import _gunzip

    assert _gunzip("x", gzip.compress(b"abc"), 4096) == b"abc"
    with pytest.raises(BundleError, match="more than the 4096 bytes"):
        _gunzip("x", gzip.compress(bytes(10**7)), 4096)
    with pytest.raises(BundleMissing, match="cut off"):
        _gunzip("x", gzip.compress(b"abcdefgh")[:-9], 4096)
