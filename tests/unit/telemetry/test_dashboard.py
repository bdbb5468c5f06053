"""The Grafana dashboards: every number they name exists, with the labels they use; panels do not overlap."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric

from perturbnet.attacks.pgd import AscendingPgd
from perturbnet.config import load_settings
from perturbnet.errors import AttackError, ChainTimeout, Reject
from perturbnet.miner.numbers import Answered
from perturbnet.miner.service import MinerService
from perturbnet.telemetry import Mirror
from perturbnet.validator.watch import Watch
from tests.support.fakes import BlockEngine, VirtualClock
from tests.support.miner.worlds import JointOracle
from tests.support.validator.world import make_world

FOLDER = Path(__file__).resolve().parents[3] / "packaging" / "grafana"
ROLES = ("miner", "validator")
WORDS = re.compile(r"\b(?:perturb|process)_[a-z_]+")
GROUPED = re.compile(r"by \(([a-z_, ]+)\)|\{\{([a-z_]+)\}\}")
LEFT_OUT = {
    "validator": {"score", "miner_processed", "chain_block"},
    "miner": set[str](),
}
LABELS = {
    "validator": {"reject", "uid", "call", "error", "state", "le"},
    "miner": {"reject", "outcome", "kind"},
}


@dataclass(frozen=True)
class Board:
    """One dashboard, and what a neuron of its role shows."""

    role: str
    content: dict[str, Any]
    shown: list[Metric]

    def expressions(self) -> list[tuple[str, str]]:
        """Each query with its legend; the query of the variable too."""
        panels = [
            (target["expr"], target["legendFormat"])
            for panel in self.content["panels"]
            for target in panel["targets"]
        ]
        variables = self.content["templating"]["list"]
        return panels + [(one["query"]["query"], "") for one in variables if one["type"] == "query"]

    def named(self) -> set[str]:
        """Every number that a query names."""
        return {name for expression, _ in self.expressions() for name in WORDS.findall(expression)}


def validator_numbers(folder: Path) -> list[Metric]:
    """What a validator shows after two rounds, with something of everything."""
    world = make_world(folder, miners=2)
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


def miner_numbers(_: Path) -> list[Metric]:
    """What a miner shows after an answer and its acknowledgement."""
    engine = BlockEngine()
    service = MinerService(engine, JointOracle(engine), AscendingPgd(), "hotkey", VirtualClock())
    service.counted.answered(Answered("t", "image", "", 1, 5, 100, 0.5, 3, 2, 0.1, 1.0, 2.0, overran=False))
    service.counted.judged(Reject.OK)
    service._failures.add(AttackError("x"))
    found = list(service.registry.collect())
    service.close()
    return found


@pytest.fixture(scope="module", params=ROLES)
def board(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Board:
    numbers = {"validator": validator_numbers, "miner": miner_numbers}[request.param]
    content = json.loads((FOLDER / f"perturb-{request.param}.json").read_text())
    return Board(request.param, content, numbers(tmp_path_factory.mktemp("board")))


def test_every_dashboard_is_tested() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {f"perturb-{role}.json" for role in ROLES}


def test_every_number_it_names_exists(board: Board) -> None:
    known = {sample.name for metric in board.shown for sample in metric.samples}
    assert len(board.named()) > 10
    assert board.named() - known == set()


def test_every_number_of_its_role_is_on_it(board: Board) -> None:
    prefix = f"perturb_{board.role}_"
    ours = {metric.name for metric in board.shown if metric.name.startswith(prefix)}
    left_out = {name for name in ours if not any(named.startswith(name) for named in board.named())}
    assert {name.removeprefix(prefix) for name in left_out} == LEFT_OUT[board.role]


def test_labels_exist(board: Board) -> None:
    labels = {label for metric in board.shown for sample in metric.samples for label in sample.labels}
    used = {
        word.strip()
        for expression, legend in board.expressions()
        for group in GROUPED.findall(expression + legend)
        for word in ",".join(group).split(",")
        if word.strip()
    }
    assert used <= labels
    assert LABELS[board.role] <= used


def test_panels_do_not_overlap(board: Board) -> None:
    panels = board.content["panels"]
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


def test_it_names_no_source_of_its_own(board: Board) -> None:
    sources = {json.dumps(panel["datasource"]) for panel in board.content["panels"]}
    assert sources == {'{"type": "prometheus", "uid": "${datasource}"}'}
