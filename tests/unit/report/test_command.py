"""`perturb report`: what it prints, what it writes, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from perturbnet.certificate.issuing import issue_certificate
from perturbnet.cli import main
from perturbnet.transparency.bundle import open_bundle
from tests.support.auditing.honest import LOG_KEY, Honest
from tests.support.auditing.published import OTHER_KEY, publish


def run(tmp_path: Path, *arguments: object, command: tuple[str, ...] = ("report",)) -> Result:
    environment = {"PERTURB_CACHE_DIR": str(tmp_path / "cache"), "PERTURB_PROFILE": "imagenet100"}
    return CliRunner().invoke(main, [*command, *map(str, arguments)], env=environment)


def test_it_writes_one_page_and_says_what_is_in_it(bundle: Path, tmp_path: Path) -> None:
    out, numbers = tmp_path / "report.html", tmp_path / "report.json"
    done = run(tmp_path, bundle, out, "--json", numbers)
    assert done.exit_code == 0, done.output
    page = out.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    found = json.loads(numbers.read_text(encoding="utf-8"))["statistics"]
    assert f"{found['images']:,}, of which {found['broken']:,} were broken" in done.stdout
    assert f"{out.stat().st_size:,} bytes" in done.stdout
    assert "perturb bootstrap" in done.stderr  # why there are no pictures
    assert str(tmp_path) not in page  # a path of this machine is nobody else's business


def test_json_alone_goes_to_stdout(bundle: Path, tmp_path: Path) -> None:
    done = run(tmp_path, bundle, tmp_path / "report.html", "--json", "-")
    assert json.loads(done.stdout)["log"]["place"] == "BUNDLE"
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--until", "2"], 1, "no challenge"),
        (["--since", "100000"], 1, "leaves from 100000"),
        (["--model", "ab"], 1, "no complete round of the model ab"),
        (["--pictures", "25"], 2, "25"),
    ],
)
def test_what_cannot_be_is_refused(
    bundle: Path, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    done = run(tmp_path, bundle, tmp_path / "report.html", *arguments)
    assert done.exit_code == code
    assert said in done.stderr
    assert not (tmp_path / "report.html").exists()


def test_a_log_that_is_not_what_it_was_signed_as_leaves_no_page(honest: Honest, tmp_path: Path) -> None:
    folder = publish(honest.leaves(), tmp_path / "log", honest.blobs.folder, key=OTHER_KEY)
    done = run(tmp_path, folder, tmp_path / "report.html")
    assert done.exit_code in {1, 3}
    assert "sign" in done.stderr
    assert not (tmp_path / "report.html").exists()


def test_no_log_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, tmp_path / "nothing", tmp_path / "report.html")
    assert done.exit_code == 3
    assert str(tmp_path / "nothing") in done.stderr


def test_a_certificate_becomes_a_page_and_is_named_on_a_report(bundle: Path, tmp_path: Path) -> None:
    with open_bundle(bundle) as opened:
        made = issue_certificate(opened, LOG_KEY, issued_ms=0)
    file, page = tmp_path / "certificate.json", tmp_path / "page.html"
    file.write_bytes(made.data)
    done = run(tmp_path, file, page, command=("certificate", "render"))
    assert done.exit_code == 0, done.output
    assert made.digest in page.read_text(encoding="utf-8")
    done = run(tmp_path, bundle, page, "--certificate", file)
    assert done.exit_code == 0, done.output
    assert "A certificate of these very leaves" in page.read_text(encoding="utf-8")


def test_what_is_no_certificate_gets_no_page(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"{}")
    for arguments, command in (
        ((tmp_path / "file", tmp_path / "page.html"), ("certificate", "render")),
        ((bundle, tmp_path / "page.html", "--certificate", tmp_path / "file"), ("report",)),
        ((bundle, tmp_path / "page.html", "--certificate", tmp_path / "none"), ("report",)),
    ):
        done = run(tmp_path, *arguments, command=command)
        assert done.exit_code == 1
        assert not (tmp_path / "page.html").exists()
