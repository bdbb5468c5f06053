"""The whole network as real processes: what `make demo` shows, and what kill -9 must not break."""

from __future__ import annotations

import asyncio
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perturbnet.errors import Reject
from perturbnet.ledger import Entry, LedgerStore, fold
from perturbnet.ledger.journal import LEDGER_FILE
from perturbnet.ledger.leaves import ChallengeLeaf, ReceiptLeaf, SkipLeaf
from perturbnet.localnet.hostile import EXPECTED
from perturbnet.localnet.network import LocalnetPlan, LocalNetwork

PERTURB = [sys.executable, "-m", "perturbnet.cli"]
KILLS = 20
Demo = tuple[dict[str, Any], Path, str]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Demo:
    """One run of the demo, of half the rounds; the tests below look at it from several sides."""
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [
            *PERTURB,
            "localnet",
            "--keep",
            folder / "net",
            "--json",
            folder / "out.json",
            "--seed",
            "a demo",
            "--rounds",
            "4",
            "--set",
            f"PERTURB_CACHE_DIR={cache_dir}",
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "out.json").read_text()), folder / "net", done.stdout


def test_the_demo_ends_with_weights_and_a_contact_sheet(demo: Demo) -> None:
    outcome, folder, printed = demo
    assert outcome["weights_set"]
    assert (folder / "contact-sheet.png").read_bytes().startswith(b"\x89PNG")
    assert "Shortened for this run" in printed
    assert sum(miner["weight"] for miner in outcome["miners"]) == pytest.approx(1)


def test_the_demo_audits_its_own_log_and_its_miners_acknowledgements(demo: Demo) -> None:
    outcome, folder, printed = demo
    audit = outcome["audit"]
    assert audit["passed"], audit["findings"]
    assert audit["checked"]["anchors"] >= 1
    assert audit["checked"]["labels recomputed"] >= outcome["rounds"]
    assert "draws whose segment's key is not public yet" in audit["unchecked"]
    assert "Audit          nothing found: " in printed
    assert (folder / "bundle" / "checkpoint").is_file()


def test_every_bad_miner_has_its_reject_code_and_no_weight(demo: Demo) -> None:
    outcome, _, _ = demo
    bad = {miner["kind"]: miner for miner in outcome["miners"] if miner["kind"] in EXPECTED}
    assert set(bad) == set(EXPECTED)
    for kind, miner in bad.items():
        assert miner["weight"] == 0, kind
        assert miner["rejects"] == {EXPECTED[kind].value: outcome["rounds"]}, kind


def test_every_good_miner_earns_more_than_0_6_on_average(demo: Demo) -> None:
    outcome, _, _ = demo
    good = [miner for miner in outcome["miners"] if miner["kind"] not in EXPECTED]
    assert len(good) >= 2
    assert all(miner["mean_score"] > 0.6 for miner in good), good


def test_the_logs_say_what_operators_look_for(demo: Demo) -> None:
    _, folder, _ = demo
    validator = (folder / "logs" / "validator.log").read_text()
    miner = (folder / "logs" / "miner-1.log").read_text()
    for wanted in (
        "Challenge 0-0: row",
        "Selected 8 miners",
        "bad_signature",
        "set_weights: committed at block",
    ):
        assert wanted in validator, wanted
    for wanted in ("Serving miner axon", "Miner started. Waiting for validator queries.", "judged 0-0: ok"):
        assert wanted in miner, wanted


