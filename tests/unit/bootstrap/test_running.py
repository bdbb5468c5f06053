"""`perturb bootstrap`: which command it runs, and what it says of a run that failed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from perturbnet.bootstrap import running
from perturbnet.bootstrap.manifest import read_manifest
from perturbnet.bootstrap.plan import BootstrapPlan
from perturbnet.bootstrap.progress import BootstrapStatus
from perturbnet.bootstrap.records import Workplace
from perturbnet.bootstrap.running import command_of, ensure, find_snakefile, run_workflow
from perturbnet.cli import main
from perturbnet.errors import ArtifactError, ArtifactMissing
from tests.support.bootstrap.prepared import prepare

FAILED = """Building DAG of jobs...
perturb: 0 of 10 rows fingerprinted
Error in rule fetch:
Logfile a/fetch.log:
================================================================================
something before
perturb: a.parquet: expected sha256 1, got sha256 2
It is in quarantine.
================================================================================
Logfile b/fetch.log:
================================================================================
perturb: a.parquet: expected sha256 1, got sha256 2
It is in quarantine.
================================================================================
Exiting because a job execution failed. Look above for error messages
"""


def script(text: str, code: int) -> list[str]:
    return [sys.executable, "-c", f"import sys; sys.stdout.write({text!r}); sys.exit({code})"]


@pytest.fixture
def plan(tmp_path: Path) -> BootstrapPlan:
    return BootstrapPlan(Workplace(tmp_path, "reference"))


def test_it_runs_the_rules_beside_the_package_in_a_folder_of_the_cache(
    plan: BootstrapPlan, tmp_path: Path
) -> None:
    command = command_of(plan, ["bootstrap"], cores=None, paranoid=True)
    assert command[command.index("--snakefile") + 1] == str(find_snakefile())
    assert command[command.index("--directory") + 1] == str(tmp_path / "bootstrap" / "reference")
    assert command[command.index("--cores") + 1] == "all"
    assert command[command.index("--config") + 1 :] == ["profile=reference", "paranoid=true"]
    assert find_snakefile().is_file()


def test_an_installation_without_the_workflow_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("perturbnet.version.__file__", str(tmp_path / "perturbnet" / "__init__.py"))
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    with pytest.raises(ArtifactMissing, match="no Snakefile"):
        find_snakefile()
    (tmp_path / "share" / "perturb").mkdir(parents=True)
    (tmp_path / "share" / "perturb" / "Snakefile").touch()
    assert find_snakefile() == tmp_path / "share" / "perturb" / "Snakefile"


def test_a_failure_is_what_the_failed_steps_said_each_once(
    plan: BootstrapPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[BootstrapStatus] = []
    monkeypatch.setattr(running, "command_of", lambda *_, **__: script(FAILED, 1))
    with pytest.raises(ArtifactError) as caught:
        run_workflow(plan, show=lambda standing, _: shown.append(standing))
    assert caught.value.message == "a.parquet: expected sha256 1, got sha256 2\nIt is in quarantine."
    assert "snakemake.log" in caught.value.hint
    assert shown[-1].rows_total == 2400


def test_a_failure_without_a_step_shows_the_end_of_the_log(
    plan: BootstrapPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        running, "command_of", lambda *_, **__: script("WorkflowError:\nno such profile\n", 1)
    )
    with pytest.raises(ArtifactError, match="no such profile"):
        run_workflow(plan, show=lambda *_: None)


def test_what_is_complete_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = prepare(tmp_path)
    monkeypatch.setattr(running, "command_of", lambda *_, **__: pytest.fail("it ran"))
    assert ensure(plan, show=lambda *_: None) is False
    plan.place.report.unlink()
    monkeypatch.setattr(running, "command_of", lambda *_, **__: script("", 0))
    assert ensure(plan, show=lambda *_: None) is True


def test_pins_update_records_the_manifest_s_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = prepare(tmp_path)
    monkeypatch.setenv("PERTURB_CACHE_DIR", str(plan.place.cache_dir))
    fresh = tmp_path / "fresh.json"
    options = ["--profile", "imagenet100", "--pins", str(plan.pins), "--list", str(plan.place.listing)]
    done = CliRunner().invoke(main, ["pins", "update", *options, "--out", str(fresh)])
    assert done.exit_code == 0, done.output
    stated = json.loads(fresh.read_text())
    assert stated["manifest"] == read_manifest(plan.place.manifest).digest
    assert stated["dataset"]["rows"] == 15


def test_manifest_shows_checks_and_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = prepare(tmp_path)
    monkeypatch.setenv("PERTURB_CACHE_DIR", str(plan.place.cache_dir))
    monkeypatch.setenv("PERTURB_PROFILE", "imagenet100")
    digest = read_manifest(plan.place.manifest).digest
    shown = CliRunner().invoke(main, ["manifest"])
    assert f"protocol fingerprint  {digest}" in shown.output
    assert "undecodable  row 7" in shown.output
    assert (
        CliRunner().invoke(main, ["manifest", "--json"]).output.encode() == plan.place.manifest.read_bytes()
    )
    assert "15 of 15 rows" in CliRunner().invoke(main, ["manifest", "check", "--paranoid"]).output
    built = CliRunner().invoke(main, ["manifest", "build", "--pins", str(plan.pins)])
    assert digest in built.output
    page = CliRunner().invoke(main, ["manifest", "page", "--pins", str(plan.pins)])
    assert page.output.strip() == str(plan.place.report)
    plan.place.manifest.unlink()
    missing = CliRunner().invoke(main, ["manifest", "check"])
    assert missing.exit_code == 1
    assert "perturb bootstrap" in missing.output
