"""The plan of an evaluation: written once, the same when it goes on, or refused by what differs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perturbnet.config import load_settings
from perturbnet.errors import ConfigError, LedgerError
from perturbnet.evaluation.attackers import SearchBudget, open_attackers
from perturbnet.evaluation.plan import EvaluationPlan, read_plan, record_plan
from perturbnet.evaluation.run import EvaluationRequest, open_evaluation, prepare
from perturbnet.evaluation.session import offline_settings
from tests.support.evaluation.pictures import write_folder, write_weights

FACTS: dict[str, str | int] = {"format": 1, "engine": "float64", "clock": "wall"}


def request(tmp_path: Path, out: Path, **settings: str) -> EvaluationRequest:
    return EvaluationRequest(
        model=str(write_weights(tmp_path / "w.safetensors", "test_vit")),
        images=write_folder(tmp_path / "in", count=1, classes=("0", "1")),
        out=out,
        settings=load_settings({}, overrides={**offline_settings("1", freshness=False), **settings}).settings,
        attacks=["exchange"],
        budget=SearchBudget(1.0, virtual=True),
    )


def test_a_plan_is_found_again_and_another_is_refused_by_name(tmp_path: Path) -> None:
    record_plan(tmp_path, EvaluationPlan(FACTS), tmp_path / "in")
    record_plan(tmp_path, EvaluationPlan(dict(reversed(FACTS.items()))), tmp_path / "in")
    assert read_plan(tmp_path).plan.facts == FACTS
    assert read_plan(tmp_path).images == (tmp_path / "in").resolve()
    with pytest.raises(LedgerError, match="clock is 'wall' there, 'virtual' here"):
        record_plan(tmp_path, EvaluationPlan({**FACTS, "clock": "virtual"}), tmp_path / "in")
    with pytest.raises(LedgerError, match="seed is None there"):
        record_plan(tmp_path, EvaluationPlan({**FACTS, "seed": ""}), tmp_path / "in")


@pytest.mark.parametrize("text", ["", "{}", "[]", json.dumps({"plan": {"format": 9}, "images_at": "x"})])
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "evaluation.json").write_text(text)
    with pytest.raises(LedgerError, match="is not an evaluation's plan"):
        read_plan(tmp_path)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(LedgerError, match=r"holds something else than an evaluation: thesis\.tex"):
        prepare(request(tmp_path, out), lambda _done, _of: None)
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]


def test_one_cap_for_all_images(tmp_path: Path) -> None:
    asked = request(tmp_path, tmp_path / "out", PERTURB_MAX_LINF_DELTA="0.07")
    with pytest.raises(ConfigError, match=r"PERTURB_MAX_LINF_DELTA.*at most 0\.06"):
        prepare(asked, lambda _done, _of: None)


def test_an_evaluation_of_another_model_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    asked = request(tmp_path, tmp_path / "out")
    prepared = prepare(asked, lambda _done, _of: None)
    assert not prepared.judged.reproducible
    with open_evaluation(prepared) as session:
        assert session.evaluation.judged == 0
    write_weights(tmp_path / "w.safetensors", "test_convnext")
    with pytest.raises(LedgerError, match="architecture is 'test_vit' there, 'test_convnext' here"):
        prepare(asked, lambda _done, _of: None)


def test_attacks_are_named_once_and_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="each attack once"):
        open_attackers(["pgd", "pgd"], tmp_path)
    with pytest.raises(ConfigError, match="one of exchange, pgd"):
        open_attackers(["no-such-attack"], tmp_path)
    first, second = open_attackers(["exchange", "pgd"], tmp_path)
    assert (first.uid, second.uid) == (1, 2)
    assert first.hotkey.ss58_address != second.hotkey.ss58_address
    assert open_attackers(["exchange"], tmp_path)[0].hotkey.ss58_address == first.hotkey.ss58_address
