"""The production rules against a hub on loopback: 22 shards, its faults, kill -9, damage, two at once."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from perturbnet.bootstrap.fingerprint import FileFingerprint, fingerprint_file, merge
from perturbnet.bootstrap.plan import BootstrapPlan
from perturbnet.bootstrap.records import Recorded, Workplace, read_fingerprint
from perturbnet.datasets.tables import write_table
from perturbnet.hub.layout import place_of
from perturbnet.ledger import merkle
from tests.support.damage import flip_bit
from tests.support.hub_server import Cut, HubServer, Short, Status, Wrong
from tests.workflow.conftest import Workflow

DATASET, DATASET_COMMIT = "clane9/imagenet-100", "0519dc2f402a3a18c6e57f7913db059215eee25b"
WEIGHTS, WEIGHTS_COMMIT = "timm/tf_efficientnetv2_l.in1k", "c8d2922" + "5" * 33
SHARDS, ROWS = 22, 6
UNDECODABLE = 7 * ROWS + 2  # its bytes are no picture
KILLED_AFTER = 6
TARGETS = ("fingerprint", "weights")
pytestmark = pytest.mark.timeout(900)  # a busy machine is no failure
World = tuple[HubServer, Workflow]


def shard_name(number: int) -> str:
    return f"data/train-{number:05d}-of-{SHARDS:05d}.parquet"


def picture(row: int) -> bytes:
    if row == UNDECODABLE:
        return b"\xff\xd8 this is no JPEG"
    size = (40 + row % 9, 30 + row % 7)
    target = io.BytesIO()
    noise = random.Random(row).randbytes(size[0] * size[1] * 3)
    Image.frombytes("RGB", size, noise).save(target, "JPEG", quality=95)
    return target.getvalue()


def shard(number: int) -> bytes:
    target = io.BytesIO()
    rows = range(number * ROWS, (number + 1) * ROWS)
    write_table(target, ((picture(row), row % 3) for row in rows), ["a", "b", "c"])
    return target.getvalue()


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {shard_name(number): shard(number) for number in range(SHARDS)}


@pytest.fixture(scope="module")
def world(
    files: dict[str, bytes], source: Path, bytecode: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """A hub, and a workflow whose pins name its repositories; the tests go on with one another's cache."""
    folder = tmp_path_factory.mktemp("production")
    pins = {
        "dataset": {
            "repository": DATASET,
            "revision": DATASET_COMMIT,
            "split": "train",
            "files": None,
            "rows": SHARDS * ROWS,
        },
        "weights": {
            "repository": WEIGHTS,
            "revision": "c8d2922",
            "file": "model.safetensors",
            "sha256": None,
            "size": None,
        },
    }
    (folder / "pins.json").write_text(json.dumps(pins))
    hub = HubServer()
    hub.add("dataset", DATASET, files, commit=DATASET_COMMIT)
    hub.add("model", WEIGHTS, {"model.safetensors": bytes(range(256)) * 500}, commit=WEIGHTS_COMMIT)
    with hub:
        extra = {**bytecode, **hub.environment(folder / "cache")}
        yield hub, Workflow(source, folder / "cache", folder / "run", extra)


def options(workflow: Workflow) -> tuple[str, ...]:
    return "--config", "profile=imagenet100", f"pins={workflow.cache.parent / 'pins.json'}"


def place(workflow: Workflow) -> Workplace:
    return Workplace(workflow.cache, "imagenet100")


def recorded(workflow: Workflow) -> Recorded:
    return read_fingerprint(place(workflow).fingerprint)


def kill_after(process: subprocess.Popen[str], folder: Path, count: int) -> None:
    """kill -9 the whole run as soon as so many files are in place."""
    until = time.monotonic() + 120
    while len(list(folder.rglob("*.json"))) < count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_1_a_run_that_was_killed_goes_on_and_fetches_nothing_twice(
    world: World, files: dict[str, bytes]
) -> None:
    """Faults that pass are waited out: 429 with Retry-After, 500, a cut connection, a short read."""
    hub, workflow = world
    hub.fault("resolve", shard_name(0), Status(429, {"Retry-After": "1"}))
    hub.fault("resolve", shard_name(1), Status(500), times=2)
    hub.fault("store", shard_name(2), Cut(4000))
    hub.fault("store", shard_name(3), Short(3000))
    first = workflow.start(*TARGETS, "--cores", "2", *options(workflow))
    kill_after(first, place(workflow).folder / "fetched", KILLED_AFTER)
    code, said = workflow.run(*TARGETS, "--cores", "2", *options(workflow))
    assert code == 0, said
    sizes = {name: len(data) for name, data in files.items()}
    again = sum(hub.bytes_sent[name] - size for name, size in sizes.items())
    # Two were fetched at once when it was killed, so of each at most the rest comes twice.
    assert again <= 2 * max(sizes.values())
    assert not (workflow.cache / "quarantine").exists()


