"""`perturb evaluate` from the command line: a whole evaluation of a small network, and what it refuses."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from perturbnet.certificate.envelope import read_certificate
from perturbnet.cli import main
from tests.support.evaluation.pictures import write_folder, write_hostile, write_weights


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_weights(tmp_path / "w.safetensors", "test_vit")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "in", count=1, classes=("0", "1"))


QUICK = ("--clock", "virtual", "--seconds", "0.5", "--size", "64")


def answers(out: Path) -> list[tuple[str, str]]:
    """Reject code and pixels of each receipt in the published log."""
    from perturbnet.ledger.leaves import ReceiptLeaf
    from perturbnet.transparency.bundle import open_bundle

    with open_bundle(out / "bundle") as bundle:
        leaves = [entry.leaf for entry in bundle.entries()]
    return [(leaf.reject, leaf.adversarial_pixels) for leaf in leaves if isinstance(leaf, ReceiptLeaf)]


def test_the_virtual_clock_gives_the_same_numbers_again(tmp_path: Path, model: Path, folder: Path) -> None:
    for name in ("a", "b"):
        done = run("--model", model, "--images", folder, "--out", tmp_path / name, *QUICK)
        assert done.exit_code == 0, done.output
        assert "not bit-reproducible" in done.output
        assert "nothing found" in done.output
        page = (tmp_path / name / "report.html").read_text()
        assert "not bit-reproducible" in page
        assert "an offline evaluation has no chain" in page
    assert answers(tmp_path / "a") == answers(tmp_path / "b")
    assert len(answers(tmp_path / "a")) == 2


def test_json_says_everything_and_a_second_run_has_nothing_to_do(
    tmp_path: Path, model: Path, folder: Path
) -> None:
    refused = write_hostile(folder / "0")
    command = ("--model", model, "--images", folder, "--out", tmp_path / "out", "--unlabelled")
    first = run(*command, *QUICK, "--json", "-")
    assert first.exit_code == 0, first.output
    found: dict[str, Any] = json.loads(first.stdout)
    counted = found["statistics"]
    assert (counted["images"], counted["attempts"], counted["labelled"]) == (3, 3, 0)
    assert found["refused"] == len(refused)
    assert found["reproducible"] is False
    assert found["audit"]["findings"] == []
    assert found["certificate"]["status"] == "verified"
    again: dict[str, Any] = json.loads(run(*command, *QUICK, "--json", "-").stdout)
    assert again == found


def test_the_certificate_says_the_same_and_an_edited_one_is_refused(
    tmp_path: Path, model: Path, folder: Path
) -> None:
    command = ("--model", model, "--images", folder, "--out", tmp_path / "out", *QUICK)
    found: dict[str, Any] = json.loads(run(*command, "--json", "-").stdout)
    path = tmp_path / "out" / "certificate.json"
    certificate = read_certificate(path.read_bytes())
    assert certificate.subject == found["plan"]["model_digest"]
    assert msgspec.to_builtins(certificate.predicate.statistics) == found["statistics"]
    assert any("plain floating point" in caveat for caveat in certificate.predicate.caveats)
    for name in ("certificate.html", "report.html"):
        assert certificate.digest in (tmp_path / "out" / name).read_text()
    payload = json.loads(path.read_bytes())["payload"]
    told = base64.b64decode(payload).replace(b'"broken":2', b'"broken":1')
    assert told != base64.b64decode(payload)
    path.write_bytes(path.read_bytes().replace(payload.encode(), base64.b64encode(told)))
    checked = run(*command, "--check")
    assert checked.exit_code == 1
    assert "refused; step 2, signature" in checked.output


def test_a_stranger_without_keys_and_state_checks_a_copy(tmp_path: Path, model: Path, folder: Path) -> None:
    command = ("--model", model, "--images", folder, *QUICK)
    assert run(*command, "--out", tmp_path / "out").exit_code == 0
    for private in ("keys", "state"):
        shutil.rmtree(tmp_path / "out" / private)
    checked = run(*command, "--out", tmp_path / "out", "--check")
    assert checked.exit_code == 0, checked.output
    assert "nothing found" in checked.output
    entries = next((tmp_path / "out" / "bundle" / "tile" / "entries").rglob("*[0-9]"))
    entries.write_bytes(entries.read_bytes().replace(b'"ok"', b'"no"'))
    assert run(*command, "--out", tmp_path / "out", "--check").exit_code != 0


def test_options_that_make_no_sense_are_usage_errors(model: Path, folder: Path, tmp_path: Path) -> None:
    command = ("--model", model, "--images", folder, "--out", tmp_path / "out")
    for arguments, said in (
        (("--set", "PERTURB_MIN_SSIM"), "expected NAME=VALUE"),
        (("--set", "PERTURB_TIMEOUT_SECONDS=3"), "an evaluation sets"),
        (("--costs-ms", "1", "1", "1", "1"), "needs --clock virtual"),
        (("--seconds", "x"), "PERTURB_TIMEOUT_SECONDS"),
        (("--attack", "none"), "one of exchange, pgd"),
    ):
        done = run(*command, *arguments)
        assert done.exit_code == 2, done.output
        assert said in done.output
    assert not (tmp_path / "out" / "state").exists()


def test_another_plan_in_the_folder_has_exit_code_3(tmp_path: Path, model: Path, folder: Path) -> None:
    command = ("--model", model, "--images", folder, "--out", tmp_path / "out", "--limit", "1")
    assert run(*command, *QUICK).exit_code == 0
    done = run(*command, *QUICK, "--set", "PERTURB_MIN_SSIM=0.99")
    assert done.exit_code == 3
    assert "rules.min_ssim is '0.98' there, '0.99' here" in done.output


def test_help_teaches() -> None:
    text = run("--help").output
    assert "safetensors" in text
    assert "the same command goes on" in text
    assert "\\b" not in text
