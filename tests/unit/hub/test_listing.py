"""What the hub says it holds: completed commits, checked listings, no path believed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perturbnet.errors import ArtifactError, ConfigError, HubRefused, HubUnavailable
from perturbnet.hub.listing import HubFile, HubSnapshot, parse_snapshot, read_snapshot, snapshot_json
from tests.support.hub_server import COMMITS_PER_PAGE, Status, Wrong
from tests.support.hub_world import (
    DATASET,
    DATASET_COMMIT,
    SHARDS,
    WEIGHTS,
    WEIGHTS_COMMIT,
    World,
    shard_name,
)

COMMIT, BLOB, SHA256 = "a" * 40, "b" * 40, "c" * 64
INFO = f"/api/datasets/{DATASET}/revision/{DATASET_COMMIT}"


def listing(**changes: Any) -> dict[str, Any]:
    file = {"rfilename": "data/x.bin", "size": 10, "blobId": BLOB, "lfs": {"sha256": SHA256, "size": 10}}
    return {"sha": COMMIT, "siblings": [{**file, **changes}]}


def parse(stated: object) -> HubSnapshot:
    return parse_snapshot(stated, "owner/name", "dataset", COMMIT, COMMIT)


class TestListing:
    def test_files_sizes_and_digests_at_the_pinned_commit(
        self, world: World, shards: dict[str, bytes]
    ) -> None:
        snapshot = world.snapshot()
        assert (snapshot.repository, snapshot.kind, snapshot.commit) == (DATASET, "dataset", DATASET_COMMIT)
        listed = {file.path: file for file in snapshot.files}
        assert {path for path in listed if path.startswith("data/train")} == set(shards)
        assert all(listed[path].size == len(data) for path, data in shards.items())
        assert listed["README.md"].sha256 is None
        assert list(listed) == sorted(listed)

    def test_one_request_lists_them_all(self, world: World) -> None:
        assert len(world.snapshot().files) == SHARDS + 2
        assert len(world.hub.requests) == 1

    def test_faults_of_the_api_are_waited_out(self, world: World) -> None:
        world.hub.fault(
            "api", INFO, Status(429, {"Retry-After": "5"}), Status(500), Wrong(b"<html>"), Wrong(b"[")
        )
        world.snapshot()
        assert world.time.slept == [5, 2, 4, 8]

    def test_an_api_that_stays_down_is_named(self, world: World) -> None:
        world.hub.fault("api", INFO, Status(503), times=20)
        with pytest.raises(HubUnavailable, match=f"dataset {DATASET} at {DATASET_COMMIT}: 8 tries"):
            world.snapshot()

    def test_another_commit_than_was_asked_for_is_refused(self, world: World) -> None:
        world.hub.fault("api", INFO, Wrong(json.dumps(listing()).encode()))
        with pytest.raises(ArtifactError, match=f'for commit "a+"; expected {DATASET_COMMIT}'):
            world.snapshot()

    def test_an_unknown_repository(self, world: World) -> None:
        with pytest.raises(HubRefused, match="answered 401: it wants a token, or does not exist"):
            world.ask("nobody/nothing", "dataset", COMMIT)

    def test_a_list_without_end_is_not_read_to_its_end(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("perturbnet.hub.connection.MAX_JSON_BYTES", 100)
        with pytest.raises(HubRefused, match="more than 100 bytes"):
            world.snapshot()


class TestRevisions:
    def test_a_shortened_commit_is_completed(self, world: World) -> None:
        snapshot = world.snapshot("model")
        assert (snapshot.commit, snapshot.revision) == (WEIGHTS_COMMIT, "c8d2922")

    def test_it_is_found_on_a_later_page(self, world: World) -> None:
        repository = world.hub.repositories["model", WEIGHTS]
        others = {f"{number:040x}": {"x": b""} for number in range(2 * COMMITS_PER_PAGE)}
        repository.commits = {**others, **repository.commits}
        assert world.snapshot("model").commit == WEIGHTS_COMMIT
        assert world.hub.count("api", f"/api/models/{WEIGHTS}/commits/main") == 3

    def test_one_that_fits_two_commits_is_refused_with_both(self, world: World) -> None:
        repository = world.hub.repositories["model", WEIGHTS]
        twin = "c8d2922" + "6" * 33
        others = {f"{number:040x}": {"x": b""} for number in range(2 * COMMITS_PER_PAGE)}
        repository.commits = {twin: {"model.safetensors": b"other"}, **others, **repository.commits}
        with pytest.raises(HubRefused, match=f"2 commits begin with it: {WEIGHTS_COMMIT}, {twin}"):
            world.snapshot("model")

    def test_one_that_fits_none_is_refused(self, world: World) -> None:
        with pytest.raises(HubRefused, match="revision 1234567: no such commit"):
            world.ask(WEIGHTS, "model", "1234567")

    @pytest.mark.parametrize("revision", ["main", "v1.0", "refs/pr/1", "c8d29", "C8D2922", "", "c8d2922g"])
    def test_a_branch_a_tag_or_a_stub_is_no_pin(self, world: World, revision: str) -> None:
        with pytest.raises(ArtifactError, match="is not a commit; expected 40 hex digits"):
            world.ask(WEIGHTS, "model", revision)
        assert world.hub.requests == []

    @pytest.mark.parametrize("repository", ["name", "a/b/c", "../x", "owner/na me", ""])
    def test_a_repository_is_owner_and_name(self, world: World, repository: str) -> None:
        with pytest.raises(ArtifactError, match="is no repository"):
            world.ask(repository, "dataset", COMMIT)

    def test_a_page_elsewhere_is_not_followed(self, world: World) -> None:
        path = f"/api/models/{WEIGHTS}/commits/main"
        world.hub.fault("api", path, Wrong(b"[]", {"Link": '<http://127.0.0.1:9/evil>; rel="next"'}))
        with pytest.raises(HubRefused, match=r"the next page is at http://127\.0\.0\.1:9/evil; expected"):
            world.snapshot("model")

    @pytest.mark.parametrize("endpoint", ["ftp://x", "hub.example", "http://", "http://u:p@x", "http://x?y"])
    def test_an_endpoint_is_an_address(self, world: World, endpoint: str) -> None:
        from perturbnet.hub.listing import list_snapshot

        with pytest.raises(ConfigError, match="HF_ENDPOINT"):
            list_snapshot(WEIGHTS, "model", COMMIT, endpoint=endpoint)


class TestHostileListings:
    @pytest.mark.parametrize(
        "path",
        [
            "/etc/passwd",
            "../x",
            "data/../../x",
            "a//b",
            "./x",
            "a/.",
            "",
            "a\\..\\b",
            "a\nb",
            "x" * 513,
            None,
            7,
        ],
    )
    def test_a_path_that_leaves_its_folder(self, path: object) -> None:
        with pytest.raises(ArtifactError, match="it is refused"):
            parse(listing(rfilename=path))

    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            ({"lfs": {"sha256": "../../x", "size": 1}}, "expected 64 hex digits"),
            ({"lfs": {"sha256": SHA256.upper(), "size": 1}}, "expected 64 hex digits"),
            ({"lfs": {"sha256": SHA256, "size": -1}}, "expected 0 to"),
            ({"lfs": {"sha256": SHA256, "size": 1 << 60}}, "expected 0 to"),
            ({"lfs": {"sha256": SHA256, "size": True}}, "expected 0 to"),
            ({"lfs": None, "size": 1.5}, "expected 0 to"),
            ({"blobId": "x" * 40}, "expected 40 hex digits"),
            ({"blobId": None}, "expected 40 hex digits"),
        ],
    )
    def test_a_file_that_is_not_described_as_files_are(self, changes: dict[str, Any], match: str) -> None:
        with pytest.raises(ArtifactError, match=match):
            parse(listing(**changes))

    @pytest.mark.parametrize("siblings", [None, [], {}, "x", [None], [[]]])
    def test_no_list_of_files(self, siblings: object) -> None:
        with pytest.raises(ArtifactError):
            parse({"sha": COMMIT, "siblings": siblings})

    def test_a_path_twice(self) -> None:
        stated = listing()
        with pytest.raises(ArtifactError, match="lists a path twice"):
            parse({**stated, "siblings": stated["siblings"] * 2})

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["sha", "siblings", "rfilename", "size", "lfs", "blobId"]), inner
                )
            ),
        )
    )
    def test_whatever_it_says_is_a_named_error(self, stated: object) -> None:
        with pytest.raises(ArtifactError):
            parse(stated)


hexes = st.text("0123456789abcdef", min_size=40, max_size=40)
files = st.builds(
    HubFile,
    path=st.text("abc/", min_size=1, max_size=20).filter(lambda path: all(path.split("/"))),
    size=st.integers(0, 1 << 40),
    sha256=st.none() | st.text("0123456789abcdef", min_size=64, max_size=64),
    blob_id=hexes,
)


@given(
    st.lists(files, min_size=1, unique_by=lambda file: file.path),
    hexes,
    st.sampled_from(["dataset", "model"]),
)
def test_a_snapshot_survives_being_written_down(listed: list[HubFile], commit: str, kind: Any) -> None:
    ordered = tuple(sorted(listed, key=lambda file: file.path))
    snapshot = HubSnapshot("owner/name", kind, commit, ordered, commit[:7])
    assert read_snapshot(json.loads(json.dumps(snapshot_json(snapshot)))) == snapshot


def test_a_file_that_is_not_listed(world: World) -> None:
    with pytest.raises(ArtifactError, match="holds no file 'nothing'"):
        world.snapshot().file("nothing")
    assert world.snapshot().file(shard_name(0)).path == shard_name(0)
