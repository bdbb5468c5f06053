"""The Grafana dashboard: every number it names exists, with the labels it uses; panels do not overlap."""

from __future__ import annotations

import asyncio
import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric

from perturbnet.config import load_settings
from perturbnet.errors import ChainTimeout
from perturbnet.telemetry import Mirror
from perturbnet.validator.watch import Watch
from tests.unit.validator.world import make_world

FILE = Path(__file__).resolve().parents[3] / "packaging" / "grafana" / "perturb-validator.json"
BOARD: dict[str, Any] = json.loads(FILE.read_text())
WORDS = re.compile(r"\b(?:perturb|process)_[a-z_]+")
GROUPED = re.compile(r"by \(([a-z_, ]+)\)|\{\{([a-z_]+)\}\}")


def expressions() -> list[tuple[str, str]]:
    """Each query with its legend; the query of the variable too."""
    panels = [
        (target["expr"], target["legendFormat"]) for panel in BOARD["panels"] for target in panel["targets"]
    ]
    queries = [
        (variable["query"]["query"], "")
        for variable in BOARD["templating"]["list"]
        if variable["type"] == "query"
    ]
    return panels + queries


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> list[Metric]:
    """What a validator shows after two rounds, with something of everything."""
    world = make_world(tmp_path_factory.mktemp("board"), miners=2)
    validator = world.open()
    settings = load_settings(world._settings()).settings
    watch = Watch(settings, validator.journal, world.keypair.ss58_address, Mirror(), world.clock)

    async def work() -> None:
        for _ in range(2):
            receipts = await validator.rounds.run()
            await validator.rounds.finish_telling()
            watch.round_closed(receipts or [], 1.0)
            await validator.weights.run()

    asyncio.run(work())
    watch.chain_called("block", 1.0, ChainTimeout("x"))
    watch.failed(ChainTimeout("x"))
    found = list(watch.registry.collect())
    validator.journal.store.close()
    return found


def test_every_number_it_names_exists(shown: list[Metric]) -> None:
    known = {sample.name for metric in shown for sample in metric.samples}
    named = {name for expression, _ in expressions() for name in WORDS.findall(expression)}
    assert len(named) > 20
    assert named - known == set()


def test_every_number_of_the_validators_is_on_it(shown: list[Metric]) -> None:
    named = {name for expression, _ in expressions() for name in WORDS.findall(expression)}
    left_out = {
        metric.name
        for metric in shown
        if metric.name.startswith("perturb_validator") and not any(n.startswith(metric.name) for n in named)
    }
    assert {name.removeprefix("perturb_validator_") for name in left_out} == {
        "score",
        "miner_processed",
        "chain_block",
    }


def test_labels_exist(shown: list[Metric]) -> None:
    labels = {label for metric in shown for sample in metric.samples for label in sample.labels}
    used = {
        word.strip()
        for expression, legend in expressions()
        for group in GROUPED.findall(expression + legend)
        for word in ",".join(group).split(",")
        if word.strip()
    }
    assert used <= labels
    assert {"reject", "uid", "call", "error", "state", "le"} <= used


def test_panels_do_not_overlap() -> None:
    panels = BOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def test_it_names_no_source_of_its_own() -> None:
    sources = {json.dumps(panel["datasource"]) for panel in BOARD["panels"]}
    assert sources == {'{"type": "prometheus", "uid": "${datasource}"}'}
