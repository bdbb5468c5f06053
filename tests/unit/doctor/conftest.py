"""A neuron on a local chain whose machine is what a test says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from perturbnet.chain import Chain, ChainRules, LocalChain
from perturbnet.config import Settings, load_settings
from perturbnet.doctor import CHECKS, CheckResult, Patient
from perturbnet.doctor.facts import ClockState, Machine
from perturbnet.runtime.wallets import Wallet, create_wallet

GB = 10**9
GOOD = Machine(16, 64 * GB, 4096, ClockState(synchronised=True, max_error_s=0.02))


@dataclass
class Ward:
    """Makes patients: settings over those of a registered validator (uid 0) and miner (uid 1)."""

    folder: Path
    chain: LocalChain
    wallets: dict[str, Wallet]
    machine: Machine = GOOD
    gpus: list[tuple[str, int]] = field(default_factory=list)
    free_bytes: int = 500 * GB
    connections: int = 0
    live: bool = False

    def patient(self, role: str = "validator", **more: str) -> Patient:
        environment = {
            "HOME": str(self.folder),
            "WALLET_NAME": role,
            "WALLET_HOTKEY": "default",
            "WALLET_PATH": str(self.folder / "wallets"),
            "NETUID": "1",
            "NETWORK": "ws://127.0.0.1:1" if self.live else "local",
            "PERTURB_LOCAL_CHAIN": str(self.folder / "chain.sqlite"),
            "PERTURB_STATE_DIR": str(self.folder / "state"),
            "PERTURB_CACHE_DIR": str(self.folder / "cache"),
            "PERTURB_METRICS_PORT": "0",
            **more,
        }
        return Patient(
            load_settings(environment),
            role,  # type: ignore[arg-type]
            machine=lambda: self.machine,
            free_bytes=lambda _: self.free_bytes,
            gpus=lambda: self.gpus,
            connect=self._connect,
        )

    def find(self, name: str, role: str = "validator", **more: str) -> CheckResult:
        """What one check finds."""
        check = next(check for check in CHECKS if check.name == name)
        return check.examine(self.patient(role, **more))

    def _connect(self, _: Settings) -> Chain:
        self.connections += 1
        return self.chain


@pytest.fixture
def ward(tmp_path: Path) -> Ward:
    rules = ChainRules(commit_reveal_enabled=True, tempo=100, reveal_period_epochs=1, weights_version=2)
    chain = LocalChain.create(tmp_path / "chain.sqlite", netuid=1, rules=rules, block_time_ms=0)
    wallets = {
        role: create_wallet(tmp_path / "wallets", role, "default", seed=role)
        for role in ("validator", "miner")
    }
    for number, wallet in enumerate(wallets.values()):
        stake = 10**12 if number == 0 else 0
        asyncio.run(chain.register(wallet.hotkey.ss58_address, wallet.coldkey_ss58, stake))
    return Ward(tmp_path, chain, wallets)


def bigger(machine: Machine, **values: object) -> Machine:
    """The same machine but for these."""
    return replace(machine, **values)  # type: ignore[arg-type]
