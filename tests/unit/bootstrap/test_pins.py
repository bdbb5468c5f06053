"""What is pinned, what of it the hub must match, and how a download is written down for review."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perturbnet.bootstrap.pins import diff_pins, format_pins, read_profile_pins, select, updated, wanted_of
from perturbnet.bootstrap.profile import bytes_to_fetch, find_file, list_wanted, read_listing, write_listing
from perturbnet.errors import ArtifactError, DigestMismatch
from perturbnet.hub.listing import HubFile, HubSnapshot
from perturbnet.runtime.artifacts import read_pins
from tests.support.hub_world import DATASET_COMMIT, SHARDS, WEIGHTS_COMMIT, World, shard_name

PINS = read_pins("imagenet100.json")


def listed(world: World, pins: dict[str, Any] = PINS) -> Any:
    return list_wanted(pins, token=None, endpoint=world.hub.endpoint, pace=world.time.pace())


def locked(world: World) -> dict[str, Any]:
    return updated(PINS, listed(world), rows=66)


def test_what_the_package_pins() -> None:
    dataset, weights = wanted_of(PINS)
    assert (dataset.repository, dataset.revision) == ("clane9/imagenet-100", DATASET_COMMIT)
    assert (dataset.kind, weights.kind) == ("dataset", "model")
    assert weights.repository == "timm/tf_efficientnetv2_l.in1k"


def test_the_packages_pins_are_formatted_for_review() -> None:
    text = (Path(__file__).parents[3] / "perturbnet" / "data" / "imagenet100.json").read_text()
    assert format_pins(PINS) == text


def test_the_reference_profile_wants_nothing_from_the_hub() -> None:
    assert wanted_of(read_profile_pins("reference")) == ()


def test_only_what_is_wanted_is_listed(world: World) -> None:
    found = listed(world)
    assert [file.path for file in found["dataset"].files] == [shard_name(number) for number in range(SHARDS)]
    assert [file.path for file in found["weights"].files] == ["model.safetensors"]


class TestUpdate:
    def test_full_commits_digests_and_one_shard_to_a_line(self, world: World) -> None:
        after = locked(world)
        assert after["dataset"]["revision"] == DATASET_COMMIT
        assert after["weights"]["revision"] == WEIGHTS_COMMIT
        assert after["weights"]["size"] == 512_000
        text = format_pins(after)
        assert json.loads(text) == after
        shards = [line for line in text.splitlines() if "train-" in line]
        assert len(shards) == SHARDS
        assert all(line.count('"sha256"') == line.count('"size"') == 1 for line in shards)
        assert shards == sorted(shards)
        assert format_pins(json.loads(text)) == text

    def test_the_diff_is_what_a_person_reviews(self, world: World) -> None:
        difference = diff_pins(format_pins(PINS), format_pins(locked(world)), "imagenet100.json")
        assert '-    "revision": "c8d2922",' in difference
        assert f'+    "revision": "{WEIGHTS_COMMIT}",' in difference
        assert '+    "rows": 66,' in difference
        assert difference.count("\n+") == SHARDS + 7, "shards, braces, rows, weights, the diff's own header"
        assert diff_pins("same", "same", "x") == ""

    def test_it_keeps_what_it_does_not_know(self, world: World) -> None:
        before = {**PINS, "artefact": {"sha256": "x", "golden": ["y"]}}
        assert updated(before, listed(world), rows=None)["artefact"] == before["artefact"]
        assert updated(before, listed(world), rows=None)["dataset"]["rows"] == PINS["dataset"]["rows"]
        assert before["dataset"]["files"] is None, "nothing is changed in place"


class TestLock:
    def test_what_was_recorded_is_found_again(self, world: World) -> None:
        assert listed(world, locked(world))["dataset"].files == listed(world)["dataset"].files

    def test_another_digest_at_the_same_commit_is_refused_before_anything_is_fetched(
        self, world: World
    ) -> None:
        pins = locked(world)
        pins["dataset"]["files"][shard_name(4)]["sha256"] = "0" * 64
        with pytest.raises(DigestMismatch, match=r"train-00004.*sha256 0{64}.*\(lock\).*\(hub\)"):
            listed(world, pins)
        assert world.hub.count("store") == 0

    def test_another_size_too(self, world: World) -> None:
        pins = locked(world)
        pins["weights"]["size"] += 1
        with pytest.raises(DigestMismatch, match="512001 bytes"):
            listed(world, pins)

    def test_another_set_of_shards(self, world: World) -> None:
        pins = locked(world)
        del pins["dataset"]["files"][shard_name(4)]
        with pytest.raises(ArtifactError, match=r"not those of the lock: .*train-00004"):
            listed(world, pins)


class TestCompleteness:
    def without(self, snapshot: HubSnapshot, *paths: str) -> HubSnapshot:
        return replace(snapshot, files=tuple(file for file in snapshot.files if file.path not in paths))

    def test_a_shard_the_hub_does_not_list(self, world: World) -> None:
        snapshot = self.without(world.snapshot(), shard_name(0), shard_name(21))
        with pytest.raises(ArtifactError, match=r"holds 20 shards of \[22\]; missing: \[0, 21\]"):
            select(wanted_of(PINS)[0], snapshot)

    def test_no_shard_at_all(self, world: World) -> None:
        with pytest.raises(ArtifactError, match="none of the files"):
            select(wanted_of(PINS)[1], replace(world.snapshot("model"), files=()))

    def test_shards_of_two_numberings(self, world: World) -> None:
        snapshot = world.snapshot()
        odd = replace(snapshot.files[1], path="data/train-00000-of-00021.parquet")
        with pytest.raises(ArtifactError, match=r"holds 23 shards of \[21, 22\]"):
            select(wanted_of(PINS)[0], replace(snapshot, files=(*snapshot.files, odd)))

    def test_a_shard_without_an_lfs_digest(self, world: World) -> None:
        snapshot = world.snapshot()
        bare = tuple(HubFile(file.path, file.size, None, file.blob_id) for file in snapshot.files)
        with pytest.raises(ArtifactError, match="has no SHA-256 on the hub"):
            select(wanted_of(PINS)[0], replace(snapshot, files=bare))

    def test_a_snapshot_of_something_else(self, world: World) -> None:
        with pytest.raises(ArtifactError, match="pinned is model timm"):
            select(wanted_of(PINS)[1], world.snapshot())


class TestList:
    def test_it_is_read_as_it_was_written(self, world: World, tmp_path: Path) -> None:
        found = listed(world)
        file = tmp_path / "list.json"
        file.write_text(write_listing("imagenet100", found))
        assert dict(read_listing(file, "imagenet100", PINS)) == dict(found)
        snapshot, shard = find_file(found, shard_name(9))
        assert (snapshot.commit, shard.path) == (DATASET_COMMIT, shard_name(9))
        total = sum(file.size for part in found.values() for file in part.files)
        assert bytes_to_fetch(found, world.hub_cache) == total
        done = world.fetch(shard, snapshot)
        assert bytes_to_fetch(found, world.hub_cache) == total - done.bytes_fetched

    def test_one_that_was_tampered_with_is_refused_by_the_lock(self, world: World, tmp_path: Path) -> None:
        pins, file = locked(world), tmp_path / "list.json"
        stated = json.loads(write_listing("imagenet100", listed(world)))
        stated["snapshots"]["dataset"]["siblings"][0]["lfs"]["sha256"] = "0" * 64
        file.write_text(json.dumps(stated))
        with pytest.raises(DigestMismatch, match="train-00000"):
            read_listing(file, "imagenet100", pins)

    @pytest.mark.parametrize(
        ("text", "match"),
        [
            ("", "is no list of files"),
            ("[]", "is no list of files"),
            ('{"profile": "imagenet100", "snapshots": 7}', "is no list of files"),
            ('{"profile": "reference", "snapshots": {}}', "is of profile 'reference'"),
            ('{"profile": "imagenet100", "snapshots": {}}', "lists no dataset"),
            ('{"profile": "imagenet100", "snapshots": {"dataset": {}}}', "lacks 'repository'"),
            ("[" * 100_000, "is no list of files"),
        ],
    )
    def test_something_else_is_named(self, tmp_path: Path, text: str, match: str) -> None:
        file = tmp_path / "list.json"
        file.write_text(text)
        with pytest.raises(ArtifactError, match=match):
            read_listing(file, "imagenet100", PINS)

    def test_an_unknown_file_is_named_with_those_there_are(self, world: World) -> None:
        with pytest.raises(
            ArtifactError, match=r"0 files are named 'x'; expected one of 23: data/train-00000"
        ):
            find_file(listed(world), "x")


@pytest.mark.parametrize(
    "pins",
    [
        {"dataset": {}},
        {"dataset": None},
        {"weights": {"file": "x"}},
        {"weights": {"file": "x", "repository": "a/b", "revision": "c", "sha256": "d", "size": "many"}},
        {"dataset": {"files": [1], "repository": "a/b", "revision": "c", "split": "train"}},
    ],
)
def test_malformed_pins(pins: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match="the pins are not as expected"):
        wanted_of(pins)


def test_a_pins_file_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("{}")
    assert read_profile_pins("imagenet100", tmp_path / "mine.json") == {}
    for text in ("[]", "{"):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ArtifactError, match=r"bad\.json"):
            read_profile_pins("imagenet100", tmp_path / "bad.json")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_profile_pins("imagenet100", tmp_path / "none.json")
