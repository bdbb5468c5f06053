"""A certificate's way on a local network: issued, recorded by the running validator, anchored, verified."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perturbnet.localnet.network import LocalnetPlan, LocalNetwork
from perturbnet.transparency.bundle import open_bundle

PERTURB = [sys.executable, "-m", "perturbnet.cli"]
WITHIN_S = 120.0


def wait_for(what: Callable[[], Any], within_s: float = WITHIN_S) -> Any:
    """What it says once it says something."""
    ends_s = time.monotonic() + within_s
    while not (found := what()):
        assert time.monotonic() < ends_s, "too slow"
        time.sleep(0.5)
    return found


def size_of(bundle: Path) -> int:
    if not (bundle / "checkpoint").exists():
        return 0
    with open_bundle(bundle) as opened:
        return opened.size


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_certificate_is_followed_to_the_block(tmp_path: Path, cache_dir: Path) -> None:
    plan = LocalnetPlan(tmp_path / "net", miners=2, rounds=10_000, seed="certified", cache_dir=cache_dir)
    network = LocalNetwork(plan)
    bundle = network.bundle
    settings = {
        **os.environ,
        "PERTURB_STATE_DIR": str(network.state_dir),
        "NETWORK": "local",
        "NETUID": "1",
        "PERTURB_LOCAL_CHAIN": str(network.chain_path),
    }

    def perturb(*command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PERTURB, *map(str, command)], env=settings, capture_output=True, text=True, check=False
        )

    def verify(*options: str) -> tuple[int, dict[str, Any]]:
        done = perturb("certificate", "verify", file, "--bundle", bundle, "--json", "-", *options)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    file = tmp_path / "certificate.json"
    with network:
        asyncio.run(network.create())
        network.start_miners()
        wait_for(lambda: all(map(network.started, network.members[1:])))
        network.start_validator()
        wait_for(lambda: size_of(bundle) > 20)
        issued = perturb("certify", bundle, "--out", file, "--wait", "60")
        assert issued.returncode == 0, issued.stderr
        assert "by the running validator" in issued.stdout
        code, found = wait_for(lambda: (done := verify("--anchors", "chain"))[0] == 0 and done)
    assert (code, found["status"]) == (0, "verified"), found
    assert "is on chain since block" in found["steps"][-1]["text"]
    code, found = verify()
    assert (code, found["status"]) == (1, "incomplete")
    assert "no anchor" in found["steps"][-1]["text"]
