"""`perturb data` and `perturb pins` as a user runs them: real processes, a hub on loopback, kill -9."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from perturbnet.cli import main
from tests.support import hub_world as hubs
from tests.support.hub_server import Cut, HubServer, Short, Slow, Status, Wrong
from tests.support.hub_world import SHARDS, TOKEN, World, shard_name

# pytest finds a fixture by its name in the module that asks for it.
online, shards, world = hubs.online, hubs.shards, hubs.world
PACKAGE_PINS = Path(__file__).parents[3] / "perturbnet" / "data" / "imagenet100.json"
ROOT = Path(__file__).parents[3]


def perturb(world: World, *words: str, **environment: str) -> Result:
    """Run a command in this process."""
    known = {**world.hub.environment(world.cache), "PERTURB_PROFILE": "imagenet100", **environment}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.ENDPOINT", world.hub.endpoint)
        return CliRunner().invoke(main, list(words), env=known)


def start(hub: HubServer, cache: Path, *words: str) -> subprocess.Popen[str]:
    """Start a command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "perturbnet.cli", *words],
        cwd=ROOT,
        env={**os.environ, **hub.environment(cache), "PERTURB_PROFILE": "imagenet100"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out + err


def wait_for(found: Any, what: str) -> Any:
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        if value := found():
            return value
        time.sleep(0.02)
    pytest.fail(f"{what} did not happen in 60 s")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def fetch_all(world: World, listing: Path, paths: Sequence[str]) -> None:
    for path in paths:
        done = perturb(world, "data", "fetch", "--list", str(listing), "--file", path)
        assert done.exit_code == 0, done.output


def test_listed_fetched_verified_pinned(world: World, tmp_path: Path) -> None:
    """The whole way of a first real download, with the package's own pins."""
    listing, report, pins = tmp_path / "list.json", tmp_path / "reports" / "x.json", tmp_path / "pins.json"
    shutil.copyfile(PACKAGE_PINS, pins)
    listed = perturb(world, "data", "list", "--out", str(listing))
    assert listed.exit_code == 0, listed.output
    assert f"{SHARDS} files" in listed.output
    paths = [shard_name(number) for number in range(SHARDS)]
    fetch_all(world, listing, paths)
    asked = len(world.hub.requests)
    done = perturb(
        world, "data", "fetch", "--list", str(listing), "--file", "model.safetensors", "--report", str(report)
    )
    assert done.exit_code == 0, done.output
    assert len(world.hub.requests) == asked + 2, "resolve and store; the list was not asked for again"
    stated = read_json(report)
    assert (stated["bytes_fetched"], stated["resumed_from"], stated["attempts"]) == (512_000, 0, 1)
    assert stated["commit"].startswith("c8d2922")
    assert "23 of 23 files" in perturb(world, "data", "verify", "--list", str(listing)).output
    updating = perturb(world, "pins", "update", "--list", str(listing), "--pins", str(pins))
    assert updating.exit_code == 0, updating.output
    assert updating.output.count("\n+") >= SHARDS
    assert read_json(pins)["dataset"]["rows"] == 3 * SHARDS
    again = perturb(world, "pins", "update", "--list", str(listing), "--pins", str(pins), "--check")
    assert (again.exit_code, again.output) == (0, "the pins are what was downloaded already\n")
    shown = perturb(world, "pins", "show", "--pins", str(pins)).output
    assert all(name in shown for name in paths)
    assert perturb(world, "pins", "show", "--pins", str(pins), "--json").output == pins.read_text()


def test_pins_are_not_written_from_a_file_that_is_damaged(world: World, tmp_path: Path) -> None:
    listing, pins = tmp_path / "list.json", tmp_path / "pins.json"
    shutil.copyfile(PACKAGE_PINS, pins)
    perturb(world, "data", "list", "--out", str(listing))
    fetch_all(world, listing, [*(shard_name(number) for number in range(SHARDS)), "model.safetensors"])
    checked = perturb(world, "pins", "update", "--list", str(listing), "--pins", str(pins), "--check")
    assert checked.exit_code == 1
    assert pins.read_text() == PACKAGE_PINS.read_text(), "--check writes nothing"
    blob = next(path for path in (world.hub_cache / "models--timm--tf_efficientnetv2_l.in1k/blobs").iterdir())
    blob.write_bytes(bytes(512_000))
    refused = perturb(world, "pins", "update", "--list", str(listing), "--pins", str(pins))
    assert refused.exit_code == 3
    assert "model.safetensors" in refused.output
    assert pins.read_text() == PACKAGE_PINS.read_text()


def test_verify_looks_at_every_file_and_names_each_that_is_not_right(world: World, tmp_path: Path) -> None:
    listing = tmp_path / "list.json"
    perturb(world, "data", "list", "--out", str(listing))
    fetch_all(world, listing, [shard_name(0), shard_name(1), "model.safetensors"])
    snapshot = next(world.hub_cache.glob("datasets--*/snapshots/*"))
    target = snapshot / shard_name(1)
    before = target.stat()
    target.write_bytes(bytes(before.st_size))
    os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    done = perturb(world, "data", "verify", "--list", str(listing))
    assert done.exit_code == 3
    assert "2 of 23 files are what" in done.output
    assert f"{shard_name(1)} (" in done.output
    assert f"{shard_name(21)} is missing" in done.output
    assert f"{shard_name(0)}" not in done.output


def test_faults_as_a_user_reads_them(world: World, tmp_path: Path) -> None:
    world.hub.fault("store", shard_name(0), Status(429, {"Retry-After": "0"}), Short(100))
    done = perturb(world, "data", "fetch", "--file", shard_name(0))
    assert done.exit_code == 0
    assert "answered 429; again in 0 s" in done.output
    assert "a short read: 100 of " in done.output
    world.hub.fault("store", shard_name(1), Wrong(b"x"), Wrong(bytes(len(world_shard(world, 1)))))
    report = tmp_path / "r.json"
    bad = perturb(world, "data", "fetch", "--file", shard_name(1), "--report", str(report))
    assert bad.exit_code == 3
    assert f"{shard_name(1)}: expected sha256 " in bad.output
    assert ", got sha256 " in bad.output
    assert "quarantine" in bad.output
    assert not report.exists()


def world_shard(world: World, number: int) -> bytes:
    repository = world.hub.repositories["dataset", hubs.DATASET]
    return repository.commits[hubs.DATASET_COMMIT][shard_name(number)]


def test_no_room_is_said_before_anything_is_fetched(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: usage._replace(free=1000))
    done = perturb(world, "data", "list", "--out", str(tmp_path / "list.json"))
    assert done.exit_code == 1
    assert "no room for profile imagenet100" in done.output
    assert "1000 free" in done.output
    assert str(world.cache) in done.output


def test_the_token_stands_in_no_line(world: World, tmp_path: Path) -> None:
    """Not even with every log of every library on."""
    world.hub.repositories["dataset", hubs.DATASET].gated = True
    words = ("data", "fetch", "--file", shard_name(0), "--report", str(tmp_path / "r.json"))
    environment = {"HF_DEBUG": "1", "HF_HUB_VERBOSITY": "debug", "LOG_LEVEL": "DEBUG"}
    world.hub.fault("store", shard_name(0), Cut(10), Status(500))
    process = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore", "-m", "perturbnet.cli", *words],
        cwd=ROOT,
        env={**os.environ, **world.hub.environment(world.cache), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert "authenticated: True" in process.stderr
    assert TOKEN not in process.stdout + process.stderr + (tmp_path / "r.json").read_text()
    refused = perturb(world, *words, HF_TOKEN="hf_other-secret")
    assert refused.exit_code == 1
    assert "the token was refused" in refused.output
    assert "hf_other-secret" not in refused.output
    assert world.hub.token_leaked == 0
    for path in world.cache.rglob("*"):
        assert path.is_dir() or TOKEN.encode() not in path.read_bytes()


def test_the_reference_profile_needs_nothing(world: World, tmp_path: Path) -> None:
    done = perturb(world, "data", "list", "--profile", "reference", "--out", str(tmp_path / "list.json"))
    assert done.exit_code == 0
    assert "needs nothing from the hub" in done.output
    assert read_json(tmp_path / "list.json") == {"profile": "reference", "snapshots": {}}
    assert perturb(world, "data", "fetch", "--profile", "reference", "--file", "x").exit_code == 1
    assert perturb(world, "pins", "update", "--profile", "reference").exit_code == 2
    assert "pins nothing on the hub" in perturb(world, "pins", "show", "--profile", "reference").output
    assert world.hub.requests == []


class TestKilled:
    SIZE = 6_000_000

    def test_half_way_through_a_shard_only_its_rest_is_fetched_again(
        self, world: World, tmp_path: Path
    ) -> None:
        path, cache = shard_name(4), world.cache
        big = os.urandom(self.SIZE)
        world.hub.repositories["dataset", hubs.DATASET].commits[hubs.DATASET_COMMIT][path] = big
        listing, report = tmp_path / "list.json", tmp_path / "report.json"
        perturb(world, "data", "list", "--out", str(listing))
        fetch_all(world, listing, [shard_name(number) for number in range(4)])
        world.hub.fault("store", path, Slow(3_000_000))
        words = ("data", "fetch", "--list", str(listing), "--file", path, "--report", str(report))
        process = start(world.hub, cache, *words)
        (part,) = wait_for(
            lambda: [p for p in cache.rglob("*.incomplete") if p.stat().st_size > 1_500_000], "half a shard"
        )
        process.send_signal(signal.SIGKILL)
        ended(process)
        kept = part.stat().st_size
        assert kept < self.SIZE
        for number in range(4):
            assert (
                "there already"
                in perturb(
                    world, "data", "fetch", "--list", str(listing), "--file", shard_name(number)
                ).output
            )
        code, output = ended(start(world.hub, cache, *words))
        assert code == 0, output
        stated = read_json(report)
        assert (stated["resumed_from"], stated["bytes_fetched"]) == (kept, self.SIZE - kept)
        found = next(cache.glob(f"hub/datasets--*/snapshots/*/{path}"))
        assert found.read_bytes() == big
        asked = [r.range for r in world.hub.requests if (r.where, r.path) == ("store", path)]
        assert asked == [None, f"bytes={kept}-"]

    def test_two_processes_at_once_fetch_it_once(self, world: World, tmp_path: Path) -> None:
        path = shard_name(4)
        big = os.urandom(self.SIZE)
        world.hub.repositories["dataset", hubs.DATASET].commits[hubs.DATASET_COMMIT][path] = big
        world.hub.fault("store", path, Slow(4_000_000))
        reports = [tmp_path / f"{number}.json" for number in range(2)]
        both = [
            start(world.hub, world.cache, "data", "fetch", "--file", path, "--report", str(report))
            for report in reports
        ]
        outputs = [ended(process) for process in both]
        assert [code for code, _ in outputs] == [0, 0], outputs
        assert sorted(read_json(report)["bytes_fetched"] for report in reports) == [0, self.SIZE]
        assert world.hub.count("store", path) == 1
        assert sum("another process is fetching it; waiting" in output for _, output in outputs) == 1
