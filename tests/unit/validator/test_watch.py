"""Who watches decides nothing: its numbers agree with the log, and what breaks there stops nobody."""

from __future__ import annotations

import asyncio
import http.client
import math
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from perturbnet.config import load_settings
from perturbnet.errors import ChainTimeout, ChainUnavailable, Reject
from perturbnet.ledger import fold
from perturbnet.ledger.journal import Journal
from perturbnet.overview import LiveFeed, Overview
from perturbnet.telemetry import Mirror
from perturbnet.validator.watch import Watch, summarise
from tests.support.fakes import VirtualClock
from tests.support.validator.world import Validator, World, copycat, good, make_world, receipts_of, silent


class Sent(Mirror):
    """Keeps what is mirrored."""

    def __init__(self) -> None:
        self.numbers: list[tuple[dict[str, float], int]] = []
        self.closed = False

    def send(self, numbers: Mapping[str, float], *, step: int) -> None:
        self.numbers.append((dict(numbers), step))

    def close(self) -> None:
        self.closed = True


@dataclass
class Watched:
    """A validator of the world, and who watches it."""

    world: World
    validator: Validator
    watch: Watch
    mirror: Sent

    def value(self, name: str, **labels: str) -> float | None:
        return self.watch.registry.get_sample_value(f"perturb_validator_{name}", labels)

    def run(self, rounds: int) -> None:
        async def work() -> None:
            for _ in range(rounds):
                receipts = await self.validator.rounds.run()
                await self.validator.rounds.finish_telling()
                assert receipts is not None
                self.watch.round_closed(receipts, 2.5)
                await self.validator.weights.run()
                self.watch.chain_called("block", 0.1, await self.world.chain.block())
                await self.world.chain.advance(1)

        asyncio.run(work())


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    world = make_world(tmp_path, miners=3)
    world.courier.answers = {1: good, 2: copycat, 3: silent}
    validator = world.open()
    mirror = Sent()
    settings = load_settings(world._settings()).settings
    watch = Watch(settings, validator.journal, world.keypair.ss58_address, mirror, world.clock)
    yield Watched(world, validator, watch, mirror)
    watch.close()
    validator.journal.store.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
        return found


def test_the_numbers_agree_with_the_log(watched: Watched) -> None:
    watched.run(4)
    entries = list(watched.validator.journal.store.entries())
    state = fold(entries)
    receipts = [receipt for number in range(4) for receipt in receipts_of(entries, number)]
    for code in ("ok", "linf_low", "timeout", "offline"):
        expected = sum(receipt.reject == code for receipt in receipts)
        assert watched.value("answers_total", reject=code) == expected
    assert watched.value("rounds_total") == 4
    assert watched.value("leaves_total") == state.size
    assert watched.value("round_seconds_count") == 4
    assert watched.value("round_seconds_sum") == 10
    assert watched.value("answer_seconds_count") == sum(receipt.body != "" for receipt in receipts)
    assert watched.value("score_sum") == pytest.approx(
        sum(receipt.score_ppb for receipt in receipts if receipt.reject == Reject.OK) / 1e9
    )
    assert watched.value("miner_processed", uid="1") == 4
    assert watched.value("miner_share", uid="1") == 1
    assert watched.value("epoch_draws") == state.epoch.cursor if state.epoch else None
    assert watched.value("ledger_bytes") == (watched.world.state_dir / "ledger.sqlite").stat().st_size


def test_ages(watched: Watched) -> None:
    clock = watched.world.clock
    assert isinstance(clock, VirtualClock)
    assert math.isnan(watched.value("chain_age_seconds") or 0)
    assert math.isnan(watched.value("weights_age_blocks") or 0)
    clock.advance(7)
    assert watched.value("round_age_seconds") == 7
    watched.run(2)
    clock.advance(9)
    assert watched.value("round_age_seconds") == 9
    assert watched.value("chain_age_seconds") == 9
    submission = watched.validator.journal.state.last_submission
    assert submission is not None
    block = watched.value("chain_block")
    assert block is not None
    assert watched.value("weights_age_blocks") == block - submission.block


