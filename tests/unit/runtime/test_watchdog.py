"""The service manager hears READY, then pings while the work moves, then STOPPING; and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from perturbnet.runtime.clock import SystemClock
from perturbnet.runtime.watchdog import Watchdog, expect_nothing, open_watchdog


class _Hands:
    """A clock whose hands the test moves; sleeping only lets others run."""

    now_s = 0.0

    def monotonic_s(self) -> float:
        return self.now_s

    def time_ns(self) -> int:
        return int(self.now_s * 10**9)

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        await asyncio.sleep(0)


@contextlib.contextmanager
def _listener(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address)
        listening.setblocking(False)
        yield listening


def _heard(listening: socket.socket) -> list[str]:
    found: list[str] = []
    while True:
        try:
            found.append(listening.recv(4096).decode())
        except BlockingIOError:
            return found


def test_a_ping_names_the_step_and_stays_out_when_it_is_overdue(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[str] = []
    hands = _Hands()
    watchdog = Watchdog(sent.append, 120.0, hands)
    watchdog.expect("judging", 60.0)
    assert watchdog.ping()
    assert sent == ["WATCHDOG=1\nSTATUS=judging"]
    hands.now_s = 60.0
    assert watchdog.ping()
    hands.now_s = 60.1
    with caplog.at_level(logging.ERROR):
        assert not watchdog.ping()
        assert not watchdog.ping()
    assert sent[2:] == ["STATUS=stuck: judging"]  # said once
    assert [record.getMessage() for record in caplog.records] == [
        "No progress: judging was to take 60 s at most; the watchdog is not told that this lives"
    ]


def test_the_next_step_brings_the_ping_back() -> None:
    sent: list[str] = []
    hands = _Hands()
    watchdog = Watchdog(sent.append, 120.0, hands)
    watchdog.expect("asking", 1.0)
    hands.now_s = 5.0
    assert not watchdog.ping()
    watchdog.expect("judging", 1.0)
    assert watchdog.ping()
    assert sent[-1] == "WATCHDOG=1\nSTATUS=judging"


@pytest.mark.parametrize("abstract", [False, True])
def test_ready_pings_and_stopping_reach_the_socket(tmp_path: Path, abstract: bool) -> None:
    address = f"@perturb-{os.getpid()}-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "100000", "WATCHDOG_PID": str(os.getpid())}
    watchdog = open_watchdog(environment, SystemClock())
    assert environment == {}

    async def live() -> None:
        watchdog.expect("living", 60.0)
        async with watchdog.watching():
            await asyncio.sleep(0.1)

    with _listener("\0" + address[1:] if abstract else address) as listening:
        asyncio.run(live())
        heard = _heard(listening)
    assert heard[0] == "READY=1"
    assert heard[-1] == "STOPPING=1"
    assert heard[1:-1].count("WATCHDOG=1\nSTATUS=living") >= 3


def test_a_loop_that_is_blocked_sends_no_ping(tmp_path: Path) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "20000"}
    watchdog = open_watchdog(environment, SystemClock())

    async def block(listening: socket.socket) -> list[str]:
        async with watchdog.watching():
            await asyncio.sleep(0.03)
            assert "WATCHDOG=1" in _heard(listening)
            assert not threading.Event().wait(0.2)  # blocks the loop's own thread, as a deadlock would
            return _heard(listening)

    with _listener(str(tmp_path / "notify")) as listening:
        assert asyncio.run(block(listening)) == []


def test_another_process_period_asks_for_no_ping(tmp_path: Path) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"}
    watchdog = open_watchdog(environment, SystemClock())

    async def live() -> None:
        async with watchdog.watching():
            await asyncio.sleep(0.05)

    with _listener(str(tmp_path / "notify")) as listening:
        asyncio.run(live())
        assert _heard(listening) == ["READY=1", "STOPPING=1"]


@pytest.mark.parametrize("address", ["", "notify", "vsock:2:1"])
def test_where_nobody_listens_nothing_is_sent(address: str) -> None:
    watchdog = open_watchdog({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "x"}, SystemClock())

    async def live() -> bool:
        expect_nothing("anything", 0.0)
        watchdog.expect("anything", 0.0)
        async with watchdog.watching():
            return True

    assert asyncio.run(live())


def test_a_manager_that_is_gone_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watchdog = open_watchdog({"NOTIFY_SOCKET": str(tmp_path / "nobody")}, SystemClock())
    with caplog.at_level(logging.WARNING):
        watchdog.tell("READY=1")
    assert "could not be told" in caplog.text
