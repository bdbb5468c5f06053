"""The mirror: offline it writes into the state folder and reaches nobody; broken it stops nobody."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perturbnet.config import Settings, load_settings
from perturbnet.telemetry import Mirror, WandbMirror, open_mirror


def settings(state_dir: Path, **more: str) -> Settings:
    environment = {
        "NETWORK": "local",
        "PERTURB_LOCAL_CHAIN": str(state_dir / "chain.sqlite"),
        "PERTURB_STATE_DIR": str(state_dir),
        "PERTURB_WANDB_ENABLED": "true",
        "PERTURB_WANDB_MODE": "offline",
        "PERTURB_WANDB_LOG_CONSOLE": "false",
        **more,
    }
    return load_settings(environment).settings


def test_it_is_off_unless_asked_for(tmp_path: Path) -> None:
    mirror = open_mirror(settings(tmp_path, PERTURB_WANDB_ENABLED="false"), {})
    assert type(mirror) is Mirror
    mirror.send({"score/mean": 0.5}, step=1)
    mirror.close()
    assert list(tmp_path.iterdir()) == []


def test_offline_a_run_is_written_into_the_state_folder(tmp_path: Path) -> None:
    """The real library. No key is asked for: its service only writes (conftest.py guards our own sockets).

    What it wrote is read back: numbers, console, project, entity and the run's name.
    """
    state_dir = tmp_path / "state"
    named = {
        "PROJECT": "eyes-of-tests",
        "ENTITY": "somebody",
        "RUN_NAME": "first light",
        "LOG_CONSOLE": "true",
    }
    more = {f"PERTURB_WANDB_{name}": text for name, text in named.items()}
    mirror = open_mirror(settings(state_dir, **more), {"hotkey": "5Validator", "netuid": 7})
    assert isinstance(mirror, WandbMirror)
    mirror.send({"score/mean": 0.5}, step=1)
    logging.getLogger("validator").warning("a line for the console")
    for _ in range(600):  # the library starts a service process; that takes seconds on a busy machine
        if mirror.idle and mirror.began:
            break
        time.sleep(0.1)
    mirror.close()
    (run,) = state_dir.rglob("run-*.wandb")
    written = b""
    for _ in range(100):  # the service writes on its own time
        written = run.read_bytes()
        if b"a line for the console" in written:
            break
        time.sleep(0.1)
    for text in ("score/mean", "a line for the console", "5Validator", *list(named.values())[:3]):
        assert text.encode() in written, text
    assert mirror.failures == 0


class FakeRun:
    """A run that keeps, fails or hangs."""

    def __init__(self) -> None:
        self.logged: list[tuple[dict[str, float], int]] = []
        self.lines: list[str] = []
        self.finished = False
        self.failing = False
        self.hold = threading.Event()
        self.hold.set()

    def log(self, numbers: dict[str, float], *, step: int) -> None:
        assert self.hold.wait(30)
        if self.failing:
            raise BrokenPipeError("the service died")
        self.logged.append((numbers, step))

    def write_logs(self, text: str) -> None:
        assert self.hold.wait(30)
        self.lines.append(text)

    def finish(self) -> None:
        assert self.hold.wait(30)
        self.finished = True


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRun]:
    made = FakeRun()

    def begin(mirror: WandbMirror, settings: Settings, identity: dict[str, Any]) -> None:
        mirror._run = made

    monkeypatch.setattr(WandbMirror, "_begin", begin)
    yield made
    made.hold.set()


def test_numbers_arrive_in_order_and_the_run_is_finished(tmp_path: Path, run: FakeRun) -> None:
    mirror = open_mirror(settings(tmp_path), {})
    for step in range(5):
        mirror.send({"score/mean": step / 10}, step=step)
    mirror.close()
    assert run.logged == [({"score/mean": step / 10}, step) for step in range(5)]
    assert run.finished


def test_a_mirror_that_fails_says_so_once_and_stops_nobody(
    tmp_path: Path, run: FakeRun, caplog: pytest.LogCaptureFixture
) -> None:
    run.failing = True
    mirror = WandbMirror(settings(tmp_path), {})
    for step in range(3):
        mirror.send({}, step=step)
    mirror.close()
    assert mirror.failures == 3
    assert [message for message in caplog.messages if "Weights & Biases" in message] == [
        "Weights & Biases fails, the validator goes on without: the service died"
    ]


def test_a_mirror_that_cannot_begin_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(mirror: WandbMirror, settings: Settings, identity: dict[str, Any]) -> None:
        raise RuntimeError("no key")

    monkeypatch.setattr(WandbMirror, "_begin", begin)
    mirror = WandbMirror(settings(tmp_path), {})
    mirror.send({}, step=0)
    mirror.close()
    assert mirror.failures == 2


def test_a_mirror_that_hangs_delays_nobody(
    tmp_path: Path, run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perturbnet.telemetry.mirror.CLOSING_S", 0.05)
    run.hold.clear()
    mirror = WandbMirror(settings(tmp_path), {})
    started_s = time.monotonic()
    for step in range(100):
        mirror.send({}, step=step)
    mirror.close()
    assert time.monotonic() - started_s < 1
    assert (run.logged, run.finished) == ([], False)


def test_what_waits_is_bounded(tmp_path: Path, run: FakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perturbnet.telemetry.mirror.CLOSING_S", 0.05)
    monkeypatch.setattr("perturbnet.telemetry.mirror.MAX_WAITING", 10)
    run.hold.clear()
    mirror = WandbMirror(settings(tmp_path), {})
    for step in range(100):
        mirror.send({}, step=step)
    assert 85 <= mirror.dropped <= 91
    mirror.close()


def test_the_console_is_forwarded_where_that_is_wanted(tmp_path: Path, run: FakeRun) -> None:
    """Our lines, not the mirror's own: those would come back for ever."""
    log = logging.getLogger("validator")
    log.setLevel("INFO")
    before = logging.getLogger().handlers[:]
    mirror = open_mirror(settings(tmp_path, PERTURB_WANDB_LOG_CONSOLE="true"), {})
    log.info("Round 7 closed\nand more")
    logging.getLogger("wandb.sdk").warning("not this")
    logging.getLogger("perturbnet.telemetry.mirror").warning("nor this")
    mirror.close()
    log.setLevel(logging.NOTSET)
    assert [line[21:] for line in run.lines] == [r"INFO    validator: Round 7 closed\x0aand more"]
    assert logging.getLogger().handlers == before


def test_a_console_that_hangs_delays_no_line(
    tmp_path: Path, run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perturbnet.telemetry.mirror.CLOSING_S", 0.05)
    run.hold.clear()
    mirror = WandbMirror(settings(tmp_path, PERTURB_WANDB_LOG_CONSOLE="true"), {})
    started_s = time.monotonic()
    for _ in range(3000):
        logging.getLogger("validator").warning("a line")
    mirror.close()
    assert time.monotonic() - started_s < 5
    assert mirror.dropped > 900
