"""The ledger: appending rounds of receipts, and what a million of them cost to prove and to open again.

The peer of an append is the least a database can do for the same durability: the same bytes, in the same
batches of 100, into a table of one column, with the same journal and the same flushes. Everything else is
ours: the check of every field, canonical JSON, the tree, the head.

`python -m benchmarks.ledger [LEAVES]` measures one large log (a million): inclusion proofs, reopening, bytes.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from benchmarks.harness import Case, Work
from benchmarks.material import accepted_receipt, scratch_folder
from perturbnet.ledger import LedgerStore
from perturbnet.ledger.leaves import ReceiptLeaf
from perturbnet.ledger.merkle import inclusion_proof, verify_inclusion

BATCH = 100
MADE = 200 * BATCH
MILLION = 1_000_000
PROOFS = 2000


def cases() -> Sequence[Case]:
    """Rounds of a hundred receipts, each a transaction."""
    return (Case(f"append {BATCH} receipts", _ours, _bare_inserts, "bare inserts of the same bytes"),)


def receipts(start: int, count: int = BATCH) -> list[ReceiptLeaf]:
    """A round of receipts as a validator writes them."""
    return [_receipt(start + number) for number in range(count)]


def _receipt(number: int) -> ReceiptLeaf:
    digest = hashlib.sha256(b"%d" % number).hexdigest()
    return accepted_receipt(
        digest,
        challenge=number // BATCH * BATCH,
        round=number // BATCH,
        block=4_000_000 + number // BATCH * 10,
        challenge_id=digest,
        uid=number % 256,
        hotkey="5F3sa2TJAWMqDhXG6jhV4N8ko9SxwGy8TpaNS1repo5EYjQX",
        nonce=f"{number:019d}",
        signature=digest * 2,
        delta=digest,
        response_ms=1000 + number % 9000,
        linf_u8=2,
        changed=140_000 + number % 500,
        sum_sq=380_000 + number % 500,
    )


def _ours() -> Work:
    store, rounds = LedgerStore(scratch_folder("ledger") / "ledger.sqlite"), _rounds()
    return lambda: store.append(next(rounds))


def _bare_inserts() -> Work:
    db = sqlite3.connect(scratch_folder("ledger") / "bare.sqlite", isolation_level=None)
    for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL"):
        db.execute(f"PRAGMA {pragma}")
    db.execute("CREATE TABLE leaves (position INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT")
    bodies = [[(leaf.encode(),) for leaf in next(rounds)] for rounds in [_rounds()] for _ in range(20)]
    turn = iter(range(10**9))

    def insert() -> None:
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO leaves (body) VALUES (?)", bodies[next(turn) % len(bodies)])
        db.execute("COMMIT")

    return insert


def _rounds() -> Iterator[list[ReceiptLeaf]]:
    """Rounds of their own each, made outside of what is timed as far as `MADE` goes."""
    made = [receipts(start) for start in range(0, MADE, BATCH)]
    yield from made
    for start in itertools.count(MADE, BATCH):
        yield receipts(start)


def measure_large_log(leaves: int) -> None:
    """Fill a log and print what it costs; takes some minutes for a million."""
    path = scratch_folder("ledger") / "ledger.sqlite"
    with LedgerStore(path) as store:
        _say("append", "receipts/s", _rate(lambda start: store.append(receipts(start)), leaves))
    size = sum(file.stat().st_size for file in path.parent.iterdir())
    body = sum(len(leaf.encode()) for leaf in receipts(0)) / BATCH
    _say("bytes a receipt, in the ledger", "B", size / leaves)
    _say("of which the leaf itself", "B", body)
    begin_s = time.perf_counter()
    with LedgerStore(path) as store:
        _say("open: tree taken up", "ms", (time.perf_counter() - begin_s) * 1e3)
        begin_s = time.perf_counter()
        store.verify()
        _say("open: every byte hashed", "s", time.perf_counter() - begin_s)
        times_ms = sorted(_prove(store))
        _say("inclusion proof p50", "ms", statistics.median(times_ms))
        _say("inclusion proof p99", "ms", times_ms[int(len(times_ms) * 0.99)])


def _rate(append: Callable[[int], object], leaves: int) -> float:
    begin_s = time.perf_counter()
    for start in range(0, leaves, BATCH):
        append(start)
    return leaves / (time.perf_counter() - begin_s)


def _prove(store: LedgerStore) -> Iterator[float]:
    random_, root = random.Random(1), store.root()
    for _ in range(PROOFS):
        index = random_.randrange(store.size)
        begin_s = time.perf_counter()
        proof = inclusion_proof(index, store.size, store.subtree)
        yield (time.perf_counter() - begin_s) * 1e3
        if not verify_inclusion(store.subtree(index, index + 1), index, store.size, proof, root):
            raise AssertionError(f"the proof of leaf {index} does not hold")


def _say(what: str, unit: str, value: float) -> None:
    print(f"{what:<32} {value:>12,.2f} {unit}")


if __name__ == "__main__":
    measure_large_log(int(sys.argv[1]) if sys.argv[1:] else MILLION)
