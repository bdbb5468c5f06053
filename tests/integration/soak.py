"""A validator for many rounds among hostile miners, on a chain that fails, killed again and again.

    python -m tests.integration.soak FOLDER [--rounds 750] [--calm 250] [--miners 20] [--hostile 8]
                                     [--kill-every 30] [--faults 0.05]

The last `calm` rounds are run without kills, so that one process is old enough for its memory to be measured.
What must hold: no record is lost at a kill, a round is closed at least every PATIENCE_S, what `soak_checks`
asks of what is left behind, and `soak_memory` of the processes. Numbers come out as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from perturbnet.chain import ChainRules, LocalChain
from perturbnet.ledger.journal import LEDGER_FILE
from perturbnet.localnet.network import free_ports
from perturbnet.runtime.wallets import create_wallet
from tests.integration.soak_checks import check_all, folded, read
from tests.integration.soak_memory import Memory
from tests.integration.soak_plan import Outcome, Plan
from tests.support.fakes import NETUID, keypair

RULES = ChainRules(tempo=20, weights_rate_limit=5, serving_rate_limit=0, immunity_period=10**6)
BLOCK_TIME_MS = 250
PATIENCE_S = 180.0
POLL_S = 0.1
CLOSED = re.compile(rb"validator: Round (\d+) closed")
STARTED = re.compile(rb"validator: Validator \S+ started")


class Soak:
    """The processes, and what they have left behind so far."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.outcome, self.memory = plan, Outcome(), Memory()
        self.seen: list[str] = []
        self.state, self.log = plan.folder / "state", plan.folder / "validator.log"
        self.validator: subprocess.Popen[bytes] | None = None
        self._starts_before = 0

    async def create(self) -> str:
        """Make the chain, register everybody; returns the validator's hotkey."""
        plan = self.plan
        plan.folder.mkdir(parents=True, exist_ok=True)
        chain = LocalChain.create(
            plan.folder / "chain.sqlite", NETUID, rules=RULES, block_time_ms=BLOCK_TIME_MS
        )
        wallet = create_wallet(plan.folder / "wallets", "validator", "default", seed="soak")
        await chain.register(wallet.hotkey.ss58_address, wallet.coldkey_ss58, 10**15)
        ports = free_ports(plan.miners)
        for seed, port in enumerate(ports, 2):
            key = keypair(seed)
            await chain.register(key.ss58_address, keypair(seed + 1000).ss58_address)
            await chain.serve(key, "127.0.0.1", port)
        listed = [
            [seed, port, kind] for seed, (port, kind) in enumerate(zip(ports, plan.kinds, strict=True), 2)
        ]
        (plan.folder / "miners.json").write_text(json.dumps(listed))
        return wallet.hotkey.ss58_address

    @contextmanager
    def miners(self) -> Iterator[None]:
        """All miners, in one process."""
        command = [sys.executable, "-m", "tests.integration.soak_miners", str(self.plan.folder)]
        with (self.plan.folder / "miners.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
            try:
                wait_for((self.plan.folder / "miners.ready").exists)
                yield
            finally:
                process.kill()
                process.wait()

    def start(self) -> None:
        """Start the validator, or start it again."""
        with self.log.open("ab") as log:
            self._starts_before = self._starts()
            self.memory.begin_life()
            command = [sys.executable, "-m", "tests.integration.soak_validator"]
            self.validator = subprocess.Popen(command, env=self._environment(), stdout=log, stderr=log)

    def closed(self) -> int:
        """Rounds closed so far, by the log."""
        data = self.log.read_bytes() if self.log.exists() else b""
        return len(set(CLOSED.findall(data)))

    def _starts(self) -> int:
        return len(STARTED.findall(self.log.read_bytes()))

    def live(self, until_rounds: int, for_s: float) -> bool:
        """Watch a life until so many rounds are closed (True) or its time is over."""
        ends_s, moved_s, closed = float("inf"), time.monotonic(), self.closed()
        while closed < until_rounds and time.monotonic() < ends_s:
            if ends_s == float("inf") and self._starts() > self._starts_before:
                ends_s = time.monotonic() + for_s  # a busy machine takes long to import what it needs
            assert self.validator is not None
            code = self.validator.poll()
            if code is not None:
                assert code == 1, f"the validator ended with code {code}: see {self.log}"
                self.outcome.ended_by_the_chain += 1
                self.start()
            time.sleep(POLL_S)
            now = self.closed()
            if now > closed:
                self.outcome.longest_gap_s = max(self.outcome.longest_gap_s, time.monotonic() - moved_s)
                closed, moved_s = now, time.monotonic()
                self.memory.weigh(self.validator.pid, closed)
            assert time.monotonic() - moved_s < PATIENCE_S, f"no round within {PATIENCE_S} s: see {self.log}"
        return closed >= until_rounds

    def kill(self) -> None:
        """kill -9, and compare what is on the disk with what was there before."""
        assert self.validator is not None
        self.validator.send_signal(signal.SIGKILL)
        self.validator.wait()
        copy = self.plan.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for path in self.state.glob(f"{LEDGER_FILE}*"):
            shutil.copy(path, copy)
        if not (copy / LEDGER_FILE).exists():
            return
        entries = read(copy)
        hashes = [entry.hash for entry in entries]
        assert hashes[: len(self.seen)] == self.seen, "a record that was there is gone"
        self.seen = hashes
        self.outcome.kills += 1
        self.outcome.killed_in_a_round += folded(entries).open_round is not None

    def stop(self) -> None:
        """SIGTERM; the validator ends by itself."""
        assert self.validator is not None
        self.validator.terminate()
        self.validator.wait(30)

    def _environment(self) -> dict[str, str]:
        folder = self.plan.folder
        return {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            "WALLET_NAME": "validator",
            "WALLET_HOTKEY": "default",
            "WALLET_PATH": str(folder / "wallets"),
            "NETUID": str(NETUID),
            "NETWORK": "local",
            "LOG_LEVEL": "INFO",
            "PERTURB_LOG_FORMAT": "text",
            "PERTURB_LOCAL_CHAIN": str(folder / "chain.sqlite"),
            "PERTURB_PROFILE": "reference",
            "PERTURB_STATE_DIR": str(self.state),
            "PERTURB_CACHE_DIR": str(folder / "cache"),
            "PERTURB_METRICS_PORT": "0",
            "PERTURB_TIMEOUT_SECONDS": "1",
            "PERTURB_QUERY_INTERVAL_SECONDS": "0",
            "PERTURB_CHALLENGE_RETRY_DELAY_SECONDS": "1",
            "PERTURB_HISTORY_SIZE": "5",
            "PERTURB_MIN_PROCESSED_COUNT": "5",
            "PERTURB_PUBLISH_TO": str(folder / "bundle"),
            "PERTURB_PUBLISH_DELAY_BLOCKS": "0",
            "PERTURB_ANCHOR_INTERVAL_BLOCKS": "20",
            "SOAK_FAULTS": str(self.plan.faults),
            "SOAK_SUBMITTED": str(folder / "submitted.jsonl"),
            "SOAK_ROWS": str(self.plan.rows),
        }


def run_soak(plan: Plan) -> Outcome:
    """Run it all, and check what must hold."""
    soak, dice, began_s = Soak(plan), random.Random(8), time.monotonic()
    hotkey = asyncio.run(soak.create())
    with soak.miners():
        try:
            done = False
            while not done:
                soak.start()
                done = soak.live(plan.rounds - plan.calm, plan.kill_every_s * dice.uniform(0.5, 1.5))
                soak.kill()
            soak.start()
            soak.live(plan.rounds, float("inf"))
            soak.stop()
        finally:
            if soak.validator is not None and soak.validator.poll() is None:
                soak.validator.kill()
                soak.validator.wait()
    outcome, entries = soak.outcome, read(soak.state)
    assert [entry.hash for entry in entries[: len(soak.seen)]] == soak.seen
    outcome.seconds, outcome.rounds, outcome.leaves = time.monotonic() - began_s, soak.closed(), len(entries)
    check_all(plan, entries, hotkey, outcome)
    note_memory(soak.memory, outcome)
    soak.memory.check()
    return outcome


def note_memory(memory: Memory, outcome: Outcome) -> None:
    """What is told of it."""
    outcome.lives, outcome.resident_mb = len(memory.lives), memory.lives[-1][-1][1]
    outcome.mb_per_100_rounds_within_a_life = memory.within()
    outcome.mb_per_100_rounds_from_life_to_life = memory.between()


def wait_for(done: object) -> None:
    """Until `done()`."""
    assert callable(done)
    until_s = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < until_s, "nothing happened in time"
        time.sleep(POLL_S)


def main() -> None:
    """Run from the command line, and print what was seen."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("folder", type=Path)
    for name in ("rounds", "calm", "miners", "hostile"):
        options.add_argument(f"--{name}", type=int, default=getattr(Plan, name))
    options.add_argument("--kill-every", type=float, default=Plan.kill_every_s, dest="kill_every_s")
    options.add_argument("--faults", type=float, default=Plan.faults)
    given = options.parse_args()
    outcome = run_soak(Plan(**{**vars(given), "folder": given.folder.absolute()}))
    sys.stdout.write(json.dumps(asdict(outcome), indent=2) + "\n")


if __name__ == "__main__":
    main()
