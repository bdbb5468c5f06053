"""Writes tests/golden/ledger/schema-N.sqlite: a ledger as the release with schema N leaves it, for ever.

    python -m tests.golden.make_ledger          for the newest schema; a file that is there is never replaced

A file is made once, with the first release of its schema, and then belongs to every release after. Every
table has rows in it; the leaves are a random history (tests/support/ledger/samples.py) with every kind.
"""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from perturbnet.ledger import ArrivalRow, LedgerStore
from perturbnet.ledger.leaves import (
    ChallengeLeaf,
    ConfigLeaf,
    EpochLeaf,
    GenesisLeaf,
    KeyLeaf,
)
from perturbnet.ledger.schema import SCHEMA
from tests.support.ledger.samples import SECRET, Log, epoch, metagraph, plain, random_log_step, rules, segment

FOLDER = Path(__file__).parent / "ledger"
LEAVES = 60


def build_log() -> Log:
    """A history that begins with a genesis leaf and holds every kind."""
    log = Log()
    log.add(plain(GenesisLeaf, origin="perturb/golden", key="00" * 32, created_ms=1), plain(ConfigLeaf))
    log.add(plain(KeyLeaf, key="11" * 32, previous="00" * 32), rules(3))
    log.add(metagraph(u0="k0", u1="k1", u2="k2"), epoch())
    log.add(log.challenge(1, 2))
    log.add(log.receipt(1, "ok", 6 * 10**8, delta="ab" * 32), log.receipt(2, "timeout"))
    while len(log.entries) < LEAVES:
        random_log_step(log, 2)
    log.add(segment(0))
    return log


def write(path: Path) -> None:
    """Append the history, with secrets, arrivals and an anchor, and make the file small."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "ledger.sqlite"
        with LedgerStore(made) as store:
            for entry in build_log().entries:
                match entry.leaf:
                    case EpochLeaf():
                        store.append_epoch(entry.leaf, SECRET)
                    case _:
                        store.append([entry.leaf])
                if isinstance(entry.leaf, ChallengeLeaf) and entry.leaf.asked:
                    uid = entry.leaf.asked[0]
                    store.note_arrival(
                        ArrivalRow(entry.position, uid, f"k{uid}", "ok", "cd" * 32, "7", "0x5", 900)
                    )
            store.note_anchor(77, b"an anchor")
            store.note_anchor(100, b"the newest anchor")
        with closing(sqlite3.connect(made)) as db:
            db.execute("VACUUM INTO ?", (str(path),))


if __name__ == "__main__":
    target = FOLDER / f"schema-{SCHEMA.version}.sqlite"
    if target.exists():
        raise SystemExit(f"{target.name} is there and stays as it is")
    FOLDER.mkdir(exist_ok=True)
    write(target)
