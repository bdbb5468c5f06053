"""A restoration on a disk that is too small: `python -m tests.integration.small_disk_restore FOLDER`.

FOLDER is an empty file system of a few MB. A backup that lies elsewhere is restored onto it, with a little
more room each time, so that the disk is full at another write: a key, the ledger, a blob, the draws that are
skipped. Each refusal names the disk and leaves nothing behind; the first that has room enough is whole. JSON
on standard output says how often what happened.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path

from perturbnet.errors import LedgerError
from perturbnet.ledger import LedgerStore
from perturbnet.ledger.journal import LEDGER_FILE, Journal
from perturbnet.runtime.clock import SystemClock
from perturbnet.transparency.signing import begin_log
from perturbnet.validator.backups import restore_backup, skip_draws, write_backup
from perturbnet.validator.state_check import StateCheck, check_state
from tests.integration.small_disk import check_reason, leave_room
from tests.support.fakes import NETUID, MemorySource
from tests.support.validator.world import make_world

STEP_BYTES, SKIPPED, ROUNDS, ROWS = 24_000, 3, 6, 40


def make_backup(folder: Path) -> tuple[Path, int]:
    """A validator's, after some rounds, and how many leaves it has."""
    world = make_world(folder, PERTURB_KEEP_BODIES_ROUNDS="1000")
    world.source = MemorySource(ROWS)
    with closing(Journal(world.state_dir)) as journal:
        begin_log(
            journal, world.state_dir, world.keypair, network="local", netuid=NETUID, clock=SystemClock()
        )
    world.run(ROUNDS)
    with LedgerStore(world.state_dir / LEDGER_FILE) as store:
        made = write_backup(world.state_dir, folder / "backup", store.copy_to, SystemClock())
    return folder / "backup", made.size


def restore(backup: Path, disk: Path, room_bytes: int) -> str:
    """One attempt with so much room: what came of it."""
    filler, state_dir, steps = disk / "filler", disk / "state", Counter[str]()

    def accept(journal: Journal, _checked: StateCheck) -> None:
        steps["copied"] += 1
        skip_draws(journal, SKIPPED)

    leave_room(filler, room_bytes)
    try:
        restore_backup(backup, state_dir, accept)
    except LedgerError as error:
        check_reason(error)
        assert not list(state_dir.glob("*")), "something was left behind"
        return "refused while skipping" if steps["copied"] else "refused while copying"
    finally:
        filler.unlink()
    return "restored"


def main() -> None:
    """Restore, with more room each time, until it works."""
    disk, done = Path(sys.argv[1]), Counter[str]()
    with tempfile.TemporaryDirectory() as elsewhere:
        backup, leaves = make_backup(Path(elsewhere))
        while not done["restored"]:
            done[restore(backup, disk, done.total() * STEP_BYTES)] += 1
    checked = check_state(disk / "state")
    assert (checked.state.size, checked.missing) == (leaves + SKIPPED, 0)
    sys.stdout.write(json.dumps(done))


if __name__ == "__main__":
    main()
