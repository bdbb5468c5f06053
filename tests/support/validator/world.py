"""A validator with everything around it in memory or in one folder: run it, crash it, open it again."""

from __future__ import annotations

import asyncio
import inspect
import tempfile
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from perturbnet.chain import ChainRules, LocalChain
from perturbnet.config import load_settings
from perturbnet.errors import Reject
from perturbnet.ledger import ArrivalRow, Entry, LedgerStore
from perturbnet.ledger.journal import LEDGER_FILE, Journal
from perturbnet.ledger.leaves import ReceiptLeaf
from perturbnet.rounds.draws import EpochDraws
from perturbnet.rounds.policy import build_config_leaf, build_policy, build_rules_leaf, secret_source
from perturbnet.rules.from_settings import build_rules
from perturbnet.validator.rounds import Rounds
from perturbnet.validator.weight_setting import WeightSetter
from perturbnet.wire.images import decode_base64, decode_png
from perturbnet.wire.keys import Keypair
from perturbnet.wire.messages import AttackChallenge
from tests.support.fakes import (
    NETUID,
    BlockEngine,
    MemoryCourier,
    MemorySource,
    VirtualClock,
    flip,
    keypair,
    response_body,
)

STAKE_RAO = 10**12
CHAIN_RULES = ChainRules(commit_reveal_enabled=False, weights_rate_limit=0, tempo=1000)


class Crash(BaseException):
    """The process dies here."""


