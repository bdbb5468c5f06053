"""An honest validator's log, made by the validator's own code, and ways to tamper with a copy of it.

The world is the validator's own test world.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import structs

from perturbnet.auditing.findings import AuditReport, AuditStep, Finding
from perturbnet.auditing.history import Expected
from perturbnet.auditing.run import Audit, Means, Scope
from perturbnet.errors import BundleMissing, Reject
from perturbnet.ledger import BlobStore, Entry, Leaf, LedgerStore, leaf_hash
from perturbnet.ledger.journal import BLOBS_FOLDER, DELTAS_FOLDER, LEDGER_FILE
from perturbnet.ledger.leaves import ChallengeLeaf, ReceiptLeaf
from perturbnet.transparency.delegation import build_genesis, origin_of
from perturbnet.transparency.notes import SigningKey
from tests.support.fakes import NETUID, BlockEngine, MemoryCourier, MemorySource, keypair
from tests.support.validator.world import World, copycat, junk, make_world, silent

HOTKEY = keypair(1).ss58_address
ORIGIN = origin_of("local", NETUID, HOTKEY)
LOG_KEY = SigningKey.from_seed(ORIGIN, b"\x01" * 32)
ROWS = 6
ROUNDS = ROWS + 2


@dataclass
class MemoryLog:
    """Entries in a list, blobs in a folder: an `audit.rounds.Log`."""

    items: Sequence[Entry]
    blobs: BlobStore

    @property
    def size(self) -> int:
        return len(self.items)

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[Entry]:
        return iter(self.items[start:stop])

    def blob(self, digest: str) -> bytes:
        if not digest or not (self.blobs.folder / digest[:2] / digest).exists():
            raise BundleMissing(f"no blob {digest}")
        return self.blobs.get(digest)


@dataclass(frozen=True)
class Honest:
    """What the honest validator left behind."""

    entries: tuple[Entry, ...]
    source: MemorySource
    engine: BlockEngine
    blobs: BlobStore
    bodies: BlobStore

    def places(self, kind: type[Leaf]) -> list[int]:
        """Where leaves of a kind stand."""
        return [entry.position for entry in self.entries if isinstance(entry.leaf, kind)]

    def receipts(self, reject: Reject = Reject.OK) -> list[int]:
        """Where receipts with a code stand."""
        leaves = ((place, self.entries[place].leaf) for place in self.places(ReceiptLeaf))
        return [place for place, leaf in leaves if isinstance(leaf, ReceiptLeaf) and leaf.reject == reject]

    def audit(
        self,
        leaves: Iterable[Leaf] | None = None,
        *,
        model: bool = True,
        scope: Callable[[int], Scope] = Scope.whole,
        **options: Any,
    ) -> AuditReport:
        """Audit the log, or these leaves instead."""
        items = self.entries if leaves is None else chain(leaves)
        log = MemoryLog(items, self.blobs)
        means = Means(self.source, self.engine if model else None)
        audit = Audit(log, self.expected, means, scope(log.size), **options)
        if audit.scope.history:
            audit.run_history()
        audit.run_answers()
        return audit.report

    @property
    def expected(self) -> Expected:
        return Expected(HOTKEY, NETUID, self.source.identity, self.engine.model_digest)

    def leaves(self) -> list[Leaf]:
        """A copy to tamper with."""
        return [entry.leaf for entry in self.entries]


def chain(leaves: Iterable[Leaf]) -> tuple[Entry, ...]:
    """Entries with the hashes and places they would have: what an operator's own rewrite looks like."""
    return tuple(Entry(place, leaf_hash(leaf.encode()), leaf) for place, leaf in enumerate(leaves))


def named(report: AuditReport) -> set[tuple[AuditStep, int, str]]:
    """What was found: step, leaf, field."""
    return {(found.step, found.leaf, found.field) for found in report.findings}


def first(report: AuditReport, step: AuditStep) -> Finding:
    """The first finding of a step."""
    return next(found for found in report.findings if found.step == step)


def only(report: AuditReport, step: AuditStep, leaf: int, field: str) -> Finding:
    """The one finding there is."""
    assert named(report) == {(step, leaf, field)}, [found.sentence() for found in report.findings]
    return report.findings[0]


def tampered(honest: Honest, place: int, **values: Any) -> list[Leaf]:
    """The log with one leaf changed, and the receipts of a changed challenge made to fit its new hash."""
    leaves = honest.leaves()
    leaves[place] = structs.replace(leaves[place], **values)
    if isinstance(leaves[place], ChallengeLeaf):
        new = chain(leaves)[place].hash
        for at, leaf in enumerate(leaves):
            if isinstance(leaf, ReceiptLeaf) and leaf.challenge == place:
                leaves[at] = structs.replace(leaf, challenge_id=new)
    return leaves


def a_challenge(honest: Honest, number: int = 3) -> tuple[int, ChallengeLeaf]:
    """A challenge in an epoch whose key is public, and its place."""
    place = honest.places(ChallengeLeaf)[number]
    leaf = honest.entries[place].leaf
    assert isinstance(leaf, ChallengeLeaf)
    return place, leaf


def renumbered(leaves: list[Leaf], start: int, by: int = 1) -> list[Leaf]:
    """What an operator does who drops records and hides it: every reference and hash behind them moves up."""
    done: list[Leaf] = []
    for leaf in leaves:
        values: dict[str, Any] = {}
        for name in ("challenge", "config", "rules", "metagraph", "weights"):
            place = getattr(leaf, name, None)
            if isinstance(place, int) and place >= start + by:
                values[name] = place - by
        new: Leaf = structs.replace(leaf, **values)
        if isinstance(new, ReceiptLeaf) and new.challenge < len(done):
            asked = chain([done[new.challenge]])[0]
            if isinstance(asked.leaf, ChallengeLeaf) and asked.leaf.round == new.round:
                new = structs.replace(new, challenge_id=asked.hash)
        done.append(new)
    return done


def live(folder: Path, *, rounds: int = ROUNDS, rows: int = ROWS, broken: Sequence[int] = (2,)) -> Honest:
    """Run the validator for so many rounds with good miners and bad ones."""
    world = make_world(folder, miners=5, PERTURB_HISTORY_SIZE="2", PERTURB_MIN_PROCESSED_COUNT="2")
    world.source = MemorySource(rows, broken=broken)
    answers = dict(world.courier.answers) | {3: copycat, 4: junk, 5: silent}
    world.courier = MemoryCourier(answers)
    with LedgerStore(world.state_dir / LEDGER_FILE) as store:
        store.append([build_genesis(keypair(1), LOG_KEY, network="local", netuid=NETUID, created_ms=0)])
    return honest_of(world, world.run(rounds))


def honest_of(world: World, entries: Sequence[Entry]) -> Honest:
    """What a validator's world holds, for an auditor."""
    blobs, bodies = BlobStore(world.state_dir / DELTAS_FOLDER), BlobStore(world.state_dir / BLOBS_FOLDER)
    return Honest(tuple(entries), world.source, _fresh(world), blobs, bodies)


def _fresh(world: World) -> BlockEngine:
    """An engine that nobody watches."""
    fresh = BlockEngine()
    assert fresh.model_digest == world.engine.model_digest
    return fresh
