"""What `--json FILE` and `--set NAME=VALUE` mean, in every command that has them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from perturbnet.cli import main


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


@pytest.mark.parametrize("command", [["config", "show"], ["status"], ["localnet"], ["state", "verify"]])
def test_a_pair_without_a_value_is_refused(runner: CliRunner, command: list[str]) -> None:
    done = runner.invoke(main, [*command, "--set", "NETUID"])
    assert done.exit_code == 2
    assert "--set NETUID: expected NAME=VALUE" in done.output