@dataclass
class Faults:
    """Counts the steps of a run; at the armed one the process dies."""

    steps: list[str] = field(default_factory=list)
    at: int | None = None
    last: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def hit(self, name: str) -> None:
        with self.lock:  # answers are judged on several threads
            if self.at is not None and len(self.steps) == self.at:
                self.at = None
                self.last = name
                raise Crash(name)
            self.steps.append(name)

    def watch(self, target: object, *names: str) -> None:
        """Die before or after these methods of `target`."""
        for name in names:
            setattr(target, name, self._watched(getattr(target, name), f"{type(target).__name__}.{name}"))

    def _watched(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        async def later(*args: Any, **options: Any) -> Any:
            self.hit(f"before {name}")
            found = await call(*args, **options)
            self.hit(f"after {name}")
            return found

        def now(*args: Any, **options: Any) -> Any:
            self.hit(f"before {name}")
            found = call(*args, **options)
            self.hit(f"after {name}")
            return found

        return later if inspect.iscoroutinefunction(call) else now


def good(challenge: AttackChallenge) -> bytes:
    """The smallest change that flips the label."""
    clean = decode_png(decode_base64(challenge.clean_image_b64))
    return response_body(challenge.task_id, challenge.challenge_id, flip(BlockEngine(), clean))


def copycat(challenge: AttackChallenge) -> bytes:
    """The clean image."""
    clean = decode_png(decode_base64(challenge.clean_image_b64))
    return response_body(challenge.task_id, challenge.challenge_id, clean)


def junk(challenge: AttackChallenge) -> bytes:
    """No message."""
    return b"{" + challenge.task_id.encode()


def silent(challenge: AttackChallenge) -> Reject:
    """Nothing in time."""
    return Reject.TIMEOUT


@dataclass
class Validator:
    """One process's worth of a validator."""

    journal: Journal
    draws: EpochDraws
    rounds: Rounds
    weights: WeightSetter


@dataclass
class World:
    """What stays when the validator's process ends."""

    folder: Path
    chain: LocalChain
    keypair: Keypair
    courier: MemoryCourier = field(default_factory=MemoryCourier)
    source: MemorySource = field(default_factory=MemorySource)
    engine: BlockEngine = field(default_factory=BlockEngine)
    clock: VirtualClock = field(default_factory=VirtualClock)
    environment: dict[str, str] = field(default_factory=dict)
    fingerprint: str = "f" * 64
    faults: Faults = field(default_factory=Faults)

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    def open(self) -> Validator:
        """Start the validator as `validator.main` does."""
        journal = Journal(self.state_dir)
        journal.store._db.execute("PRAGMA synchronous=OFF")  # the process dies here, not the power
        self.faults.watch(journal.store, "append", "append_epoch", "note_arrival", "forget_arrivals")
        self.faults.watch(journal.blobs, "put", "drop")
        self.faults.watch(journal.deltas, "put")
        try:
            return self._wire(journal)
        except BaseException:
            journal.store._db.close()
            raise

    def _wire(self, journal: Journal) -> Validator:
        settings = load_settings(self._settings()).settings
        rules = build_rules(settings)
        fingerprint = self.fingerprint
        policy = build_policy(settings, rules, fingerprint)
        hotkey = self.courier.validator = self.keypair.ss58_address
        config = build_config_leaf(
            settings, self.engine, self.source.identity, hotkey=hotkey, fingerprint=fingerprint
        )
        journal.record_config(config)
        journal.record_rules(build_rules_leaf(settings, policy, block=1))
        draws = EpochDraws(journal, self.source.identity, secret_source("a secret for tests"))
        rounds = Rounds(
            journal=journal,
            draws=draws,
            chain=self.chain,
            courier=self.courier,
            engine=self.engine,
            source=self.source,
            hotkey=hotkey,
            policy=policy,
            clock=self.clock,
        )
        weights = WeightSetter(journal, self.chain, self.keypair)
        return Validator(journal, draws, rounds, weights)

    async def live(self, rounds: int) -> None:
        """One process: recover, then rounds and weights until so many rounds stand in the ledger."""
        validator = self.open()
        try:
            await validator.rounds.recover()
            while validator.journal.state.rounds < rounds:
                await validator.rounds.run()
                await validator.rounds.finish_telling()
                await validator.weights.run()
                await self.chain.advance(1)
        finally:
            validator.journal.store._db.close()

    def run(self, rounds: int) -> list[Entry]:
        """`live`, and what stands in the ledger then."""
        asyncio.run(self.live(rounds))
        return self.entries()

    def entries(self) -> list[Entry]:
        if not (self.state_dir / LEDGER_FILE).exists():
            return []
        with LedgerStore(self.state_dir / LEDGER_FILE) as store:
            return list(store.entries())

    def arrivals(self, position: int) -> list[ArrivalRow]:
        with LedgerStore(self.state_dir / LEDGER_FILE) as store:
            return store.arrivals(position)

    def _settings(self) -> dict[str, str]:
        return {
            "NETWORK": "local",
            "NETUID": str(NETUID),
            "PERTURB_LOCAL_CHAIN": str(self.folder / "chain.sqlite"),
            "PERTURB_STATE_DIR": str(self.state_dir),
            "PERTURB_HISTORY_SIZE": "1",
            "PERTURB_MIN_PROCESSED_COUNT": "1",
            "PERTURB_MAX_CHALLENGE_ATTEMPTS": "3",
            **self.environment,
        }


def make_world(
    folder: Path, *, miners: int = 3, rules: ChainRules = CHAIN_RULES, **environment: str
) -> World:
    """A subnet with a validator (uid 0) and miners (uids 1 and up) that serve; all of them answer well."""
    path = folder / "chain.sqlite"
    path.write_bytes(_chain_file(miners, rules))
    world = World(folder, LocalChain(path), keypair(1), environment=environment)
    world.courier.answers = dict.fromkeys(range(1, miners + 1), good)
    world.faults.watch(world.chain, "metagraph", "block", "set_weights", "weights")
    world.faults.watch(world.courier, "query_round", "send_acknowledgements")
    world.faults.watch(world.source, "read")
    world.faults.watch(world.engine, "classify")
    return world


@cache
def _chain_file(miners: int, rules: ChainRules) -> bytes:
    async def make(path: Path) -> None:
        chain = LocalChain.create(path, NETUID, rules=rules, block_time_ms=0)
        await chain.advance(1)
        for uid in range(miners + 1):
            key = keypair(uid + 1)
            coldkey = keypair(uid + 1001).ss58_address
            await chain.register(key.ss58_address, coldkey, STAKE_RAO if uid == 0 else 0)
            if uid > 0:
                await chain.serve(key, "127.0.0.1", 9000 + uid)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chain.sqlite"
        asyncio.run(make(path))
        return path.read_bytes()


def receipts_of(entries: list[Entry], round_number: int) -> list[ReceiptLeaf]:
    return [
        entry.leaf
        for entry in entries
        if isinstance(entry.leaf, ReceiptLeaf) and entry.leaf.round == round_number
    ]


def session(world: World, act: Callable[[Validator], Awaitable[Any]]) -> Any:
    """One process in which `act` happens; closed properly."""

    async def main() -> Any:
        validator = world.open()
        try:
            found = await act(validator)
            await validator.rounds.finish_telling()
            return found
        finally:
            validator.journal.close()

    return asyncio.run(main())


def run_once(world: World) -> list[ReceiptLeaf] | None:
    found: list[ReceiptLeaf] | None = session(world, lambda validator: validator.rounds.run())
    return found


def leaves(world: World, kind: type[Any]) -> list[Any]:
    return [entry.leaf for entry in world.entries() if isinstance(entry.leaf, kind)]


def interrupt(world: World, step: str, times: int = 1) -> None:
    """Die at the given occurrence of a step."""
    scout = [name for name in world.faults.steps if name == step]
    assert scout == []
    seen = 0
    hit = world.faults.hit

    def counting(name: str) -> None:
        nonlocal seen
        seen += name == step
        if name == step and seen == times:
            world.faults.hit = hit  # type: ignore[method-assign]
            raise Crash(step)
        hit(name)

    world.faults.hit = counting  # type: ignore[method-assign]
    with pytest.raises(Crash):
        asyncio.run(world.live(1))
