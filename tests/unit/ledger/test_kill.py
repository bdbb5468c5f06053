"""kill -9 at a random moment: nothing that was acknowledged is lost, nothing is half there."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perturbnet.ledger import LedgerStore
from perturbnet.ledger.leaves import SkipLeaf

BATCH = 3
_APPEND = f"""
import sys
from pathlib import Path
from perturbnet.ledger import LedgerStore
from perturbnet.ledger.leaves import SkipLeaf
with LedgerStore(Path(sys.argv[1])) as store:
    while True:
        first = store.size
        store.append([SkipLeaf(0, first + offset, first, "r" * 500) for offset in range({BATCH})])
        print(store.size, flush=True)
"""


def kill_after(path: Path, pause_s: float) -> int:
    """Append in another process, kill it some time after its first word; return what it acknowledged last."""
    with subprocess.Popen([sys.executable, "-c", _APPEND, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(pause_s)
        process.kill()
        rest = process.stdout.read()
    assert process.returncode == -signal.SIGKILL
    said = (first + rest).rpartition(b"\n")[0]  # a line that was cut off was not said
    return int(said.splitlines()[-1])


def check(path: Path, kills: int) -> None:
    random_ = random.Random(9)
    for _ in range(kills):
        acknowledged = kill_after(path, random_.random() * 0.1)
        with LedgerStore(path) as store:
            leaves = [entry.leaf for entry in store.entries()]
        assert len(leaves) >= acknowledged
        assert len(leaves) % BATCH == 0, "a transaction is half there"
        assert leaves == [
            SkipLeaf(0, place, place // BATCH * BATCH, "r" * 500) for place in range(len(leaves))
        ]


def test_three_kills(tmp_path: Path) -> None:
    check(tmp_path / "ledger.sqlite", 3)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_kills(tmp_path: Path) -> None:
    check(tmp_path / "ledger.sqlite", 100)


_KILL_BEFORE_LINK = """import os, signal
Path.hardlink_to = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with LedgerStore"""


def test_killed_while_it_creates(tmp_path: Path) -> None:
    """Before the name is there, there is nothing; whatever stands beside it does not disturb."""
    path = tmp_path / "ledger.sqlite"
    script = _APPEND.replace("with LedgerStore", _KILL_BEFORE_LINK)
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not path.exists()
    assert len(list(tmp_path.iterdir())) == 1
    with LedgerStore(path) as store:
        assert store.size == 0
