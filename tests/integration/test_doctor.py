"""`perturb doctor` on a node that was really prepared: nothing is bad, for a validator and for a miner."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from perturbnet.chain import LocalChain
from perturbnet.runtime.wallets import create_wallet


@pytest.mark.parametrize("role", ["validator", "miner"])
def test_a_prepared_node_is_ready(role: str, tmp_path: Path, cache_dir: Path) -> None:
    chain = LocalChain.create(tmp_path / "chain.sqlite", netuid=1, block_time_ms=0)
    wallet = create_wallet(tmp_path / "wallets", role, "default", seed=role)
    asyncio.run(chain.register(wallet.hotkey.ss58_address, wallet.coldkey_ss58, 10**12))
    values = {
        "NETWORK": "local",
        "NETUID": "1",
        "WALLET_NAME": role,
        "WALLET_HOTKEY": "default",
        "WALLET_PATH": tmp_path / "wallets",
        "PERTURB_LOCAL_CHAIN": tmp_path / "chain.sqlite",
        "PERTURB_STATE_DIR": tmp_path / "state",
        "PERTURB_CACHE_DIR": cache_dir,
        "PERTURB_PROFILE": "reference",
        "PERTURB_DEVICE": "cpu",
        "PERTURB_METRICS_PORT": "0",
        "PERTURB_AXON_BIND": "127.0.0.1",
        "PERTURB_AXON_PORT": "18191",
    }
    pairs = [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "perturbnet.cli", "doctor", role, "--json", "-", *pairs]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    rows = {row["check"]: row for row in json.loads(done.stdout)}
    assert {name for name, row in rows.items() if row["outcome"] == "bad"} - {"disk"} == set(), rows
    assert rows["model"]["outcome"] == "ok"
    assert rows["manifest"]["found"].startswith("reference, protocol fingerprint ")
    if role == "validator":
        assert "16 drawn at random are right" in rows["data"]["found"]
