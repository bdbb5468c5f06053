"""This machine, and what it holds: enough, too little, nothing, and what cannot be told."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from perturbnet.doctor import CheckOutcome
from perturbnet.doctor.facts import ClockState, read_clock, read_machine
from perturbnet.overview import HealthView, encode_overview
from perturbnet.telemetry import Loopback, new_registry
from tests.support.bootstrap.prepared import prepare
from tests.support.overview.samples import OVERVIEW
from tests.unit.doctor.conftest import GB, GOOD, Ward, bigger

OK, LOOK, BAD, UNKNOWN = CheckOutcome.OK, CheckOutcome.LOOK, CheckOutcome.BAD, CheckOutcome.UNKNOWN


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
        return found


def test_processors_and_memory(ward: Ward) -> None:
    assert ward.find("processors").outcome is OK
    ward.machine = bigger(GOOD, processors=4)
    assert ward.find("processors").outcome is LOOK
    assert ward.find("processors", "miner").outcome is OK
    ward.machine = bigger(GOOD, memory_bytes=8 * GB)
    assert ward.find("processors", "miner").outcome is LOOK
    assert ward.find("processors", PERTURB_PROFILE="reference").outcome is OK


def test_disk(ward: Ward) -> None:
    assert ward.find("disk").outcome is OK
    ward.free_bytes = 20 * GB
    assert ward.find("disk").outcome is LOOK
    ward.free_bytes = 4 * GB
    assert ward.find("disk").outcome is BAD
    assert ward.find("disk", PERTURB_PROFILE="reference").outcome is OK


def test_a_folder_that_cannot_be_written(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, _: "cache" not in str(path))
    (ward.folder / "cache").mkdir()
    found = ward.find("disk")
    assert (found.outcome, str(ward.folder / "cache") in found.found) == (BAD, True)


def test_open_files(ward: Ward) -> None:
    assert ward.find("files").outcome is OK
    ward.machine = bigger(GOOD, open_files=256)
    assert ward.find("files").outcome is LOOK
    ward.machine = bigger(GOOD, open_files=-1)
    assert ward.find("files").outcome is OK


@pytest.mark.parametrize(
    ("device", "gpus", "outcome"),
    [
        ("auto", [], LOOK),
        ("cpu", [("H200", 141 * GB)], LOOK),
        ("auto", [("H200", 141 * GB)], OK),
        ("cuda", [], BAD),
        ("cuda:1", [("H200", 141 * GB)], BAD),
        ("cuda:1", [("A", 2 * GB), ("B", 24 * GB)], OK),
        ("cuda", [("GT 710", 2 * GB)], LOOK),
    ],
)
def test_gpu(ward: Ward, device: str, gpus: list[tuple[str, int]], outcome: CheckOutcome) -> None:
    ward.gpus = gpus
    assert ward.find("gpu", PERTURB_DEVICE=device).outcome is outcome


def test_the_reference_profile_needs_no_gpu(ward: Ward) -> None:
    assert ward.find("gpu", PERTURB_PROFILE="reference").outcome is OK


@pytest.mark.parametrize(
    ("clock", "outcome"),
    [
        (ClockState(synchronised=True, max_error_s=0.3), OK),
        (ClockState(synchronised=True, max_error_s=9.0), LOOK),
        (ClockState(synchronised=False, max_error_s=16.0), LOOK),
        (None, UNKNOWN),
    ],
)
def test_clock(ward: Ward, clock: ClockState | None, outcome: CheckOutcome) -> None:
    ward.machine = bigger(GOOD, clock=clock)
    assert ward.find("clock").outcome is outcome


def test_the_kernel_is_really_asked() -> None:
    clock, machine = read_clock(), read_machine()
    assert clock is None or 0 <= clock.max_error_s <= 3600
    assert machine.processors >= 1
    assert machine.memory_bytes > 10**8


def test_manifest(ward: Ward) -> None:
    found = ward.find("manifest")
    assert (found.outcome, "perturb bootstrap" in found.todo) == (BAD, True)
    prepare(ward.folder)
    assert ward.find("manifest").found.startswith("imagenet100, protocol fingerprint ")
    assert ward.find("data").outcome is BAD  # its rows are of another data set than the pinned one
    assert ward.find("manifest", PERTURB_PROFILE="reference").outcome is BAD


# The ledger, and who runs on it.


def test_a_ledger_and_its_key(ward: Ward) -> None:
    assert "a new log begins" in ward.find("ledger").found
    state = ward.folder / "state"
    state.mkdir()
    (state / "ledger.sqlite").write_bytes(b"x" * 1000)
    found = ward.find("ledger")
    assert (found.outcome, "log.key" in found.todo) == (BAD, True)
    (state / "log.key").write_text("key")
    assert ward.find("ledger").outcome is OK


@contextmanager
def running(ward: Ward, *, healthy: bool, state: Path | None = None) -> Iterator[str]:
    """A validator on the ward's ledger."""
    folder = ward.folder / "state"
    folder.mkdir(exist_ok=True)
    for name in ("ledger.sqlite", "log.key"):
        (folder / name).write_bytes(b"x")
    health = (HealthView("chain", ok=healthy, found="answered 400 s ago"),)
    overview = replace(OVERVIEW, place=str(state or folder), health=health)
    shown = Loopback(new_registry("validator"), {"/overview.json": lambda: encode_overview(overview)})
    assert shown.start(0)
    try:
        yield str(shown.port)
    finally:
        shown.close()


