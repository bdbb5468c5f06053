"""Whatever faults come, in whatever order, wherever it is stopped: the file is right, no byte came twice."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perturbnet.hub import download
from perturbnet.hub.fetching import verify_cached
from tests.support.hub_server import Cut, Fault, HubServer, Short, Status
from tests.support.hub_world import DATASET, DATASET_COMMIT, World, shard_name

SIZE = 300_000
PATH = shard_name(0)
passing: st.SearchStrategy[Fault] = st.one_of(
    st.builds(Cut, st.integers(0, SIZE)),
    st.builds(Short, st.integers(0, SIZE)),
    st.builds(Status, st.sampled_from([408, 429, 500, 502, 503, 504])),
)


class Stopped(Exception):
    """The process ended here."""


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    with HubServer() as hub:
        yield hub


@given(
    faults=st.lists(passing, max_size=7),
    stops=st.lists(st.integers(1, SIZE), max_size=3),
    seed=st.integers(0, 1 << 30),
)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_file_is_right_and_no_byte_comes_twice(
    hub: HubServer, online: None, faults: list[Fault], stops: list[int], seed: int
) -> None:
    data = random.Random(seed).randbytes(SIZE)
    hub.add("dataset", DATASET, {PATH: data}, commit=DATASET_COMMIT)
    hub.bytes_sent.clear()
    hub._faults.clear()
    hub.fault("store", PATH, *faults)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "PIECE", 10_000)
        world = World(hub, Path(folder))
        fetched = sum(stopped_fetch(world, stop) for stop in stops)
        done = world.fetch_shard()
        assert done.path.read_bytes() == data
        assert fetched + done.bytes_fetched == SIZE
        snapshot = world.snapshot()
        verify_cached(snapshot.file(PATH), snapshot, world.hub_cache)
        assert not list(world.cache.rglob("*.incomplete"))


def stopped_fetch(world: World, stop: int) -> int:
    """Fetch until so many bytes are there, then stop as if killed; return how many came."""
    begun: list[int] = []
    came = 0

    def report(progress: object) -> None:
        nonlocal came
        done = int(getattr(progress, "done", 0))
        begun.append(done)
        came = done - begun[0]
        if done >= stop:
            raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "report", report)
        try:
            return world.fetch_shard().bytes_fetched
        except Stopped:
            return came