def test_what_the_chain_does_is_counted(watched: Watched) -> None:
    watched.watch.chain_called("weights", 30.0, ChainTimeout("silent"))
    watched.watch.chain_called("weights", 0.5, ChainUnavailable("gone"))
    watched.watch.chain_called("uid", 0.5, None)
    assert watched.value("chain_failures_total", call="weights", error="ChainTimeout") == 1
    assert watched.value("chain_failures_total", call="weights", error="ChainUnavailable") == 1
    assert watched.value("chain_call_seconds_count", call="weights") == 2
    assert math.isnan(watched.value("chain_age_seconds") or 0)


def test_a_waiting_round_is_a_queue(watched: Watched) -> None:
    """Died after the answers were noted and before the verdicts."""
    watched.world.faults.watch(watched.validator.rounds, "_close")
    original = watched.validator.rounds._close

    async def stop(*_: object) -> None:
        raise ChainTimeout("here")

    watched.validator.rounds._close = stop  # type: ignore[assignment,method-assign]
    with pytest.raises(ChainTimeout):
        asyncio.run(watched.validator.rounds.run())
    assert watched.value("queue_answers", state="awaited") == 0
    assert watched.value("queue_answers", state="unjudged") == 3
    assert "0 answers awaited, 3 unjudged" in watched.watch.overview().health[0].found
    watched.validator.rounds._close = original  # type: ignore[method-assign]
    asyncio.run(watched.validator.rounds.recover())
    assert watched.value("queue_answers", state="unjudged") == 0


def test_health_says_what_wants_looking_at(watched: Watched) -> None:
    def health() -> dict[str, bool]:
        return {found.name: found.ok for found in watched.watch.overview().health}

    assert health() == {"rounds": True, "chain": False, "weights": True, "disk": True, "failures": True}
    watched.run(1)
    assert all(health().values())
    watched.watch.failed(ChainTimeout("no answer"))
    assert not health()["failures"]
    clock = watched.world.clock
    clock.advance(10_000)
    assert (health()["rounds"], health()["chain"]) == (False, False)


def test_the_overview_on_loopback_is_the_logs(watched: Watched) -> None:
    watched.run(3)
    port = free_port()
    watched.watch.settings = replace(watched.watch.settings, metrics_port=port)
    watched.watch.published = lambda: 5
    watched.watch.start()
    overview = LiveFeed(port, watched.world.state_dir).read()
    state = watched.validator.journal.state
    assert (overview.rounds, overview.leaves, overview.published_leaves) == (3, state.size, 5)
    assert overview.root == watched.validator.journal.store.root().hex()
    assert [found.number for found in overview.latest] == [2, 1, 0]
    assert overview.next_weights == ((1, 10**9),)
    assert overview.last_weights is not None
    assert overview.last_weights.outcome == "set"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/metrics")
    assert b"perturb_validator_rounds_total 3.0" in connection.getresponse().read()
    connection.close()


def test_no_secret_is_shown(watched: Watched) -> None:
    """The epoch's secret and keys of open segments would tell tomorrow's images."""
    watched.run(2)
    shown = repr(watched.watch.overview())
    ((secret,),) = watched.validator.journal.store._read("SELECT secret FROM secrets")
    assert secret.hex() not in shown
    assert isinstance(watched.watch.overview(), Overview)


def test_the_mirror_gets_each_round(watched: Watched) -> None:
    watched.run(2)
    (first, step), (_, last) = watched.mirror.numbers
    assert (step, last) == (1, 2)
    assert first["reject/ok"] == 1
    assert first["round/asked"] == 3
    assert first["round/seconds"] == 2.5
    watched.watch.close()
    assert watched.mirror.closed


def test_a_taken_port_or_none_stops_nobody(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        watched.watch.settings = replace(watched.watch.settings, metrics_port=taken.getsockname()[1])
        watched.watch.start()
    assert "set PERTURB_METRICS_PORT" in caplog.text
    watched.watch.settings = replace(watched.watch.settings, metrics_port=0)
    watched.watch.start()
    assert watched.watch.loopback.port == 0
    watched.run(1)


def test_after_a_restart_the_latest_rounds_are_there(tmp_path: Path) -> None:
    world = make_world(tmp_path, miners=1)
    world.run(3)
    journal = Journal(world.state_dir)
    try:
        settings = load_settings(world._settings()).settings
        watch = Watch(settings, journal, "5Hotkey", Sent(), world.clock)
        assert [found.number for found in watch.overview().latest] == [2, 1, 0]
    finally:
        journal.close()


def test_an_empty_round_has_numbers_too() -> None:
    assert summarise([])["score/mean"] == 0
