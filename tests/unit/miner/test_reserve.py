"""What is left to search in, said with its numbers."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner

from perturbnet.cli import main
from perturbnet.config import load_settings
from perturbnet.miner.reserve import TimeToSearch


def time(timeout_s: str, reserve_s: str) -> TimeToSearch:
    values = {"PERTURB_TIMEOUT_SECONDS": timeout_s, "PERTURB_ANSWER_RESERVE_SECONDS": reserve_s}
    return TimeToSearch.of(load_settings(values).settings)


def test_the_defaults_leave_nineteen_seconds() -> None:
    usual = TimeToSearch.of(load_settings({}).settings)
    assert (usual.left_s, usual.none, usual.little) == (Decimal(19), False, False)
    assert str(usual) == (
        "of a time-out of 20 s (PERTURB_TIMEOUT_SECONDS) a miner keeps 1 s (PERTURB_ANSWER_RESERVE_SECONDS) "
        "to send: 19 s to search"
    )


@pytest.mark.parametrize(
    ("timeout_s", "reserve_s", "none", "little"),
    [("1", "1", True, True), ("0.5", "1", True, True), ("1.5", "1", False, True), ("2", "1", False, False)],
)
def test_none_and_little(timeout_s: str, reserve_s: str, none: bool, little: bool) -> None:
    found = time(timeout_s, reserve_s)
    assert (found.none, found.little) == (none, little)
    assert ("it never searches, and every answer is empty" in str(found)) is none


def test_a_local_network_in_which_nobody_could_search_is_refused(tmp_path: Path) -> None:
    words = ["localnet", "--keep", str(tmp_path / "net"), "--set", "PERTURB_TIMEOUT_SECONDS=1"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2
    said = "more than 1 s (PERTURB_ANSWER_RESERVE_SECONDS), or no miner searches"
    assert said in done.output.replace("\n", " ")
    assert not (tmp_path / "net" / "chain.sqlite").exists()