def test_2_the_fingerprint_is_the_one_of_a_fresh_run_in_one_process_in_any_order(
    world: World, tmp_path: Path, files: dict[str, bytes]
) -> None:
    parts: list[FileFingerprint] = []
    for name, data in sorted(files.items(), reverse=True):
        path = tmp_path / "shard.parquet"
        path.write_bytes(data)
        parts.append(fingerprint_file(path, name))
    fresh, found = merge(parts), recorded(world[1]).fingerprint
    assert found.root == fresh.root
    assert found.leaves == fresh.leaves
    assert found.rows == SHARDS * ROWS
    assert [item.row for item in found.undecodable] == [UNDECODABLE]
    hashes = [found.leaves[at : at + 32] for at in range(0, len(found.leaves), 32)]
    proof = merkle.inclusion_proof(5, found.rows, merkle.subtrees_of(hashes))
    assert merkle.verify_inclusion(hashes[5], 5, found.rows, proof, bytes.fromhex(found.root))


def test_3_again_there_is_nothing_to_do_and_nobody_asks_the_hub(world: World) -> None:
    hub, workflow = world
    before = len(hub.requests)
    code, said = workflow.run(*TARGETS, *options(workflow))
    assert code == 0, said
    assert "Nothing to be done" in said
    assert len(hub.requests) == before


def test_4_damage_with_its_date_kept_is_named_and_that_shard_alone_is_fetched_again(world: World) -> None:
    hub, workflow = world
    before, root = dict(hub.bytes_sent), recorded(workflow).fingerprint.root
    plan = BootstrapPlan(place(workflow), workflow.cache.parent / "pins.json")
    snapshot = plan.listing()["dataset"]
    blob = place_of(snapshot.file(shard_name(5)), snapshot, workflow.cache / "hub").blob
    flip_bit(blob, 500)
    code, said = workflow.run(*TARGETS, *options(workflow))
    assert code == 0, said
    assert shard_name(5).rpartition("/")[2] in said
    assert "it is made anew" in said
    assert {name for name, count in hub.bytes_sent.items() if count != before.get(name)} == {shard_name(5)}, (
        said
    )
    assert recorded(workflow).fingerprint.root == root
    assert len(list((workflow.cache / "quarantine").iterdir())) == 1


def test_5_a_shard_that_stays_wrong_is_refused_by_name_and_the_others_go_on(world: World) -> None:
    """Another shard's bytes under its name: no retry helps, and what the hub has is not put in place."""
    hub, workflow = world
    for name in (shard_name(8), shard_name(9)):
        place(workflow).part(name).unlink()
        place(workflow).fetched(name).unlink()
        snapshot = BootstrapPlan(place(workflow), workflow.cache.parent / "pins.json").listing()["dataset"]
        place_of(snapshot.file(name), snapshot, workflow.cache / "hub").blob.unlink()
    hub.fault("store", shard_name(8), Wrong(shard(9)))
    code, said = workflow.run(*TARGETS, *options(workflow))
    assert code == 1, said
    assert shard_name(8) in said
    assert "expected sha256" in said
    assert place(workflow).part(shard_name(9)).exists()
    assert not place(workflow).part(shard_name(8)).exists()
    code, said = workflow.run(*TARGETS, *options(workflow))
    assert code == 0, said


def test_6_two_at_once_do_the_work_once(world: World) -> None:
    hub, workflow = world
    before = dict(hub.bytes_sent)
    place(workflow).part(shard_name(3)).unlink()
    other = Workflow(
        workflow.source, workflow.cache, workflow.directory.with_name("elsewhere"), workflow.extra
    )
    runs = [one.start(*TARGETS, *options(workflow)) for one in (workflow, other)]
    said = [run.communicate(timeout=120)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert sum("rule part" in text for text in said) == 1
    assert sum("another bootstrap of imagenet100 is under way" in text for text in said) == 1
    assert hub.bytes_sent == before
