"""System calls that fail or never return, and power cuts: nothing acknowledged is lost or half there.

Every test counts what was injected: a wrong option would inject nothing and pass. And a control: a writer
that never flushes must lose acknowledged leaves in the same power cuts, or the cuts cut nothing.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from perturbnet.errors import PerturbError
from tests.support.ledger.faults import CALLS, ROUNDS, Disk, check_acknowledged, replay, run_writer

TRACED = f"trace={','.join(CALLS)},openat"

pytestmark = [pytest.mark.slow, pytest.mark.needs("strace")]


def count_calls(tmp_path: Path) -> dict[str, int]:
    """How often an undisturbed writer makes each call."""
    run = run_writer(tmp_path / "undisturbed", "-e", TRACED)
    assert len(run.acks) == ROUNDS
    assert check_acknowledged(tmp_path / "undisturbed", run.acks) == 7 * ROUNDS
    return {call: sum(f" {call}(" in line for line in run.trace) for call in CALLS}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", ["error=EIO", "error=ENOSPC", "signal=KILL"])
def test_every_call_that_changes_the_disk_may_fail(tmp_path: Path, fault: str) -> None:
    counts = count_calls(tmp_path)
    assert counts["pwrite64"] > 50
    assert counts["fdatasync"] + counts["fsync"] > 20
    injected = lost = 0
    for call, count in counts.items():
        for when in range(1, count + 1, max(1, count // 10)):
            folder = tmp_path / f"{call}-{when}"
            run = run_writer(folder, "-e", TRACED, "-e", f"inject={call}:{fault}:when={when}")
            injected += run.injected or any("killed by SIGKILL" in line for line in run.trace)
            lost += ROUNDS - len(run.acks)
            if run.acks or (folder / "ledger.sqlite").exists():
                check_acknowledged(folder, run.acks)
    assert injected > 30
    assert lost > 0


def cut_everywhere(tmp_path: Path, synchronous: str) -> tuple[int, int]:
    """Cut the power after every call of one run; how many cuts there were, and how many lost something."""
    run = run_writer(tmp_path / "live", "-e", TRACED, "-xx", "-s", "100000", synchronous=synchronous)
    assert len(run.acks) == ROUNDS
    root = str(tmp_path / "live")
    disk, acks, random_ = Disk(), [], random.Random(7)
    cuts = losses = 0
    for number, line in enumerate(run.trace):
        said = replay(disk, _readable(line), root)
        acks += re.findall(r"ack (\d+) (\d+) ([0-9a-f]{64})", said)
        if not any(f" {call}(" in line for call in CALLS):
            continue
        folder = tmp_path / f"cut-{number}"
        folder.mkdir()
        disk.cut(root, folder, random_)
        cuts += 1
        try:
            if acks or (folder / "ledger.sqlite").exists():
                check_acknowledged(folder, [(int(place), int(n), digest) for place, n, digest in acks])
        except (AssertionError, PerturbError):
            losses += 1
            if synchronous != "OFF":
                raise
    return cuts, losses


def _readable(line: str) -> str:
    """Names as text again; -xx writes every string in hex."""

    def text(found: re.Match[str]) -> str:
        return bytes.fromhex(found[0].replace("\\x", "")).decode()

    head, gap, data = line.partition(', "')
    if " pwrite64(" in line or " write(" in line:
        return re.sub(r"(?:\\x[0-9a-f]{2})+", text, head) + gap + data
    return re.sub(r"(?:\\x[0-9a-f]{2})+", text, line)


def test_power_cuts_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    cuts, losses = cut_everywhere(tmp_path, "FULL")
    assert cuts > 150
    assert losses == 0


def test_without_flushing_they_do(tmp_path: Path) -> None:
    """The negative control."""
    cuts, losses = cut_everywhere(tmp_path, "OFF")
    assert cuts > 75
    assert losses > 0


def test_a_small_disk_that_is_full(tmp_path: Path) -> None:
    """Every write from some call on fails for want of room; what was acknowledged before stays."""
    run = run_writer(tmp_path / "full", "-e", TRACED, "-e", "inject=pwrite64:error=ENOSPC:when=20+")
    assert run.injected > 5
    assert 0 < len(run.acks) < ROUNDS
    assert check_acknowledged(tmp_path / "full", run.acks) >= 7 * len(run.acks)