def test_a_validator_that_runs_is_asked(ward: Ward) -> None:
    with running(ward, healthy=True) as port:
        found = ward.find("ledger", PERTURB_METRICS_PORT=port)
        assert (found.outcome, "42 rounds" in found.found) == (OK, True)
        assert ward.find("loopback", PERTURB_METRICS_PORT=port).found.endswith("is this validator's")
    with running(ward, healthy=False) as port:
        found = ward.find("ledger", PERTURB_METRICS_PORT=port)
        assert (found.outcome, found.todo) == (LOOK, "perturb status")


def test_the_port_of_another_validator(ward: Ward) -> None:
    with running(ward, healthy=True, state=ward.folder / "other") as port:
        found = ward.find("loopback", PERTURB_METRICS_PORT=port)
        assert (found.outcome, "keeps its state in" in found.found) == (LOOK, True)
        assert ward.find("ledger", PERTURB_METRICS_PORT=port).outcome is OK


def test_loopback(ward: Ward) -> None:
    assert ward.find("loopback").outcome is LOOK
    assert ward.find("loopback", PERTURB_METRICS_PORT=str(free_port())).outcome is OK


def test_mirror(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    on = {"PERTURB_WANDB_ENABLED": "true"}
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert ward.find("mirror").found == "off"
    assert ward.find("mirror", **on, PERTURB_WANDB_MODE="offline").outcome is OK
    monkeypatch.setenv("NETRC", str(ward.folder / "netrc"))
    assert ward.find("mirror", **on).outcome is LOOK
    (ward.folder / "netrc").write_text("machine api.wandb.ai login user password k\n")
    (ward.folder / "netrc").chmod(0o600)
    assert ward.find("mirror", **on).outcome is OK
    monkeypatch.setenv("NETRC", str(ward.folder / "none"))
    monkeypatch.setenv("WANDB_API_KEY", "k")
    assert ward.find("mirror", **on).outcome is OK


# A miner's address and port.


def test_an_address_that_nobody_dials(ward: Ward) -> None:
    assert ward.find("axon", "miner").outcome is OK
    ward.live = True
    for address in ("10.0.0.3", "127.0.0.1"):
        found = ward.find("axon", "miner", PERTURB_AXON_EXTERNAL_IP=address)
        assert (found.outcome, "public" in found.found) == (BAD, True)
    assert ward.find("axon", "miner").outcome is BAD
    assert ward.find("axon", "miner", PERTURB_AXON_EXTERNAL_IP="8.8.8.8").outcome is OK


def test_the_chain_shows_another_address(ward: Ward) -> None:
    import asyncio

    asyncio.run(ward.chain.serve(ward.wallets["miner"].hotkey, "127.0.0.1", 9001))
    assert ward.find("axon", "miner", PERTURB_AXON_PORT="9001").found.endswith("as on chain")
    found = ward.find("axon", "miner", PERTURB_AXON_PORT="9002")
    assert (found.outcome, "127.0.0.1:9001" in found.found) == (LOOK, True)


def axon(port: int, **more: str) -> dict[str, str]:
    return {"PERTURB_AXON_PORT": str(port), "PERTURB_AXON_BIND": "127.0.0.1", **more}


def test_a_port_that_is_free_and_reached(ward: Ward) -> None:
    port = free_port()
    found = ward.find("port", "miner", **axon(port))
    assert (found.outcome, "is free" in found.found) == (OK, True)
    assert f"curl http://127.0.0.1:{port}/healthz" in found.found
    assert ward.find("port", "miner", **axon(port)).outcome is OK  # it was let go of


def test_a_port_where_a_miner_answers(ward: Ward) -> None:
    shown = Loopback(new_registry("miner"))
    assert shown.start(0)
    try:
        found = ward.find("port", "miner", **axon(shown.port))
        assert (found.outcome, "a miner answers" in found.found) == (OK, True)
    finally:
        shown.close()


def test_a_port_that_another_program_has(ward: Ward) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        other.close()
        with socket.socket() as udp_like:
            udp_like.bind(("127.0.0.1", port))  # taken, and nobody answers
            found = ward.find("port", "miner", **axon(port))
    assert (found.outcome, "in use" in found.found) == (BAD, True)


def test_a_port_that_is_not_reached_is_not_told(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    """The announced address leads elsewhere: nobody knows from here whether it leads back from outside."""
    monkeypatch.setattr("perturbnet.doctor.reach.DEADLINE_S", 0.5)
    more = axon(free_port(), PERTURB_AXON_EXTERNAL_IP="127.0.0.77")
    found = ward.find("port", "miner", **more)
    assert found.outcome is UNKNOWN
    assert "from another machine: curl" in found.todo