def test_state_is_rebuilt_from_the_leaves_alone(demo: Demo) -> None:
    outcome, folder, _ = demo
    state = fold(read(folder / "validator"))
    assert state.rounds == outcome["rounds"]
    assert state.open_round is None


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_kill_9_loses_nothing_and_repeats_nothing(tmp_path: Path, cache_dir: Path) -> None:
    """20 kills at random moments: every leaf seen stays, acknowledged receipts too; no image comes twice."""
    dice = random.Random(20)
    plan = LocalnetPlan(
        tmp_path / "net",
        miners=3,
        rounds=10_000,
        seed="kill",
        cache_dir=cache_dir,
        overrides={"PERTURB_TIMEOUT_SECONDS": "3"},
    )
    seen: list[str] = []
    in_the_middle = 0
    with LocalNetwork(plan) as network:
        asyncio.run(network.create())
        network.start_miners()
        wait_for(lambda: all(map(network.started, network.members[1:])), 120)
        for _ in range(KILLS):
            network.start_validator()
            wait_for_another_round(network)
            time.sleep(dice.uniform(0.0, 3.0))
            kill_9(network)
            entries = read_copy(network.state_dir, tmp_path / "copy")
            assert [entry.hash for entry in entries[: len(seen)]] == seen
            seen = [entry.hash for entry in entries]
            in_the_middle += fold(entries).open_round is not None
        network.validator.environment["PERTURB_MAX_ROUNDS"] = str(network.rounds_closed() + 2)
        network.start_validator()
        assert network.validator.process is not None
        assert network.validator.process.wait(120) == 0
        acknowledged = acknowledged_leaves(plan.folder / "logs" / "miner-1.log")
    entries = read(network.state_dir)
    check_history(entries, acknowledged)
    assert in_the_middle >= KILLS // 4, "too few kills hit an open round for this test to mean anything"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_both_neurons_cleanly_within_five_seconds(
    tmp_path: Path, cache_dir: Path, number: signal.Signals
) -> None:
    plan = LocalnetPlan(tmp_path / "net", miners=1, rounds=1000, cache_dir=cache_dir)
    with LocalNetwork(plan) as network:
        asyncio.run(network.create())
        network.start_miners()
        wait_for(lambda: all(map(network.started, network.members[1:])), 120)
        network.start_validator()
        wait_for(lambda: network.rounds_closed() >= 1, 120)
        for member in network.members:
            assert member.process is not None
            started_s = time.monotonic()
            member.process.send_signal(number)
            assert member.process.wait(5) == 0
            assert time.monotonic() - started_s < 5
    assert "Validator ended" in (plan.folder / "logs" / "validator.log").read_text()


def check_history(entries: list[Entry], acknowledged: set[str]) -> None:
    challenges = [entry.leaf for entry in entries if isinstance(entry.leaf, ChallengeLeaf)]
    skips = [entry.leaf for entry in entries if isinstance(entry.leaf, SkipLeaf)]
    rows = [leaf.row for leaf in challenges] + [leaf.row for leaf in skips]
    assert len(rows) == len(set(rows)), "an image came twice in an epoch"
    draws = sorted([leaf.draw for leaf in challenges] + [leaf.draw for leaf in skips])
    assert draws == list(range(len(draws))), "a draw is missing"
    receipts = {entry.hash for entry in entries if isinstance(entry.leaf, ReceiptLeaf)}
    assert acknowledged, "no acknowledgement reached the miner: the test shows nothing"
    assert {leaf for leaf in acknowledged if not any(hash_.startswith(leaf) for hash_ in receipts)} == set()
    codes = {entry.leaf.reject for entry in entries if isinstance(entry.leaf, ReceiptLeaf)}
    assert Reject.OK.value in codes


def acknowledged_leaves(log: Path) -> set[str]:
    return set(re.findall(r"judged .* leaf ([0-9a-f]{16})", log.read_text()))


def read(state_dir: Path) -> list[Entry]:
    with LedgerStore(state_dir / LEDGER_FILE) as store:
        return list(store.entries())


def read_copy(state_dir: Path, folder: Path) -> list[Entry]:
    """Read a copy, so that the killed validator itself is the one that recovers the original."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in state_dir.glob(f"{LEDGER_FILE}*"):
        shutil.copy(path, folder)
    return read(folder)


def kill_9(network: LocalNetwork) -> None:
    process = network.validator.process
    assert process is not None
    process.kill()
    process.wait()


def wait_for_another_round(network: LocalNetwork) -> None:
    before = network.rounds_closed()
    wait_for(lambda: network.rounds_closed() > before, 120)


def wait_for(done: Callable[[], bool], patience_s: float) -> None:
    until = time.monotonic() + patience_s
    while not done():
        assert time.monotonic() < until, "nothing happened in time"
        time.sleep(0.05)
