"""A validator for many rounds among hostile miners, on a chain that fails, killed again and again.

    python -m tests.integration.soak FOLDER [--rounds 500] [--calm 100] [--miners 20] [--hostile 8]
                                     [--kill-every 30] [--faults 0.05]

The last `calm` rounds are run without kills, so that one process is old enough for its memory to be measured.
What must hold is in `check_*`; numbers come out as JSON.
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
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from perturbnet.audit.history import Expected
from perturbnet.audit.run import Audit, Means, Scope
from perturbnet.chain import LocalChain, Rules, to_u16
from perturbnet.identity import create_wallet
from perturbnet.ledger import BlobStore, Entry, LedgerState, LedgerStore
from perturbnet.ledger.leaves import ChallengeLeaf, ReceiptLeaf, SkipLeaf, SubmissionLeaf, WeightsLeaf
from perturbnet.localnet.hostile import EXPECTED
from perturbnet.localnet.network import free_ports
from perturbnet.terms import weigh
from perturbnet.validator.journal import DELTAS_FOLDER, LEDGER_FILE
from tests.fakes import BlockEngine, MemorySource
from tests.integration.soak_miners import HONEST
from tests.unit.audit.honest import MemoryLog
from tests.unit.validator.world import NETUID, keypair

RULES = Rules(tempo=20, weights_rate_limit=5, serving_rate_limit=0, immunity_period=10**6)
BLOCK_TIME_MS = 250
PATIENCE_S = 180.0
WARM_ROUNDS = 20
POLL_S = 0.1
CLOSED = re.compile(rb"validator: Round (\d+) closed")
STARTED = re.compile(rb"validator: Validator \S+ started")


@dataclass(frozen=True)
class Plan:
    """How long, and how hard."""

    folder: Path
    rounds: int = 500
    calm: int = 100
    miners: int = 20
    hostile: int = 8
    kill_every_s: float = 30.0
    faults: float = 0.05

    @property
    def rows(self) -> int:
        return self.rounds + 100

    @property
    def kinds(self) -> list[str]:
        bad = list(EXPECTED)
        return [HONEST] * (self.miners - self.hostile) + [bad[n % len(bad)] for n in range(self.hostile)]


@dataclass
class Outcome:
    """What was seen."""

    rounds: int = 0
    seconds: float = 0.0
    kills: int = 0
    killed_in_a_round: int = 0
    ended_by_the_chain: int = 0
    leaves: int = 0
    acknowledged: int = 0
    intents: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    submitted: int = 0
    codes: dict[str, int] = field(default_factory=dict)
    rss_mb: list[tuple[int, float]] = field(default_factory=list)  # of the last life: rounds, resident
    mb_per_100_rounds: float = 0.0
    longest_gap_s: float = 0.0


class Soak:
    """The processes, and what they have left behind so far."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.seen, self.outcome = plan, [""][:0], Outcome()
        self.state, self.log = plan.folder / "state", plan.folder / "validator.log"
        self.validator: subprocess.Popen[bytes] | None = None
        self._life_from = self._starts_before = 0

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
            self._life_from, self._starts_before = self.closed(), self._starts()
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
                self._weigh(closed)
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

    def _weigh(self, closed: int) -> None:
        assert self.validator is not None
        if closed == self._life_from + 1:
            self.outcome.rss_mb = []
        pages = int(Path(f"/proc/{self.validator.pid}/statm").read_text().split()[1])
        self.outcome.rss_mb.append((closed, pages * os.sysconf("SC_PAGE_SIZE") / 2**20))

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
    return outcome


def check_all(plan: Plan, entries: list[Entry], hotkey: str, outcome: Outcome) -> None:
    """Everything that must hold of what was left behind."""
    check_rounds(entries, outcome)
    check_promises(plan, entries, outcome)
    check_weights(plan, entries, outcome)
    check_audit(plan, entries, hotkey)
    outcome.mb_per_100_rounds = slope(outcome.rss_mb)


