"""`snakemake audit`: parts, merged; a finding in any of them ends it; without a data set, for speed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.auditing.honest import HOTKEY, Honest, live, tampered
from tests.support.auditing.published import anchor_of, publish, publish_honest, write_anchors
from tests.support.fakes import NETUID
from tests.workflow.conftest import Workflow

SHARDS = 2


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Honest:
    """A log of three rounds."""
    return live(tmp_path_factory.mktemp("honest"), rounds=3)


@pytest.fixture
def workflow(source: Path, bytecode: dict[str, str], tmp_path: Path) -> Workflow:
    """The workflow with an empty cache."""
    return Workflow(source, tmp_path / "cache", tmp_path / "run", dict(bytecode))


def config(folder: Path, **more: object) -> list[str]:
    """What is audited."""
    values = {
        "bundle": folder / "log",
        "anchors": folder / "anchors.json",
        "hotkey": HOTKEY,
        "netuid": NETUID,
    }
    values |= {"shards": SHARDS, "audit_options": "--no-data", "profile": "reference", **more}
    return ["--config", *(f"{name}={value}" for name, value in values.items())]


@pytest.mark.slow
def test_an_honest_log_passes_in_parts(honest: Honest, workflow: Workflow, tmp_path: Path) -> None:
    publish_honest(honest, tmp_path / "log")
    write_anchors(tmp_path / "anchors.json", anchor_of(honest.leaves()))
    code, said = workflow.run("audit", *config(tmp_path))
    assert code == 0, said
    report = json.loads((workflow.directory / "audit" / "report.json").read_text())
    assert report["passed"] is True
    assert report["checked"]["leaves"] == len(honest.entries)
    assert len(list((workflow.directory / "audit" / "parts").iterdir())) == 1 + SHARDS


@pytest.mark.slow
def test_a_finding_in_a_part_ends_it_and_stands_in_the_report(
    honest: Honest, workflow: Workflow, tmp_path: Path
) -> None:
    leaves = tampered(honest, honest.receipts()[0], score_ppb=5)
    publish(leaves, tmp_path / "log", honest.blobs.folder)
    write_anchors(tmp_path / "anchors.json", anchor_of(leaves))
    code, said = workflow.run("audit", *config(tmp_path))
    assert code != 0
    assert "weights: " in said or "step 9" in said
    report = json.loads((workflow.directory / "audit" / "report.json").read_text())
    assert {finding["step"] for finding in report["findings"]} == {"weights"}


def test_nothing_to_audit_is_said(workflow: Workflow) -> None:
    code, said = workflow.run("audit", "--config", "profile=reference")
    assert code != 0
    assert "add --config bundle=… hotkey=…" in said
