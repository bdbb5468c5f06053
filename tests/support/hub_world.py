"""A hub of 22 small shards and weights, and time that passes at once."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from perturbnet.datasets.tables import write_table
from perturbnet.hub.connection import Pace
from perturbnet.hub.fetching import Fetched, Progress, fetch
from perturbnet.hub.listing import HubFile, HubSnapshot, list_snapshot
from tests.support.hub_server import HubServer

DATASET, WEIGHTS = "clane9/imagenet-100", "timm/tf_efficientnetv2_l.in1k"
DATASET_COMMIT = "0519dc2f402a3a18c6e57f7913db059215eee25b"
WEIGHTS_COMMIT = "c8d2922" + "5" * 33
SHARDS = 22
TOKEN = "hf_a-secret-that-must-not-be-seen"


def shard_name(number: int) -> str:
    return f"data/train-{number:05d}-of-{SHARDS:05d}.parquet"


def small_shard(number: int) -> bytes:
    """Three rows of 20 kB: a real Parquet file, of bytes that no compression shortens."""
    target = io.BytesIO()
    chance = random.Random(number)
    write_table(target, ((chance.randbytes(20_000), row) for row in range(3)), ["a", "b", "c"])
    return target.getvalue()


@dataclass
class Time:
    """A clock that a sleep sets forward, and a chance that always says the most."""

    now_s: float = 0.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds

    def pace(self) -> Pace:
        return Pace(self.sleep, lambda _low, high: high, lambda: self.now_s)


@dataclass
class World:
    """A hub, a cache, and a fetch between them."""

    hub: HubServer
    cache: Path
    time: Time = field(default_factory=Time)
    token: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def hub_cache(self) -> Path:
        return self.cache / "hub"

    def snapshot(self, kind: str = "dataset") -> HubSnapshot:
        if kind == "dataset":
            return self.ask(DATASET, "dataset", DATASET_COMMIT)
        return self.ask(WEIGHTS, "model", "c8d2922")

    def ask(self, repository: str, kind: str, revision: str) -> HubSnapshot:
        return list_snapshot(
            repository,
            kind,  # type: ignore[arg-type]  # the tests also give it what it must refuse
            revision,
            endpoint=self.hub.endpoint,
            token=self.token,
            pace=self.time.pace(),
        )

    def fetch(self, file: HubFile, snapshot: HubSnapshot, *caches: Path) -> Fetched:
        return fetch(
            file,
            snapshot,
            self.hub_cache,
            report=self.report,
            token=self.token,
            endpoint=self.hub.endpoint,
            pace=self.time.pace(),
            caches=caches,
        )

    def fetch_shard(self, number: int = 0) -> Fetched:
        snapshot = self.snapshot()
        return self.fetch(snapshot.file(shard_name(number)), snapshot)

    def report(self, progress: Progress) -> None:
        if progress.note:
            self.notes.append(progress.note)

    def quarantined(self) -> list[str]:
        return sorted(path.name for path in (self.cache / "quarantine").glob("*"))


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lift huggingface_hub's offline mode; the guard on sockets stays."""
    from huggingface_hub import close_session

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield
    close_session()


@pytest.fixture(scope="session")
def shards() -> dict[str, bytes]:
    return {shard_name(number): small_shard(number) for number in range(SHARDS)}


@pytest.fixture
def world(tmp_path: Path, online: None, shards: dict[str, bytes]) -> Iterator[World]:
    hub = HubServer(token=TOKEN)
    card = {"README.md": b"# ImageNet-100\n", "data/validation-00000-of-00001.parquet": b"not wanted"}
    hub.add("dataset", DATASET, {**shards, **card}, commit=DATASET_COMMIT)
    hub.add(
        "model",
        WEIGHTS,
        {"model.safetensors": bytes(range(256)) * 2000, "config.json": b"{}"},
        commit=WEIGHTS_COMMIT,
    )
    with hub:
        yield World(hub, tmp_path / "cache")
