"""A validator on a disk that runs full: `python -m tests.integration.small_disk_validator FOLDER`.

Rounds go on until the disk refuses, at another write in each life; then the validator is started again a few
times while the disk is still full, as a supervisor does, then it gets its room back and goes on. Every
acknowledgement that a miner ever got names a leaf that is still there, and an audit of the log finds nothing.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from perturbnet.errors import LedgerError, Reject
from perturbnet.ledger import LedgerStore
from perturbnet.ledger.journal import LEDGER_FILE
from perturbnet.ledger.leaves import ReceiptLeaf
from perturbnet.transparency.delegation import build_genesis
from tests.integration.small_disk import check_reason, leave_room
from tests.support.auditing.honest import LOG_KEY, honest_of
from tests.support.fakes import NETUID, MemoryCourier, MemorySource, keypair
from tests.support.validator.world import World, copycat, junk, make_world, silent

LIVES, STEP_BYTES, ROUNDS, RESTARTS = 9, 28_000, 14, 3


def make_validator(folder: Path, state: Path) -> World:
    """A validator with its state on the small disk, the chain and the miners elsewhere."""
    world = make_world(folder, miners=5, PERTURB_HISTORY_SIZE="2", PERTURB_MIN_PROCESSED_COUNT="2")
    world.source = MemorySource(ROUNDS, broken=(2,))
    world.courier = MemoryCourier(dict(world.courier.answers) | {3: copycat, 4: junk, 5: silent})
    state.mkdir()
    world.state_dir.symlink_to(state)
    with LedgerStore(state / LEDGER_FILE) as store:
        store.append([build_genesis(keypair(1), LOG_KEY, network="local", netuid=NETUID, created_ms=0)])
    return world


def run_until_full(world: World, filler: Path, room_bytes: int) -> Counter[str]:
    """Start it as often as a supervisor would; what was refused."""
    leave_room(filler, room_bytes)
    refused: Counter[str] = Counter()
    for _ in range(RESTARTS):
        try:
            world.run(ROUNDS)
        except LedgerError as error:
            check_reason(error)
            refused["ended by a full disk"] += 1
    assert refused.total() == RESTARTS, "the disk never ran full"
    return refused


def check_promises(world: World) -> int:
    """Every acknowledgement names a leaf that is there; how many there are."""
    hashes = [entry.hash for entry in world.entries()]
    for _, acknowledgement in world.courier.acknowledged:
        assert hashes[acknowledgement.leaf] == acknowledgement.leaf_hash
    return len(world.courier.acknowledged)


def live(disk: Path, folder: Path, number: int) -> Counter[str]:
    """One life with `number` steps of room."""
    world = make_validator(folder, disk / f"state-{number}")
    filler = disk / "filler"
    done = run_until_full(world, filler, number * STEP_BYTES)
    filler.unlink()
    done["acknowledged before"] = check_promises(world)
    entries = world.run(ROUNDS)
    done["acknowledged"] = check_promises(world)
    done["receipts"] = sum(isinstance(entry.leaf, ReceiptLeaf) for entry in entries)
    done["interrupted"] = sum(
        isinstance(entry.leaf, ReceiptLeaf) and entry.leaf.reject == Reject.INTERRUPTED for entry in entries
    )
    report = honest_of(world, entries).audit()
    assert report.findings == [], [finding.sentence() for finding in report.findings]
    shutil.rmtree(disk / f"state-{number}")
    return done


def main() -> None:
    """Live, and print what happened."""
    done: Counter[str] = Counter()
    for number in range(LIVES):
        with tempfile.TemporaryDirectory() as folder:
            done += live(Path(sys.argv[1]), Path(folder), number)
        done["lives"] += 1
    sys.stdout.write(json.dumps(done))


if __name__ == "__main__":
    main()
