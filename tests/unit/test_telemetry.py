"""Logs and the mirror: offline it writes into the state folder and reaches nobody; broken it stops nobody."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perturbnet.config import Settings, load_settings
from perturbnet.telemetry import QUIET, Mirror, WandbMirror, open_mirror, setup_logging


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
    """No key is asked for: in this mode its service only writes (conftest.py guards our own sockets)."""
    state_dir = tmp_path / "state"
    mirror = open_mirror(settings(state_dir), {"hotkey": "5Validator", "netuid": 7})
    assert isinstance(mirror, WandbMirror)
    mirror.send({"score/mean": 0.5}, step=1)
    for _ in range(600):  # the library starts a service process; that takes seconds on a busy machine
        if list(state_dir.rglob("run-*.wandb")):
            break
        time.sleep(0.1)
    mirror.close()
    runs = list(state_dir.rglob("run-*.wandb"))
    assert len(runs) == 1
    assert mirror.failures == 0


class FakeRun:
    """A run that keeps, fails or hangs."""

    def __init__(self) -> None:
        self.logged: list[tuple[dict[str, float], int]] = []
        self.finished = False
        self.failing = False
        self.hold = threading.Event()
        self.hold.set()

    def log(self, numbers: dict[str, float], *, step: int) -> None:
        assert self.hold.wait(30)
        if self.failing:
            raise BrokenPipeError("the service died")
        self.logged.append((numbers, step))

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
    monkeypatch.setattr("perturbnet.telemetry.CLOSING_S", 0.05)
    run.hold.clear()
    mirror = WandbMirror(settings(tmp_path), {})
    started_s = time.monotonic()
    for step in range(100):
        mirror.send({}, step=step)
    mirror.close()
    assert time.monotonic() - started_s < 1
    assert (run.logged, run.finished) == ([], False)


@pytest.fixture
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    quiet = {name: logging.getLogger(name).level for name in QUIET}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, old in quiet.items():
        logging.getLogger(name).setLevel(old)


@pytest.fixture
def tokyo() -> Iterator[None]:
    """A clock on the wall that is nine hours ahead."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "JST-9")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("restored", "tokyo")
def test_lines_are_in_utc_and_libraries_are_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("DEBUG")
    logging.getLogger("validator").debug("hello")
    logging.getLogger("PIL").info("chatter")
    logging.getLogger("PIL").warning("worth it")
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ DEBUG   validator: hello", first)
    now = (
        time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() - 60)),
        time.strftime("%Y-%m-%dT%H:%M", time.gmtime()),
    )
    assert first.startswith(now)
    assert second.endswith("WARNING PIL: worth it")


@pytest.mark.usefixtures("restored")
def test_the_level_holds_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("ERROR")
    logging.getLogger("PIL").warning("not this")
    logging.getLogger("validator").warning("nor this")
    logging.getLogger("validator").error("this")
    assert len(capsys.readouterr().err.splitlines()) == 1
