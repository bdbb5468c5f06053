"""`perturb miner bench`: real searches on the reference network, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from perturbnet.cli import main
from perturbnet.miner.expectation import Searched, summarise


def test_the_score_at_a_time_out_is_a_mean_and_none_counts_as_nothing() -> None:
    found = [Searched({2.0: 0.0, 5.0: 0.8}, 9, 1, 1, 5.0), Searched({2.0: 0.4, 5.0: 0.9}, 9, 1, 1, 5.0)]
    assert summarise(found, 2.0) == {"timeout_s": 2.0, "score": 0.2, "answered": 0.5}
    assert summarise(found, 5.0)["score"] == pytest.approx(0.85)


@pytest.mark.parametrize("seconds", ["", "1,x", "0.1,5", "5,601"])
def test_time_outs_that_cannot_be(seconds: str) -> None:
    found = CliRunner().invoke(main, ["miner", "bench", "--seconds", seconds])
    assert found.exit_code == 2
    assert "--seconds" in found.output


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 2])
def test_a_bench_of_two_challenges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setenv("PERTURB_CACHE_DIR", str(tmp_path))
    options = ["--n", "2", "--seconds", "3,6", "--profile", "reference", "--at-once", str(at_once)]
    done = CliRunner().invoke(main, ["miner", "bench", *options, "--json", str(tmp_path / "found.json")])
    assert done.exit_code == 0, done.output
    assert "score at 6 s" in done.output
    found = json.loads((tmp_path / "found.json").read_text())
    early, late = found["timeouts"]
    assert early["score"] <= late["score"] <= 1
    assert (found["challenges"], found["at_once"]) == (2, at_once)
    assert found["forward_passes"] > 0
    assert found["costs"]["verdict_s"] > 0
    assert found["peak_mib"] > 100
    assert found["peak_device_mib"] is None