def check_rounds(entries: list[Entry], outcome: Outcome) -> None:
    """No image twice, no draw left out, every challenge answered for all that it asked."""
    taken = [entry.leaf for entry in entries if isinstance(entry.leaf, ChallengeLeaf | SkipLeaf)]
    assert {leaf.epoch for leaf in taken} == {0}
    assert [leaf.draw for leaf in taken] == list(range(len(taken)))
    assert len({leaf.row for leaf in taken}) == len(taken), "an image came twice in an epoch"
    receipts = Counter(entry.leaf.challenge for entry in entries if isinstance(entry.leaf, ReceiptLeaf))
    challenges = [(entry.position, entry.leaf) for entry in entries if isinstance(entry.leaf, ChallengeLeaf)]
    open_round = folded(entries).open_round
    for position, leaf in challenges:
        if open_round is None or position != open_round.position:
            assert receipts[position] == len(leaf.asked)
    outcome.codes = dict(
        Counter(entry.leaf.reject for entry in entries if isinstance(entry.leaf, ReceiptLeaf))
    )


def check_promises(plan: Plan, entries: list[Entry], outcome: Outcome) -> None:
    """Every acknowledgement that a miner got names a leaf that is there."""
    lines = (plan.folder / "acknowledged.jsonl").read_text().splitlines()
    for line in lines:
        leaf, expected = json.loads(line)
        assert entries[leaf].hash == expected, f"leaf {leaf} was acknowledged and is another"
    outcome.acknowledged = len(lines)
    assert lines, "nothing was acknowledged: the check shows nothing"


def check_weights(plan: Plan, entries: list[Entry], outcome: Outcome) -> None:
    """Each vector is what the leaves before it give, and the chain took no other."""
    state, intended = LedgerState(), set()
    for entry in entries:
        if isinstance(entry.leaf, WeightsLeaf):
            assert state.rules is not None
            vector = weigh(state.standings(), state.rules[1])
            assert entry.leaf.shares_ppb == [[uid, share] for uid, share in vector.shares_ppb.items()]
            intended.add(json.dumps(sorted(to_u16(vector.shares_ppb).items())))
            outcome.intents += 1
        state.apply(entry)
    taken = (plan.folder / "submitted.jsonl").read_text().splitlines()
    assert set(taken) <= intended, "the chain took a vector that no leaf names"
    shown = asyncio.run(LocalChain(plan.folder / "chain.sqlite").weights(0)).weights
    assert json.dumps(sorted(to_u16(dict(shown)).items())) in intended
    outcome.submitted = len(taken)
    outcome.outcomes = dict(
        Counter(entry.leaf.outcome for entry in entries if isinstance(entry.leaf, SubmissionLeaf))
    )


def check_audit(plan: Plan, entries: list[Entry], hotkey: str) -> None:
    """A stranger who recomputes everything finds nothing."""
    source, engine = MemorySource(plan.rows), BlockEngine()
    expected = Expected(hotkey, NETUID, source.identity, engine.model_digest)
    log = MemoryLog(entries, BlobStore(plan.folder / "state" / DELTAS_FOLDER))
    audit = Audit(log, expected, Means(source, engine), Scope.whole(log.size))
    audit.run_history()
    audit.run_answers()
    assert audit.report.findings == [], [found.sentence() for found in audit.report.findings[:3]]


def slope(samples: list[tuple[int, float]]) -> float:
    """Megabytes per 100 rounds: the median over pairs of samples after the warm-up (Theil and Sen)."""
    warm = samples[WARM_ROUNDS:]
    rises = [(b - a) / (after - before) for before, a in warm for after, b in warm if after > before]
    return 100 * float(np.median(rises)) if rises else float("nan")


def folded(entries: list[Entry]) -> LedgerState:
    """The state after these entries."""
    state = LedgerState()
    for entry in entries:
        state.apply(entry)
    return state


def read(folder: Path) -> list[Entry]:
    """The ledger in a folder that nobody has open."""
    with LedgerStore(folder / LEDGER_FILE) as store:
        store.verify()
        return list(store.entries())


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
    for name, default in (("rounds", 500), ("calm", 100), ("miners", 20), ("hostile", 8)):
        options.add_argument(f"--{name}", type=int, default=default)
    options.add_argument("--kill-every", type=float, default=30.0, dest="kill_every_s")
    options.add_argument("--faults", type=float, default=0.05)
    given = options.parse_args()
    outcome = run_soak(Plan(**{**vars(given), "folder": given.folder.absolute()}))
    sys.stdout.write(json.dumps(asdict(outcome), indent=2) + "\n")


if __name__ == "__main__":
    main()
