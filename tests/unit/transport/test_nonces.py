"""Nonces: once each, across restarts and kills, and a damaged file is refused."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from perturbnet.errors import TransportError
from perturbnet.transport.nonces import NonceFileCorrupt, NonceFileLocked, NonceStore

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


class WallClock:
    def __init__(self) -> None:
        self.now_ns = START

    def monotonic_s(self) -> float:
        raise NotImplementedError

    def time_ns(self) -> int:
        return self.now_ns

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nonces.sqlite"


def test_once_per_hotkey_and_nonce(path: Path, clock: WallClock) -> None:
    store = NonceStore(path, clock=clock)
    assert store.check_and_store("a", START)
    assert not store.check_and_store("a", START)
    assert store.check_and_store("b", START)
    assert store.check_and_store("a", START + 1)
    store.close()


def test_remembered_across_a_restart(path: Path, clock: WallClock) -> None:
    NonceStore(path, clock=clock).close()
    store = NonceStore(path, clock=clock)
    assert store.check_and_store("a", START)
    store.close()
    again = NonceStore(path, clock=clock)
    assert not again.check_and_store("a", START)
    again.close()


def test_remembered_across_kill_9(path: Path) -> None:
    code = (
        "import os, signal, sys, time\nfrom pathlib import Path\n"
        "from perturbnet.transport.nonces import NonceStore\n"
        "store = NonceStore(Path(sys.argv[1])); now = time.time_ns()\n"
        "for i in range(50): assert store.check_and_store('a', now + i)\n"
        "print(now, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code, path],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    store = NonceStore(path)
    assert not any(store.check_and_store("a", int(done.stdout) + i) for i in range(50))
    store.close()


def test_old_nonces_are_forgotten_and_stay_refused(path: Path, clock: WallClock) -> None:
    store = NonceStore(path, retention_s=60, clock=clock)
    for i in range(100):
        assert store.check_and_store("a", START + i)
    clock.now_ns += 120 * SECOND
    assert store.check_and_store("a", clock.now_ns)
    assert len(store) == 1
    assert not store.check_and_store("a", START)  # forgotten, and older than the horizon
    store.close()
    again = NonceStore(path, retention_s=60, clock=clock)
    assert not again.check_and_store("a", START + 200)  # the horizon too survives
    again.close()


def test_a_clock_set_back_makes_nothing_fresh_again(path: Path, clock: WallClock) -> None:
    store = NonceStore(path, retention_s=60, clock=clock)
    assert store.check_and_store("a", START)
    clock.now_ns += 600 * SECOND
    assert store.check_and_store("a", clock.now_ns)
    clock.now_ns = START
    with pytest.raises(TransportError, match="set back"):
        store.check_and_store("a", START)
    store.close()
    with pytest.raises(NonceFileCorrupt, match="in the future"):
        NonceStore(path, retention_s=60, clock=clock)


@pytest.mark.parametrize("content", [b"", b"not a database at all, but long enough to be one" * 100])
def test_a_damaged_file_is_refused_and_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(NonceFileCorrupt) as caught:
        NonceStore(path)
    assert str(path) in caught.value.diagnostics()
    assert "move" in caught.value.hint
    assert caught.value.exit_code == 3
    assert path.read_bytes() == content


def test_damage_inside_is_found(path: Path, clock: WallClock) -> None:
    store = NonceStore(path, clock=clock)
    for i in range(500):
        store.check_and_store("5F3sa2TJAWMqDhXG6jhV4N8ko9SxwGy8TpaNS1repo5EYjQX", START + i)
    store.close()
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 4] = b"\xa5" * 4096
    path.write_bytes(data)
    with pytest.raises(NonceFileCorrupt):
        NonceStore(path, clock=clock)


def test_damage_that_no_query_meets_is_found_too(path: Path, clock: WallClock) -> None:
    store = NonceStore(path, clock=clock)
    store.check_and_store("a", START)
    store.close()
    data = bytearray(path.read_bytes())
    data[4096 + 7] ^= 1  # a page's count of fragmented bytes
    path.write_bytes(data)
    with pytest.raises(NonceFileCorrupt, match="ragmentation"):
        NonceStore(path, clock=clock)


def test_another_database_is_not_taken_over(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE wallet (key TEXT)")
    connection.commit()
    connection.close()
    with pytest.raises(NonceFileCorrupt, match="not a nonce file"):
        NonceStore(path)


def test_one_process_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = NonceStore(path)
    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kwargs: real(*args, **{**kwargs, "timeout": 0}))
    with pytest.raises(NonceFileLocked, match="in use"):
        NonceStore(path)
    store.close()
    NonceStore(path).close()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="nonces"):
        NonceStore(tmp_path / "missing" / "nonces.sqlite")


def test_a_file_that_cannot_be_written_accepts_nothing(path: Path, clock: WallClock) -> None:
    store = NonceStore(path, clock=clock)
    store.close()
    with pytest.raises(TransportError):
        store.check_and_store("a", START)
