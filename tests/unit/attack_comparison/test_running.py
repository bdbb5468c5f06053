"""The bench on the reference profile: trials, records that resume, the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from perturbnet.attack_comparison.contenders import PUBLIC, contender_names, expand, open_contender
from perturbnet.attack_comparison.running import ComparisonPlan, run_plan
from perturbnet.commands.bench_attacks import bench
from perturbnet.config import load_settings
from perturbnet.errors import ArtifactMissing, AttackError, ConfigError

SETTINGS = load_settings({"PERTURB_PROFILE": "reference", "PERTURB_DEVICE": "cpu"}).settings
HEADER_OF_ANOTHER = '{"format": 1, "profile": "reference", "budget_s": 3.0}\n'


def ignore(_done: int, _all: int) -> None:
    """No bar."""


def test_contenders() -> None:
    assert contender_names()[:2] == ["exchange", "pgd"]
    assert expand("pgd, fgsm,pgd") == ["pgd", "fgsm"]
    assert {"exchange", "pgd", "fgsm"} <= set(expand("all"))
    assert all(name.startswith("benchmarks.attack_peers:") for name in expand(PUBLIC))
    assert open_contender("fgsm").name == "fgsm"
    assert open_contender("exchange-values").name == "exchange-values"
    assert open_contender("perturbnet.attacks.pgd:AscendingPgd").name == "pgd"
    assert [open_contender(name).name for name in expand(PUBLIC)] == [
        "foolbox-fmn",
        "foolbox-fmn-elimination",
        "sigma-zero-elimination",
        "pdpgd",
    ]


def test_what_cannot_be_opened_is_named() -> None:
    with pytest.raises(ConfigError, match="nobody"):
        open_contender("nobody")
    with pytest.raises(AttackError, match="nowhere:Attack"):
        open_contender("nowhere:Attack")
    with pytest.raises(AttackError, match="Nothing"):
        open_contender("perturbnet.attacks.pgd:Nothing")


def test_a_record_of_another_plan_is_refused(tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    record.write_text(HEADER_OF_ANOTHER)
    with pytest.raises(AttackError, match="budget_s") as refused:
        run_plan(ComparisonPlan(("fgsm",), 1, 18.0, virtual=True), SETTINGS, record, jobs=1, progress=ignore)
    assert refused.value.hint == "name another --record"
    assert record.read_text() == HEADER_OF_ANOTHER


def test_a_profile_that_is_not_prepared_is_said_and_nothing_is_recorded(tmp_path: Path) -> None:
    unprepared = load_settings(
        {"PERTURB_PROFILE": "imagenet100", "PERTURB_CACHE_DIR": str(tmp_path)}
    ).settings
    record = tmp_path / "record.jsonl"
    with pytest.raises(ArtifactMissing):
        run_plan(
            ComparisonPlan(("fgsm",), 1, 18.0, virtual=True), unprepared, record, jobs=1, progress=ignore
        )
    assert not record.exists()


def test_bad_budgets_are_a_usage_error() -> None:
    for text in ("soon", "0,1", ""):
        result = CliRunner().invoke(bench, ["attacks", "--budgets", text])
        assert result.exit_code == 2
        assert "--budgets" in result.output


@pytest.mark.slow
def test_trials_resume_and_end_in_a_table(tmp_path: Path) -> None:
    record, table, picture = tmp_path / "a" / "record.jsonl", tmp_path / "table.json", tmp_path / "scores.svg"
    plan = ComparisonPlan(("exchange", "fgsm"), 3, 2.0, virtual=True)
    trials = run_plan(plan, SETTINGS, record, jobs=1, progress=ignore)
    assert [(trial["image"], trial["attack"]) for trial in trials[:2]] == [(0, "exchange"), (0, "fgsm")]
    for trial in trials:
        assert not trial["late"]
        assert trial["verdict"] in {None, "ok"}
        scores = [point[4] for point in trial["trace"]]
        assert scores == sorted(scores)
    lines = record.read_text().splitlines(keepends=True)
    assert len(lines) == 7
    record.write_text("".join(lines[:3]) + lines[3][:20])  # broken off while a line was written
    said: list[tuple[int, int]] = []
    again = run_plan(plan, SETTINGS, record, jobs=1, progress=lambda done, total: said.append((done, total)))
    assert (said[0], said[-1]) == ((2, 6), (6, 6))
    assert [_timeless(trial) for trial in again] == [_timeless(trial) for trial in trials]
    command = ["attacks", "--n", "3", "--budgets", "1,2", "--against", "fgsm", "--profile", "reference"]
    places = ["--record", str(record), "--json", str(table), "--picture", str(picture)]
    result = CliRunner().invoke(bench, [*command, *places], catch_exceptions=False)
    assert result.exit_code == 0
    assert "| exchange |" in result.output
    assert json.loads(table.read_text())["images"] == 3
    assert picture.read_text().startswith("<svg")


def _timeless(trial: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in trial.items() if name != "wall_s"}
