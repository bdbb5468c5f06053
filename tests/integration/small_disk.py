"""Ledger and publisher on a disk that runs full: `python -m tests.integration.small_disk FOLDER [--boast]`.

FOLDER is an empty file system of a few MB. Each life has a little more room than the one before, so that the
disk is full at another write each time: in a delta, in the write-ahead log, in a tile. A life goes on
after the first refusal until each kind of write was refused often enough, is looked at while the disk is
still full, gets its room back, and must then hold all it acknowledged and go on. JSON on standard output says
how often what was refused. With `--boast` the writer acknowledges first: the same look must then find a loss.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from perturbnet.errors import LedgerError
from perturbnet.ledger import LedgerStore
from perturbnet.ledger.leaves import ReceiptLeaf
from perturbnet.transparency.bundle import open_bundle
from perturbnet.transparency.places import Folder
from perturbnet.transparency.publishing import LogSource, publish
from tests.support.ledger.samples import plain
from tests.support.transparency.logs import SignedLog, signed_log

LIVES, STEP_BYTES = 40, 9_000
RECEIPTS_EACH, DELTA_BYTES = 7, 6_000
STEPS_WHEN_FULL = 24
FULL = ("No space left on device", "disk is full")


@dataclass
class Life:
    """One ledger on the disk, and what it acknowledged: the delta's digest, for each batch of receipts."""

    log: SignedLog
    random: random.Random
    boast: bool = False
    acknowledged: list[str] = field(default_factory=list)
    delta: str = ""
    published: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def fill_up(self) -> None:
        """Work until the disk is full, and go on for a while as if it were not."""
        while self.refused.total() < STEPS_WHEN_FULL:
            self._try("delta", self.put)
            self._try("receipts", self.append)
            self._try("publication", self.publish)

    def look(self) -> None:
        """All that was acknowledged is there, whole; what is published is a whole log."""
        leaves = [entry.leaf for entry in self.log.store.entries()]
        found = [leaf.delta for leaf in leaves if isinstance(leaf, ReceiptLeaf)]
        assert found == [digest for digest in self.acknowledged for _ in range(RECEIPTS_EACH)], "lost or torn"
        assert len(leaves) == 1 + len(found)
        for digest in self.acknowledged:
            assert len(self.log.deltas.get(digest)) == DELTA_BYTES
        assert not list(self.log.folder.rglob("*.partial"))
        if self.published:
            with open_bundle(self.log.target.path) as bundle:
                bundle.verify_signature()
                assert bundle.size >= self.published
                assert [entry.leaf for entry in bundle.entries()] == leaves[: bundle.size]

    def reopen(self) -> None:
        """Close the ledger and open it again."""
        self.log.store.close()
        self.log.store = LedgerStore(self.log.folder / "ledger.sqlite")

    def put(self) -> None:
        """A delta, which the next receipts name."""
        self.delta = self.log.deltas.put(self.random.randbytes(DELTA_BYTES))

    def append(self) -> None:
        """A batch of receipts, acknowledged."""
        if self.boast:
            self.acknowledged.append(self.delta)
        self.log.store.append([plain(ReceiptLeaf, delta=self.delta)] * RECEIPTS_EACH)
        if not self.boast:
            self.acknowledged.append(self.delta)

    def publish(self) -> None:
        """Everything."""
        log = self.log
        source = LogSource(log.store, log.deltas, log.key)
        self.published = publish(source, Folder(log.target.path), log.store.size).size

    def _try(self, step: str, action: Callable[[], object]) -> None:
        try:
            action()
        except LedgerError as error:
            check_reason(error)
            self.refused[step] += 1


def live(disk: Path, number: int, *, boast: bool) -> Counter[str]:
    """One life with `number` steps of room; what was refused."""
    filler = disk / "filler"
    life = Life(signed_log(disk / f"life-{number}"), random.Random(number), boast)
    life.put()
    leave_room(filler, number * STEP_BYTES)
    life.fill_up()
    life.look()
    try:
        life.reopen()
        life.look()
        life.refused["reopened while full"] += 1
    except LedgerError as error:
        check_reason(error)
        life.refused["not reopened while full"] += 1
    filler.unlink()
    life.reopen()
    life.log.store.verify()
    life.look()
    before = len(life.acknowledged)
    life.put()
    life.append()
    life.publish()
    life.look()
    assert (len(life.acknowledged), life.published) == (before + 1, life.log.store.size)
    life.log.store.close()
    shutil.rmtree(life.log.folder)
    return life.refused + Counter({"acknowledged": len(life.acknowledged)})


def check_reason(error: LedgerError) -> None:
    """The error says what the matter is."""
    assert any(reason in error.message for reason in FULL), error.message


def leave_room(filler: Path, room_bytes: int) -> None:
    """Write until the disk is full, and give so many bytes back."""
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 10):
            with suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
        assert file.tell() > room_bytes
        file.truncate(file.tell() - room_bytes)


def main() -> None:
    """Live, and print what was refused."""
    disk, boast = Path(sys.argv[1]), "--boast" in sys.argv
    done: Counter[str] = Counter()
    for number in range(LIVES):
        done += live(disk, number, boast=boast)
        done["lives"] += 1
    sys.stdout.write(json.dumps(done))


if __name__ == "__main__":
    main()
