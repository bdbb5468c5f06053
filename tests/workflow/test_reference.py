"""`snakemake bootstrap` for the reference profile: from nothing, again, and after damage."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from perturbnet.bootstrap.manifest import read_manifest
from perturbnet.bootstrap.records import Workplace, leaves_of, read_fingerprint
from perturbnet.datasets.reference import parquet_path
from tests.support.damage import flip_bit
from tests.workflow.conftest import FINGERPRINT, ROOT, Workflow

pytestmark = pytest.mark.timeout(900)  # a busy machine is no failure
Prepared = tuple[Workflow, str]
PROFILE = ("--config", "profile=reference")


def place(workflow: Workflow) -> Workplace:
    return Workplace(workflow.cache, "reference")


def test_it_ends_with_the_protocol_fingerprint_and_a_page(reference: Prepared) -> None:
    workflow, said = reference
    manifest = read_manifest(place(workflow).manifest)
    assert FINGERPRINT.findall(said)[-1] == manifest.digest
    assert manifest.dataset.rows == 2400
    assert manifest.dataset.root == read_fingerprint(place(workflow).fingerprint).fingerprint.root
    page = place(workflow).report.read_text()
    for wanted in (
        manifest.digest,
        manifest.dataset.root,
        manifest.model.artefact,
        "heart",
        "data:image/jpeg",
    ):
        assert wanted in page, wanted


def test_nothing_is_written_where_the_workflow_lies(reference: Prepared) -> None:
    workflow, _ = reference
    names = {str(path.relative_to(workflow.source)) for path in workflow.source.rglob("*") if path.is_file()}
    here = [
        ROOT / "Snakefile",
        *(p for d in ("workflow", "profiles", "config") for p in (ROOT / d).rglob("*")),
    ]
    assert names == {str(path.relative_to(ROOT)) for path in here if path.is_file()}


def test_a_second_run_has_nothing_to_do_and_takes_less_than_five_seconds(reference: Prepared) -> None:
    workflow, _ = reference
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code, said = workflow.run("bootstrap", *PROFILE)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert code == 0, said
    assert "Nothing to be done" in said
    # Of the processor: what else this machine does is not ours.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 5


def test_what_was_deleted_or_damaged_is_noticed_and_made_anew(reference: Prepared) -> None:
    workflow, _ = reference
    records = place(workflow)
    before = read_manifest(records.manifest).digest
    parquet = parquet_path(workflow.cache, "train")
    flip_bit(parquet, parquet.stat().st_size // 2)
    flip_bit(leaves_of(records.fingerprint), 1000)
    records.model.unlink()
    records.report.write_bytes(records.report.read_bytes()[:-100])
    code, said = workflow.run("bootstrap", *PROFILE)
    assert code == 0, said
    for wanted in (str(parquet), str(leaves_of(records.fingerprint)), str(records.report)):
        assert f"perturb: {wanted}" in said, said
    assert FINGERPRINT.findall(said)[-1] == before
    assert [path.name[:24] for path in (workflow.cache / "quarantine").iterdir()] == [
        "reference--train.parquet"
    ]
    assert "Nothing to be done" in workflow.run("bootstrap", *PROFILE)[1]


def test_a_deleted_manifest_is_made_again_from_the_records_alone(reference: Prepared) -> None:
    workflow, _ = reference
    before = read_manifest(place(workflow).manifest).digest
    place(workflow).manifest.unlink()
    code, said = workflow.run("bootstrap", environment={"PERTURB_PROFILE": "reference"})
    assert code == 0, said
    assert "rule render" not in said
    assert "rule part" not in said
    assert read_manifest(place(workflow).manifest).digest == before


def test_perturb_bootstrap_is_the_same_and_sees_at_once_that_all_is_there(reference: Prepared) -> None:
    workflow, _ = reference
    done = subprocess.run(
        [sys.executable, "-m", "perturbnet.cli", "bootstrap", "--profile", "reference"],
        env=workflow.environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "nothing to do" in done.stdout
    assert FINGERPRINT.findall(done.stdout) == [read_manifest(place(workflow).manifest).digest]


def test_perturb_manifest_prints_what_sha256sum_prints(reference: Prepared) -> None:
    workflow, _ = reference
    command = [sys.executable, "-m", "perturbnet.cli", "manifest", "--profile", "reference"]
    shown = subprocess.run(command, env=workflow.environment, check=True, capture_output=True, text=True)
    summed = subprocess.run(
        ["sha256sum", place(workflow).manifest], check=True, capture_output=True, text=True
    )
    assert FINGERPRINT.findall(shown.stdout) == [summed.stdout.split()[0]]


def test_a_wrong_profile_is_refused_by_name(reference: Prepared) -> None:
    workflow, _ = reference
    code, said = workflow.run("bootstrap", "--dry-run", "--config", "profile=imagenet1000")
    assert code != 0
    assert "imagenet1000" in said
    code, said = workflow.run("bootstrap", "--dry-run", environment={"PERTURB_PROFILE": "refrence"})
    assert code != 0
    assert "PERTURB_PROFILE: 'refrence'" in said


def test_the_only_complaint_of_lint_is_that_no_rule_brings_its_own_environment(reference: Prepared) -> None:
    workflow, _ = reference
    for profile in ("reference", "imagenet100"):
        _, said = workflow.run("--lint", "--config", f"profile={profile}")
        complaints = re.findall(r"^    \* (.+?):$", said, re.MULTILINE)
        assert set(complaints) == {"Specify a conda environment or container for each rule."}, said


def test_snakemake_s_own_report_holds_the_page(reference: Prepared, tmp_path: Path) -> None:
    workflow, _ = reference
    target = tmp_path / "report.html"
    code, said = workflow.run("bootstrap", *PROFILE, "--report", str(target))
    assert code == 0, said
    assert "what this node holds" in target.read_text()
