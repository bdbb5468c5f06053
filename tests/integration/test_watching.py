"""A real validator while it runs: what it shows on loopback, and what `perturb status` makes of it."""

from __future__ import annotations

import asyncio
import http.client
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from perturbnet.localnet.network import LocalnetPlan, LocalNetwork
from perturbnet.overview import LiveFeed, Overview
from perturbnet.overview.feeds import NotRunning

PERTURB = [sys.executable, "-m", "perturbnet.cli"]
PATIENCE_S = 120.0


def wait_for_round(feed: LiveFeed, network: LocalNetwork) -> Overview:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        network.check_alive()
        try:
            overview = feed.read()
        except NotRunning:
            overview = None
        if overview is not None and overview.last_round is not None:
            return overview
        time.sleep(0.2)
    raise AssertionError("no round closed in time")


@pytest.mark.slow
def test_a_running_validator_can_be_looked_at(tmp_path: Path, cache_dir: Path) -> None:
    overrides = {"PERTURB_QUERY_INTERVAL_SECONDS": "5"}
    plan = LocalnetPlan(
        tmp_path / "net", miners=1, rounds=100, seed="eyes", cache_dir=cache_dir, overrides=overrides
    )
    network = LocalNetwork(plan)
    with network:
        chain = asyncio.run(network.create())
        network.start_miners()
        while not network.miners_started():
            network.check_alive()
            time.sleep(0.2)
        network.start_validator()
        port = int(network.validator.environment["PERTURB_METRICS_PORT"])
        overview = wait_for_round(LiveFeed(port, network.state_dir), network)
        assert overview.hotkey == network.validator.wallet.hotkey.ss58_address
        assert {found.name: found.ok for found in overview.health}["chain"]
        done = subprocess.run(
            [*PERTURB, "status", "--json", "-"],
            env=network.validator.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert json.loads(done.stdout)["leaves"] >= overview.leaves
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        found = {family.name: family for family in text_string_to_metric_families(text)}
        assert found["perturb_validator_rounds"].samples[0].value >= 1
        assert any(
            sample.labels == {"call": "metagraph", "le": "+Inf"} and sample.value >= 1
            for sample in found["perturb_validator_chain_call_seconds"].samples
        )
    asyncio.run(chain.close())
    with pytest.raises(NotRunning):
        LiveFeed(port, network.state_dir).read()
