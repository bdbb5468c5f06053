"""What `--json FILE` and `--set NAME=VALUE` mean, in every command that has them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from perturbnet.cli import main
from perturbnet.commands.given import PROFILES
from perturbnet.config import registry
from perturbnet.config.kinds import Choice


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


def test_a_file_gets_the_json_beside_what_is_printed(runner: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    done = runner.invoke(main, ["config", "show", "--set", "NETUID=7", "--json", str(file)])
    assert done.exit_code == 0, done.output
    assert "NETUID" in done.output
    rows = {row["name"]: row for row in json.loads(file.read_text())}
    assert (rows["NETUID"]["value"], rows["NETUID"]["from"]) == ("7", "command line")


def test_a_dash_prints_the_json_alone(runner: CliRunner) -> None:
    done = runner.invoke(main, ["config", "show", "--json", "-"])
    assert {row["name"] for row in json.loads(done.output)} >= {"NETUID", "NETWORK"}


def test_a_file_that_cannot_be_written_is_named(runner: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "nowhere" / "settings.json"
    done = runner.invoke(main, ["config", "show", "--json", str(file)])
    assert done.exit_code == 1
    assert f"{file} was not written: No such file or directory" in done.output


def test_a_file_that_any_command_cannot_write_is_a_sentence(runner: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    words = ["data", "list", "--profile", "reference", "--out", str(tmp_path / "file" / "list.json")]
    done = runner.invoke(main, words)
    assert (done.exit_code, done.exception.__class__) == (1, SystemExit)
    assert done.output == f"perturb: {tmp_path / 'file'}: File exists\n"


@pytest.mark.parametrize("command", [["config", "show"], ["status"], ["localnet"], ["state", "verify"]])
def test_a_pair_without_a_value_is_refused(runner: CliRunner, command: list[str]) -> None:
    done = runner.invoke(main, [*command, "--set", "NETUID"])
    assert done.exit_code == 2
    assert "--set NETUID: expected NAME=VALUE" in done.output


@pytest.mark.parametrize("part", ["0/4", "5/4", "1", "one/4", "1/", "/4"])
def test_a_part_that_is_none_is_refused(runner: CliRunner, tmp_path: Path, part: str) -> None:
    done = runner.invoke(main, ["export", "part", str(tmp_path), str(tmp_path), "--part", part])
    assert done.exit_code == 2
    assert f"{part!r}: expected I/K with I from 1 to K" in done.output


def test_profiles_are_the_settings_own() -> None:
    [kind] = [setting.kind for setting in registry() if setting.name == "PERTURB_PROFILE"]
    assert isinstance(kind, Choice)
    assert kind.words == PROFILES
