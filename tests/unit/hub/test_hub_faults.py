"""Every fault of a hub and of a disk: survived, or named. A wrong digest is never tried twice."""

from __future__ import annotations

import email.utils
import errno
import hashlib
import resource
import shutil
import signal
import time
from collections.abc import Iterator

import pytest

from perturbnet.errors import ConfigError, DigestMismatch, DiskFull, HubRefused, HubUnavailable
from perturbnet.hub import disk, download
from perturbnet.hub.connection import FRUITLESS
from perturbnet.hub.layout import place_of
from tests.support.hub_server import Cut, Fault, Headers, IgnoreRange, Short, Slow, Status, Wrong
from tests.support.hub_world import DATASET, DATASET_COMMIT, TOKEN, World, shard_name

SHARD = shard_name(0)


@pytest.mark.parametrize(
    ("where", "faults", "waits"),
    [
        ("store", [Cut(25_000), Cut(0), Cut(1)], [1, 2, 4]),
        ("store", [Short(25_000), Short(10)], [1, 2]),
        ("store", [Status(500), Status(502), Status(503), Status(504)], [1, 2, 4, 8]),
        ("resolve", [Status(500), Status(503)], [1, 2]),
        ("store", [Status(429, {"Retry-After": "17"}), Status(429)], [17, 2]),
        ("resolve", [Status(429, {"Retry-After": "3"})], [3]),
        ("resolve", [Status(429, {"RateLimit": '"resolvers";r=0;t=55'})], [55]),
        ("store", [Status(403), Status(404)], [1, 2]),  # a signed address that expired: ask for another
        ("store", [Headers({"Content-Encoding": "gzip"})], [1]),
        ("store", [Headers({"Content-Length": "999999999"})], [1]),
        ("store", [Cut(25_000), Headers({"Content-Range": "bytes 7-8/9"})], [1, 2]),
    ],
)
def test_what_passes_is_waited_out(
    world: World, shards: dict[str, bytes], where: str, faults: list[Fault], waits: list[float]
) -> None:
    world.hub.fault(where, SHARD, *faults)  # type: ignore[arg-type]
    done = world.fetch_shard()
    assert done.path.read_bytes() == shards[SHARD]
    assert done.attempts == len(faults) + 1
    assert done.bytes_fetched == len(shards[SHARD]), "no byte came twice"
    assert world.time.slept == waits


def test_a_retry_after_that_is_a_date(world: World) -> None:
    at = email.utils.formatdate(time.time() + 100, usegmt=True)
    world.hub.fault("store", SHARD, Status(429, {"Retry-After": at}))
    world.fetch_shard()
    (waited,) = world.time.slept
    assert 60 < waited <= 100


def test_a_store_that_ignores_the_range_is_taken_from_the_beginning(
    world: World, shards: dict[str, bytes]
) -> None:
    world.hub.fault("store", SHARD, Cut(25_000), IgnoreRange())
    done = world.fetch_shard()
    assert done.path.read_bytes() == shards[SHARD]
    assert done.bytes_fetched == len(shards[SHARD]) + 25_000


def test_a_hub_that_stays_down_is_named_and_what_came_is_kept(world: World, shards: dict[str, bytes]) -> None:
    world.hub.fault("store", SHARD, Cut(25_000))
    world.hub.fault("store", SHARD, Status(503), times=FRUITLESS)
    with pytest.raises(HubUnavailable, match=rf"{SHARD}: {FRUITLESS} tries, the last: .* answered 503"):
        world.fetch_shard()
    world.hub._faults.clear()
    assert world.fetch_shard().resumed_from == 25_000


