"""The local network's parts and processes: made in one folder, started, watched, stopped.

FOLDER/chain.sqlite          the chain
FOLDER/wallets/              throw-away wallets
FOLDER/validator/            the validator's state: ledger, blobs
FOLDER/bundle/               its published log, which anybody can audit
FOLDER/miner-N/              each miner's state: its answers, and their signed acknowledgements
FOLDER/logs/NAME.log         what each process said
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Self

from perturbnet.chain import ChainRules, LocalChain
from perturbnet.config import PREFIX, registry
from perturbnet.errors import PerturbError
from perturbnet.localnet.hostile import EXPECTED
from perturbnet.runtime.wallets import Wallet, create_wallet

NETUID = 1
VALIDATOR_STAKE_RAO = 10**15
RULES = ChainRules(tempo=6, weights_rate_limit=4, serving_rate_limit=0, immunity_period=100_000)
BLOCK_TIME_MS = 500
ROUND_CLOSED = re.compile(r"validator: Round (\d+) closed")
HONEST = "honest"


@dataclass(frozen=True)
class LocalnetPlan:
    """What kind of network: `miners` in all, the last six of them (if there are so many) bad on purpose."""

    folder: Path
    miners: int = 8
    rounds: int = 6
    profile: str = "reference"
    seed: str | None = None
    cache_dir: Path = Path("~/.cache/perturb")
    overrides: Mapping[str, str] = field(default_factory=dict)

    @property
    def kinds(self) -> list[str]:
        """The kind of each miner, in order of uid: honest ones first."""
        bad = list(EXPECTED)[: max(0, self.miners - 1)]
        return [HONEST] * (self.miners - len(bad)) + bad

    def shortened(self) -> dict[str, str]:
        """The settings that a local network runs with instead of the defaults."""
        history = str(max(1, min(3, self.rounds)))
        short = {
            "PERTURB_TIMEOUT_SECONDS": "3" if self.profile == "reference" else "60",
            "PERTURB_QUERY_INTERVAL_SECONDS": "0",
            "PERTURB_CHALLENGE_RETRY_DELAY_SECONDS": "1",
            "PERTURB_HISTORY_SIZE": history,
            "PERTURB_MIN_PROCESSED_COUNT": history,
        }
        return {**short, **self.overrides}


@dataclass
class NetworkProcess:
    """One process: a validator or a miner."""

    name: str
    kind: str
    wallet: Wallet
    command: list[str]
    environment: dict[str, str]
    uid: int = -1
    process: subprocess.Popen[bytes] | None = None


class LocalNetwork:
    """Starts everything on entering, stops everything on leaving."""

    def __init__(self, plan: LocalnetPlan) -> None:
        """Plan only; nothing is made yet."""
        self.plan = plan
        self.chain_path = plan.folder / "chain.sqlite"
        self.members: list[NetworkProcess] = []
        self._open = ExitStack()

    @property
    def validator(self) -> NetworkProcess:
        """The validator's process."""
        return self.members[0]

    @property
    def state_dir(self) -> Path:
        """The validator's state."""
        return self.plan.folder / "validator"

    @property
    def bundle(self) -> Path:
        """The validator's published log."""
        return self.plan.folder / "bundle"

    async def create(self) -> LocalChain:
        """Make chain and wallets, and register everybody."""
        plan = self.plan
        plan.folder.mkdir(parents=True, exist_ok=True)
        (plan.folder / "logs").mkdir(exist_ok=True)
        chain = LocalChain.create(self.chain_path, NETUID, rules=RULES, block_time_ms=BLOCK_TIME_MS)
        shown_at, *ports = free_ports(plan.miners + 1)
        self.members = [self._member("validator", "validator", ["-m", "neurons.validator"], shown_at)]
        for number, (kind, port) in enumerate(zip(plan.kinds, ports, strict=True), 1):
            module = (
                ["-m", "neurons.miner"] if kind == HONEST else ["-m", "perturbnet.localnet.hostile", kind]
            )
            self.members.append(self._member(f"miner-{number}", kind, module, port))
        for member in self.members:
            stake = VALIDATOR_STAKE_RAO if member is self.validator else 0
            member.uid = await chain.register(
                member.wallet.hotkey.ss58_address, member.wallet.coldkey_ss58, stake
            )
        return chain

    def start_miners(self) -> None:
        """Start every miner."""
        for member in self.members[1:]:
            self._start(member)

    def start_validator(self) -> None:
        """Start the validator, or start it again."""
        self._start(self.validator)

    def rounds_closed(self) -> int:
        """How many rounds the validator has said are closed, over all its starts."""
        text = (
            self._log(self.validator).read_text(errors="replace")
            if self._log(self.validator).exists()
            else ""
        )
        return len(set(ROUND_CLOSED.findall(text)))

    def miners_started(self) -> int:
        """How many miners have said that they serve."""
        return sum(self.started(member) for member in self.members[1:])

    def started(self, member: NetworkProcess) -> bool:
        """Whether a miner has said that it serves."""
        text = self._log(member).read_text(errors="replace") if self._log(member).exists() else ""
        return "Waiting for validator queries" in text or "serves at port" in text

    def check_alive(self) -> None:
        """Raise if a process ended that should not have.

        Raises:
            PerturbError: naming it, with the last lines of its log.

        """
        for member in self.members:
            code = member.process.poll() if member.process else None
            if code not in (None, 0):
                lines = self._log(member).read_text(errors="replace").strip().splitlines()[-6:]
                raise PerturbError(f"{member.name} ended with code {code}", hint="\n".join(lines))

    def stop(self, *, patience_s: float = 5.0) -> None:
        """SIGTERM to everybody, SIGKILL to who is left."""
        running = [
            member.process for member in self.members if member.process and member.process.poll() is None
        ]
        for process in running:
            process.send_signal(signal.SIGTERM)
        until = time.monotonic() + patience_s
        for process in running:
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._open.close()

    def __enter__(self) -> Self:
        """Return the network itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everybody."""
        self.stop()

    def _member(self, name: str, kind: str, command: list[str], port: int) -> NetworkProcess:
        plan = self.plan
        wallets = plan.folder / "wallets"
        wallet = create_wallet(wallets, name, "default", seed=f"{plan.seed}/{name}" if plan.seed else None)
        environment = {
            **_inherited(),
            **plan.shortened(),
            "WALLET_NAME": name,
            "WALLET_HOTKEY": "default",
            "WALLET_PATH": str(wallets),
            "NETUID": str(NETUID),
            "NETWORK": "local",
            "LOG_LEVEL": "INFO",
            "PERTURB_LOG_FORMAT": "text",
            "PERTURB_LOCAL_CHAIN": str(self.chain_path),
            "PERTURB_PROFILE": plan.profile,
            "PERTURB_STATE_DIR": str(plan.folder / name),
            "PERTURB_CACHE_DIR": str(plan.cache_dir.expanduser()),
            "PERTURB_DEVICE": "cpu",
        }
        if name == "validator":
            environment["PERTURB_MAX_ROUNDS"] = str(plan.rounds)
            environment.setdefault("PERTURB_METRICS_PORT", str(port))
            environment |= {
                "PERTURB_PUBLISH_TO": str(self.bundle),
                "PERTURB_PUBLISH_DELAY_BLOCKS": "0",  # a network of an hour has nothing to hold back
                "PERTURB_ANCHOR_INTERVAL_BLOCKS": "1",
            }
            if plan.seed:
                environment["PERTURB_SECRET_SEED"] = plan.seed
        else:
            environment |= {"PERTURB_AXON_PORT": str(port), "PERTURB_AXON_BIND": "127.0.0.1"}
            environment["PERTURB_METRICS_PORT"] = "0"
        return NetworkProcess(name, kind, wallet, [sys.executable, *command], environment)

    def _start(self, member: NetworkProcess) -> None:
        log: BinaryIO = self._open.enter_context(self._log(member).open("ab"))
        member.process = subprocess.Popen(
            member.command, env=member.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )

    def _log(self, member: NetworkProcess) -> Path:
        return self.plan.folder / "logs" / f"{member.name}.log"


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for bound in sockets:
            bound.bind(("127.0.0.1", 0))
        return [int(bound.getsockname()[1]) for bound in sockets]


def _inherited() -> dict[str, str]:
    """Return the environment without settings of ours; one thread of arithmetic for each process."""
    ours = {setting.name for setting in registry()}
    kept = {
        name: text for name, text in os.environ.items() if name not in ours and not name.startswith(PREFIX)
    }
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
