"""An examination: what is called off, what is recorded and goes on, a real network's rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perturbnet.attack_comparison import robust_accuracy
from perturbnet.attack_comparison.robust_accuracy import Examination, RobustAccuracy, _Brief, examine
from perturbnet.attacks import Attack, AttackResult, AttackTask, Deadline, Oracle
from perturbnet.classifier.weights import reference_weights
from perturbnet.config import load_settings
from perturbnet.errors import AttackError
from tests.support.fakes import BlockEngine, BlockOracle, VirtualClock, texture

SETTINGS = load_settings({"PERTURB_PROFILE": "reference", "PERTURB_DEVICE": "cpu"}).settings
PLAN = Examination("test", (4, 2, 7))


class Descending:
    """Shows what it has at each level from above, as long as it may."""

    name = "descending"

    def __init__(self) -> None:
        self.shown: list[int] = []

    def run(self, _oracle: Oracle, task: AttackTask, deadline: Deadline) -> AttackResult:
        for level in (*reversed(task.levels), *task.levels):
            if deadline.passed:
                break
            self.shown.append(level)
            task.accepts(task.clean + np.uint8(level))
        return AttackResult(None, 0, "shown")


def pursue(attack: Attack, judge: Any) -> None:
    task = AttackTask(texture("image"), 0, (1, 2, 3), judge)
    _Brief(attack).run(BlockOracle(BlockEngine()), task, Deadline(VirtualClock(), 2000.0))


def test_a_search_ends_at_the_least_level() -> None:
    attack = Descending()
    pursue(attack, lambda _pixels: True)
    assert attack.shown == [3, 2, 1]


def test_a_search_goes_on_while_the_verifier_refuses() -> None:
    attack = Descending()
    pursue(attack, lambda pixels: int(pixels[0, 0, 0]) - int(texture("image")[0, 0, 0]) > 1)
    assert attack.shown == [3, 2, 1, 1, 2, 3]


class Runs:
    """In place of the process pool: what was asked for; ends after `patience` rows."""

    def __init__(self, patience: int = 99) -> None:
        self.asked: list[int] = []
        self._patience = patience

    def __call__(self, rows: Sequence[int], _begin: object, _jobs: int) -> Iterator[RobustAccuracy]:
        for row in rows:
            if len(self.asked) == self._patience:
                raise KeyboardInterrupt
            self.asked.append(row)
            yield RobustAccuracy(row, row % 3 or None, {"pgd": row % 3}, row)


def test_a_record_goes_on_where_it_was_broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, record = tmp_path / "weights", tmp_path / "deep" / "record.jsonl"
    weights.write_bytes(b"weights")
    monkeypatch.setattr(robust_accuracy, "_run", Runs(patience=2))
    with pytest.raises(KeyboardInterrupt):
        examine(weights, PLAN, SETTINGS, record=record)
    record.write_text(record.read_text()[:-5])  # the last line was not written to its end
    resumed = Runs()
    monkeypatch.setattr(robust_accuracy, "_run", resumed)
    seen: list[tuple[int, int]] = []
    found = examine(weights, PLAN, SETTINGS, record=record, progress=lambda *done: seen.append(done))
    assert resumed.asked == [2, 7]
    assert [standing.row for standing in found] == [4, 2, 7]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    more = replace(PLAN, rows=(9, 2))
    assert [standing.row for standing in examine(weights, more, SETTINGS, record=record)] == [9, 2]
    assert resumed.asked == [2, 7, 9]


@pytest.mark.parametrize("changed", [{"budget_s": 9.0}, {"seed": "other"}, {"attacks": ("pgd",)}])
def test_a_record_of_another_examination_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]
) -> None:
    weights, record = tmp_path / "weights", tmp_path / "record.jsonl"
    weights.write_bytes(b"weights")
    monkeypatch.setattr(robust_accuracy, "_run", Runs())
    examine(weights, PLAN, SETTINGS, record=record)
    before = record.read_bytes()
    with pytest.raises(AttackError, match=next(iter(changed))):
        examine(weights, replace(PLAN, **changed), SETTINGS, record=record)
    weights.write_bytes(b"others")
    with pytest.raises(AttackError, match="weights"):
        examine(weights, PLAN, SETTINGS, record=record)
    assert record.read_bytes() == before


@pytest.mark.slow  # compiles the network
def test_the_reference_network_is_broken_as_the_verifier_says(tmp_path: Path) -> None:
    settings = replace(SETTINGS, cache_dir=tmp_path)
    plan = Examination("test", (0, 1), budget_s=0.5)
    record = tmp_path / "record.jsonl"
    found = examine(reference_weights()[0], plan, settings, record=record)
    assert [standing.row for standing in found] == [0, 1]
    for standing in found:
        assert standing.broken_at in range(1, 8)
        assert standing.broken_at == min(level for level in standing.by_attack.values() if level is not None)
        assert standing.score_ppb > 0
    assert [json.loads(line) for line in record.read_text().splitlines()[1:]] == [
        asdict(standing) for standing in found
    ]