def test_progress_renews_the_patience(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PIECE", 1000)
    world.hub.fault("store", SHARD, Short(2000), times=3 * FRUITLESS)
    assert world.fetch_shard().attempts == 3 * FRUITLESS + 1
    assert set(world.time.slept) == {1.0}


def test_a_trickle_of_bytes_does_not_renew_it_for_ever(world: World) -> None:
    world.hub.fault("store", SHARD, Short(10), times=100)
    with pytest.raises(HubUnavailable, match="a short read: 80 of"):
        world.fetch_shard()


def test_a_hub_that_asks_for_an_hour_is_named(world: World) -> None:
    world.hub.fault("store", SHARD, Status(429, {"Retry-After": "3600"}))
    with pytest.raises(HubUnavailable, match="answered 429, and asks to wait 3600 s"):
        world.fetch_shard()
    assert world.time.slept == []


def test_a_hub_that_crawls_is_left_and_asked_again(world: World) -> None:
    world.hub.fault("store", SHARD, Slow(100_000))
    ticks = iter(range(0, 100_000, 20))
    pace = world.time.pace()
    world.time.pace = lambda: type(pace)(pace.sleep, pace.uniform, lambda: float(next(ticks)))  # type: ignore[method-assign]
    assert world.fetch_shard().attempts == 2
    assert "bytes in 80 s" in world.notes[0]


class TestWrongDigest:
    def test_a_damaged_shard_is_quarantined_at_once(self, world: World, shards: dict[str, bytes]) -> None:
        bad = bytearray(shards[SHARD])
        bad[1000] ^= 1
        world.hub.fault("store", SHARD, Wrong(bytes(bad)))
        with pytest.raises(DigestMismatch) as caught:
            world.fetch_shard()
        got, expected = hashlib.sha256(bad).hexdigest(), hashlib.sha256(shards[SHARD]).hexdigest()
        assert caught.value.message == f"{DATASET}/{SHARD}: expected sha256 {expected}, got sha256 {got}"
        assert world.hub.count("store", SHARD) == 1, "no second try"
        assert world.time.slept == []
        (name,) = world.quarantined()
        assert (world.cache / "quarantine" / name).read_bytes() == bad
        assert name in caught.value.hint
        assert world.fetch_shard().bytes_fetched == len(shards[SHARD])

    def test_a_shard_swapped_with_another_is_quarantined(
        self, world: World, shards: dict[str, bytes]
    ) -> None:
        other = next(
            data for name, data in shards.items() if name != SHARD and len(data) == len(shards[SHARD])
        )
        world.hub.fault("store", SHARD, Wrong(other))
        with pytest.raises(DigestMismatch, match=f"got sha256 {hashlib.sha256(other).hexdigest()}"):
            world.fetch_shard()

    def test_a_hub_that_names_another_file_is_refused_before_a_byte_is_kept(self, world: World) -> None:
        world.hub.fault("resolve", SHARD, Headers({"X-Linked-Etag": f'"{"ab" * 32}"'}))
        with pytest.raises(DigestMismatch, match=f"hands out another file: expected sha256 .*{'ab' * 32}"):
            world.fetch_shard()
        assert world.quarantined() == []
        assert [path.stat().st_size for path in world.cache.rglob("*.incomplete")] == [0]

    def test_a_hub_that_names_another_commit_is_refused(self, world: World) -> None:
        world.hub.fault("resolve", SHARD, Headers({"X-Repo-Commit": "f" * 40}))
        with pytest.raises(HubRefused, match=f"commit 'f{{40}}'; expected {DATASET_COMMIT}"):
            world.fetch_shard()

    def test_one_that_always_sends_too_much_is_named(self, world: World, shards: dict[str, bytes]) -> None:
        world.hub.fault("store", SHARD, Wrong(shards[SHARD] + b"more"), times=FRUITLESS)
        with pytest.raises(HubUnavailable, match="bytes announced; expected"):
            world.fetch_shard()

    def test_the_same_wrong_bytes_do_not_fill_the_disk(self, world: World, shards: dict[str, bytes]) -> None:
        world.hub.fault("store", SHARD, Wrong(bytes(len(shards[SHARD]))), times=3)
        for _ in range(3):
            with pytest.raises(DigestMismatch):
                world.fetch_shard()
        assert len(world.quarantined()) == 1


class TestRefusals:
    def test_a_revision_that_is_gone(self, world: World) -> None:
        snapshot = world.snapshot()
        world.hub.repositories["dataset", DATASET].commits = {"e" * 40: {}}
        with pytest.raises(HubRefused, match="404, no such revision") as caught:
            world.snapshot()
        assert "perturb pins show" in caught.value.hint
        with pytest.raises(HubRefused, match="404, no such revision"):
            world.fetch(snapshot.file(SHARD), snapshot)
        assert world.time.slept == []

    def test_a_gated_repository(self, world: World) -> None:
        world.hub.repositories["dataset", DATASET].gated = True
        with pytest.raises(HubRefused, match="401, the repository is gated: it wants a token"):
            world.snapshot()
        world.token = "hf_wrong"
        with pytest.raises(HubRefused, match="403, the repository is gated: the token was refused") as caught:
            world.snapshot()
        assert "HF_TOKEN" in caught.value.hint
        assert "hf_wrong" not in caught.value.diagnostics()
        world.token = TOKEN
        world.fetch_shard()
        assert world.hub.token_leaked == 0
        carried = {request.where for request in world.hub.requests if request.token == f"Bearer {TOKEN}"}
        assert carried == {"api", "resolve"}

    @pytest.mark.parametrize("token", ["hf_ secret", "hf_secret\n", "hf_sécret", "x" * 513])
    def test_a_token_that_cannot_be_sent_is_not_repeated(self, world: World, token: str) -> None:
        world.token = token
        with pytest.raises(ConfigError, match="HF_TOKEN") as caught:
            world.snapshot()
        assert token.strip() not in caught.value.diagnostics()

    def test_offline_mode_is_named(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(HubRefused, match="HF_HUB_OFFLINE is set"):
            world.snapshot()

    def test_nobody_listens(self, world: World) -> None:
        world.hub._servers[1].shutdown()
        world.hub._servers[1].server_close()
        with pytest.raises(HubUnavailable, match="ConnectError from 127"):
            world.fetch_shard()
        world.hub._servers.pop()

    @pytest.mark.parametrize("target", ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://[bad"])
    def test_a_redirect_to_something_else_is_refused(self, world: World, target: str) -> None:
        world.hub.fault("resolve", SHARD, Status(302, {"Location": target}), times=FRUITLESS)
        with pytest.raises((HubRefused, HubUnavailable)):
            world.fetch_shard()

    def test_redirects_without_end(self, world: World) -> None:
        again = f"/datasets/{DATASET}/resolve/{DATASET_COMMIT}/{SHARD}"
        world.hub.fault("resolve", SHARD, Status(307, {"Location": again}), times=10)
        with pytest.raises(HubRefused, match="more than 5 redirects"):
            world.fetch_shard()


class TestFullDisk:
    def test_it_is_noticed_before_anything_is_fetched(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = shutil.disk_usage("/")
        free = disk.RESERVE_BYTES + 1000
        monkeypatch.setattr("shutil.disk_usage", lambda _folder: usage._replace(free=free))
        with pytest.raises(DiskFull, match=rf"{SHARD} in .*blobs: \d+ bytes needed, {free} free") as caught:
            world.fetch_shard()
        assert (caught.value.free, caught.value.needed > 60_000) == (free, True)
        assert "PERTURB_CACHE_DIR" in caught.value.hint
        assert world.hub.count("store") == 0

    @pytest.fixture
    def small_quota(self) -> Iterator[None]:
        """The kernel itself refuses to let a file grow over 40,000 bytes."""
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))
        yield
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)

    def test_one_that_fills_while_writing_is_named_and_the_part_is_kept(
        self, world: World, small_quota: None, shards: dict[str, bytes]
    ) -> None:
        with pytest.raises(DiskFull, match="File too large") as caught:
            world.fetch_shard()
        assert caught.value.exit_code == 1
        snapshot = world.snapshot()
        place = place_of(snapshot.file(SHARD), snapshot, world.hub_cache)
        assert place.incomplete.read_bytes() == shards[SHARD][:40_000]
        assert not place.link.exists()
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (before[1], before[1]))
        done = world.fetch_shard()
        assert done.resumed_from == 40_000
        assert done.path.read_bytes() == shards[SHARD]

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_no_space_and_no_quota(self, world: World, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        def refuse(_handle: int) -> None:
            raise OSError(number, "no more")

        monkeypatch.setattr("os.fsync", refuse)
        with pytest.raises(DiskFull, match="no more"):
            world.fetch_shard()

    def test_another_fault_of_the_disk_keeps_its_name(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_handle: int) -> None:
            raise OSError(errno.EIO, "broken")

        monkeypatch.setattr("os.fsync", refuse)
        with pytest.raises(OSError, match="broken") as caught:
            world.fetch_shard()
        assert not isinstance(caught.value, DiskFull)
