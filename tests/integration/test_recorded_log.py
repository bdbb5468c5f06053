"""The published log of a demo, recorded once: whatever changes inside, it audits as it did, byte for byte.

The files are in `tests/golden/demo` (`tests.golden.make_demo` says how they were made). They are read by
the command line only, but for the encoding of leaves, so a test that fails here names a change that strangers
see.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from perturbnet.ledger.leaves import decode_leaf
from perturbnet.transparency.bundle import open_bundle
from tests.golden.make_demo import FOLDER

BUNDLE = FOLDER / "bundle"
REPORT: dict[str, Any] = json.loads((FOLDER / "audit.json").read_text())
HOTKEY = REPORT["plan"]["origin"].rsplit("/", 1)[1]
MINERS = ("miner-1", "miner-2")


def audit(*words: str | Path) -> Any:
    """What `perturb audit` prints as JSON; it must find nothing."""
    command = [sys.executable, "-m", "perturbnet.cli", "audit", *map(str, words), "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_every_leaf_encodes_to_the_bytes_it_was_read_from() -> None:
    with open_bundle(BUNDLE) as bundle:
        leaves = list(bundle.leaf_bytes())
    assert len(leaves) == REPORT["plan"]["size"]
    assert [decode_leaf(data).encode() for data in leaves] == leaves


def test_the_log_is_audited_as_it_was(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERTURB_CACHE_DIR", str(cache_dir))
    who = ("--hotkey", HOTKEY, "--netuid", "1", "--profile", "reference")
    report = audit("bundle", BUNDLE, *who, "--anchors", FOLDER / "anchors.json")
    assert {**report, "seconds": 0} == {**REPORT, "seconds": 0}


@pytest.mark.parametrize("miner", MINERS)
def test_every_acknowledgement_is_kept_and_every_answer_is_judged_the_same(
    miner: str, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERTURB_CACHE_DIR", str(cache_dir))
    acknowledgements, answers = FOLDER / miner / "acknowledgements.jsonl", FOLDER / miner / "answers"
    again = ("--netuid", "1", "--answers", answers, "--profile", "reference")
    outcomes = audit("receipt", acknowledgements, BUNDLE, *again)
    assert len(outcomes) == len(acknowledgements.read_bytes().splitlines()) == 8
    assert [outcome["findings"] for outcome in outcomes] == [[]] * len(outcomes)
