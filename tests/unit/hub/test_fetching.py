"""One file from the hub: laid out for everybody, resumed, locked, verified again whenever it is asked for."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from huggingface_hub import hf_hub_download, snapshot_download

from perturbnet.errors import ArtifactMissing, DigestMismatch
from perturbnet.hub import download, lock
from perturbnet.hub.fetching import missing_bytes, verify_cached
from perturbnet.hub.layout import place_of
from tests.support.hub_server import Cut, Short
from tests.support.hub_world import (
    DATASET,
    DATASET_COMMIT,
    SHARDS,
    WEIGHTS,
    WEIGHTS_COMMIT,
    World,
    shard_name,
)


def test_every_shard_and_the_weights_are_found_by_huggingface_hub_offline(
    world: World, shards: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("dataset", "model"):
        snapshot = world.snapshot(kind)
        for file in snapshot.files:
            done = world.fetch(file, snapshot)
            assert (done.bytes_fetched, done.resumed_from, done.attempts) == (file.size, 0, 1)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for number in range(SHARDS):
        found = hf_hub_download(
            DATASET,
            shard_name(number),
            repo_type="dataset",
            revision=DATASET_COMMIT,
            cache_dir=world.hub_cache,
        )
        assert Path(found).read_bytes() == shards[shard_name(number)]
    by_short_revision = hf_hub_download(
        WEIGHTS, "model.safetensors", revision="c8d2922", cache_dir=world.hub_cache
    )
    assert WEIGHTS_COMMIT in by_short_revision


def test_what_huggingface_hub_fetched_is_found_by_us(world: World) -> None:
    snapshot_download(
        DATASET,
        repo_type="dataset",
        revision=DATASET_COMMIT,
        cache_dir=world.hub_cache,
        endpoint=world.hub.endpoint,
    )
    sent = dict(world.hub.bytes_sent)
    snapshot = world.snapshot()
    for file in snapshot.files:
        assert world.fetch(file, snapshot).bytes_fetched == 0
        verify_cached(file, snapshot, world.hub_cache)
    assert world.hub.bytes_sent == sent


@pytest.fixture
def users_cache(world: World, tmp_path: Path) -> Path:
    """What huggingface_hub has fetched for this user before."""
    hf_hub_download(
        DATASET,
        shard_name(6),
        repo_type="dataset",
        revision=DATASET_COMMIT,
        cache_dir=tmp_path / "user",
        endpoint=world.hub.endpoint,
    )
    world.hub.bytes_sent.clear()
    return tmp_path / "user"


@pytest.mark.parametrize("same_disk", [True, False])
def test_what_the_user_has_already_is_taken_from_there(
    world: World, users_cache: Path, same_disk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_names: object) -> None:
        raise OSError(errno.EXDEV, "another disk")

    if not same_disk:
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    snapshot = world.snapshot()
    file = snapshot.file(shard_name(6))
    done = world.fetch(file, snapshot, users_cache)
    assert (done.bytes_fetched, done.attempts, world.hub.bytes_sent) == (0, 0, {})
    assert verify_cached(file, snapshot, world.hub_cache) == done.path
    assert done.path.stat().st_nlink == (2 if same_disk else 1)
    assert world.notes == [f"found in {users_cache}"]


def test_what_is_damaged_there_is_left_there_and_fetched(world: World, users_cache: Path) -> None:
    snapshot = world.snapshot()
    file = snapshot.file(shard_name(6))
    place_of(file, snapshot, users_cache).blob.write_bytes(bytes(file.size))
    assert world.fetch(file, snapshot, users_cache).bytes_fetched == file.size
    assert place_of(file, snapshot, users_cache).blob.read_bytes() == bytes(file.size)


def test_a_second_fetch_asks_the_hub_for_nothing(world: World) -> None:
    first = world.fetch_shard()
    asked = world.hub.count("store")
    again = world.fetch_shard()
    assert (again.path, again.bytes_fetched, again.attempts) == (first.path, 0, 0)
    assert world.hub.count("store") == asked


def test_a_file_kept_in_git_itself_is_verified_by_its_blob(world: World) -> None:
    snapshot = world.snapshot()
    card = snapshot.file("README.md")
    assert card.sha256 is None
    world.fetch(card, snapshot)
    place = place_of(card, snapshot, world.hub_cache)
    place.blob.write_bytes(b"# ImageNet-101\n")
    with pytest.raises(DigestMismatch, match=f"expected git blob {card.blob_id}"):
        verify_cached(card, snapshot, world.hub_cache)


def test_what_an_earlier_run_left_is_not_fetched_again(world: World, shards: dict[str, bytes]) -> None:
    snapshot = world.snapshot()
    file = snapshot.file(shard_name(3))
    place = place_of(file, snapshot, world.hub_cache)
    place.incomplete.parent.mkdir(parents=True)
    place.incomplete.write_bytes(shards[file.path][:40_000])
    assert missing_bytes(file, snapshot, world.hub_cache) == file.size - 40_000
    done = world.fetch(file, snapshot)
    assert (done.resumed_from, done.bytes_fetched) == (40_000, file.size - 40_000)
    assert world.hub.bytes_sent[file.path] == file.size - 40_000
    assert done.path.read_bytes() == shards[file.path]
    assert missing_bytes(file, snapshot, world.hub_cache) == 0
    assert not place.incomplete.exists()


def test_an_earlier_part_that_is_complete_needs_no_request(world: World, shards: dict[str, bytes]) -> None:
    """Killed between the last byte and the rename."""
    snapshot = world.snapshot()
    file = snapshot.file(shard_name(3))
    place = place_of(file, snapshot, world.hub_cache)
    place.incomplete.parent.mkdir(parents=True)
    place.incomplete.write_bytes(shards[file.path])
    assert world.fetch(file, snapshot).bytes_fetched == 0
    assert world.hub.count("store") == 0


def test_an_earlier_part_that_is_too_long_is_none(world: World, shards: dict[str, bytes]) -> None:
    snapshot = world.snapshot()
    file = snapshot.file(shard_name(3))
    place = place_of(file, snapshot, world.hub_cache)
    place.incomplete.parent.mkdir(parents=True)
    place.incomplete.write_bytes(shards[file.path] + b"x")
    assert world.fetch(file, snapshot).path.read_bytes() == shards[file.path]


def test_an_earlier_part_that_rotted_is_found_by_the_digest_and_the_next_run_is_clean(world: World) -> None:
    snapshot = world.snapshot()
    file = snapshot.file(shard_name(3))
    place = place_of(file, snapshot, world.hub_cache)
    place.incomplete.parent.mkdir(parents=True)
    place.incomplete.write_bytes(b"\0" * 40_000)
    with pytest.raises(DigestMismatch) as caught:
        world.fetch(file, snapshot)
    assert "first 40000 bytes were from an earlier run" in caught.value.hint
    assert not place.blob.exists()
    assert not place.incomplete.exists()
    assert world.fetch(file, snapshot).resumed_from == 0


def test_damage_after_fetching_is_found_with_the_date_kept_and_repaired(
    world: World, shards: dict[str, bytes]
) -> None:
    path = world.fetch_shard(5).path
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(30_000)
        file.write(b"\xff")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    snapshot = world.snapshot()
    wanted = snapshot.file(shard_name(5))
    with pytest.raises(DigestMismatch, match=rf"train-00005.*expected sha256 {wanted.sha256}, got sha256 "):
        verify_cached(wanted, snapshot, world.hub_cache)
    assert path.exists(), "verifying changes nothing"
    done = world.fetch(wanted, snapshot)
    assert done.bytes_fetched == wanted.size
    assert done.path.read_bytes() == shards[wanted.path]
    assert "damaged since it was fetched" in world.notes[0]
    assert len(world.quarantined()) == 1


def test_a_missing_file_is_missing(world: World) -> None:
    snapshot = world.snapshot()
    file = snapshot.file(shard_name(1))
    with pytest.raises(ArtifactMissing, match="train-00001"):
        verify_cached(file, snapshot, world.hub_cache)
    world.fetch(file, snapshot).path.resolve().unlink()
    with pytest.raises(ArtifactMissing, match="train-00001"):
        verify_cached(file, snapshot, world.hub_cache)


def test_two_at_once_fetch_it_once(world: World) -> None:
    snapshot = world.snapshot()
    file = snapshot.file(shard_name(7))
    world.hub.fault("store", file.path, Short(30_000), Cut(10_000))
    found, gate = [], threading.Barrier(4)

    def one() -> None:
        gate.wait()
        found.append(world.fetch(file, snapshot))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done.bytes_fetched for done in found) == [0, 0, 0, file.size]
    assert world.hub.bytes_sent[file.path] == file.size


def test_who_waits_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = world.snapshot()
    file = snapshot.file(shard_name(7))
    place = place_of(file, snapshot, world.hub_cache)
    place.lock.parent.mkdir(parents=True)
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with lock.hold(place.lock, sleep=lambda _seconds: None, waiting=lambda: None):
            held.set()
            let_go.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    monkeypatch.setattr(world.time, "sleep", lambda _seconds: let_go.set())
    world.fetch(file, snapshot)
    holder.join()
    assert world.notes[0] == "another process is fetching it; waiting"


def test_a_reader_that_stops_us_loses_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PIECE", 1000)
    snapshot = world.snapshot()
    file = snapshot.file(shard_name(2))

    def stop(progress: object) -> None:
        if getattr(progress, "done", 0) > 0:
            raise KeyboardInterrupt

    world.report = stop  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        world.fetch(file, snapshot)
    del world.report
    done = world.fetch(file, snapshot)
    assert done.resumed_from > 0
    assert done.resumed_from + done.bytes_fetched == file.size


def test_a_link_in_place_of_the_part_is_not_followed(world: World, tmp_path: Path) -> None:
    snapshot = world.snapshot()
    file = snapshot.file(shard_name(2))
    place = place_of(file, snapshot, world.hub_cache)
    place.incomplete.parent.mkdir(parents=True)
    (tmp_path / "precious").write_bytes(b"keep")
    place.incomplete.symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        world.fetch(file, snapshot)
    assert (tmp_path / "precious").read_bytes() == b"keep"
