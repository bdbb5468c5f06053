"""`perturb status` and `perturb web --help`: what an operator types, and what comes back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from perturbnet.cli import main
from perturbnet.overview import HealthView, encode_overview
from perturbnet.telemetry import Loopback, new_registry
from tests.support.auditing.honest import live
from tests.support.auditing.published import publish_honest
from tests.support.overview.samples import HOSTILE, OVERVIEW


def status(*words: str, **environment: str) -> Result:
    return CliRunner().invoke(main, ["status", *words], env=environment)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("status")
    return publish_honest(live(folder), folder / "bundle")


def test_a_published_log(bundle: Path, tmp_path: Path) -> None:
    done = status(str(bundle), "--json", str(tmp_path / "out.json"))
    assert done.exit_code == 0, done.output
    assert "published log in" in done.output
    written = json.loads((tmp_path / "out.json").read_text())
    printed = json.loads(status(str(bundle), "--json", "-").stdout)
    for found in (written, printed):
        found["made_ms"] = 0
    assert written == printed
    assert written["rounds"] > 0


def test_no_log_there(tmp_path: Path) -> None:
    done = status(str(tmp_path))
    assert (done.exit_code, "checkpoint" in done.output) == (3, True)


@pytest.mark.parametrize(("ok", "code"), [(True, 0), (False, 1)])
def test_a_running_validator(tmp_path: Path, ok: bool, code: int) -> None:
    health = (HealthView("chain", ok=ok, found="answered 5 s ago"),)
    overview = replace(OVERVIEW, place=str(tmp_path), health=health)
    shown = Loopback(new_registry("validator"), {"/overview.json": lambda: encode_overview(overview)})
    assert shown.start(0)
    named = {"PERTURB_METRICS_PORT": str(shown.port), "PERTURB_STATE_DIR": str(tmp_path)}
    try:
        done = status(**named)
        assert done.exit_code == code
        assert "running, state in" in done.output
        pairs = [word for name, text in named.items() for word in ("--set", f"{name}={text}")]
        assert status(*pairs).exit_code == code
    finally:
        shown.close()
    done = status(**named)
    assert (done.exit_code, "no validator answers" in done.output) == (1, True)
    assert "perturb validator run" in done.output


def test_a_strangers_text_stays_text_on_a_terminal(tmp_path: Path) -> None:
    overview = replace(OVERVIEW, place=str(tmp_path), hotkey=HOSTILE)
    shown = Loopback(new_registry("validator"), {"/overview.json": lambda: encode_overview(overview)})
    assert shown.start(0)
    try:
        named = {"PERTURB_METRICS_PORT": str(shown.port), "PERTURB_STATE_DIR": str(tmp_path)}
        assert "\x1b" not in status(**named).output
        assert json.loads(status("--json", "-", **named).stdout)["hotkey"] == HOSTILE
    finally:
        shown.close()


@pytest.mark.parametrize("command", ["status", "web", "doctor"])
def test_help_teaches(command: str) -> None:
    done = CliRunner().invoke(main, [command, "--help"])
    assert done.exit_code == 0
    assert f"perturb {command}" in done.output


def test_an_argument_that_is_none() -> None:
    done = status("--set", "PERTURB_METRICS_PORT")
    assert (done.exit_code, "NAME=VALUE" in done.output) == (2, True)
