"""Nodes that are silent, half-dead or gone, before the real adapter: calls end in time, nothing is left."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from perturbnet.chain import Chain, DeadlineChain, LocalChain, open_chain
from perturbnet.errors import ChainError, ChainTimeout, ChainUnavailable, ConfigError
from tests.support.chain.nodes import Reply, deaf, half_dead, serving, silent
from tests.unit.chain.conftest import NETUID

pytestmark = pytest.mark.anyio
SHORT_S = 0.5


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the server's side of a socket
            await asyncio.sleep(0.01)


@pytest.fixture
def local(tmp_path: Path) -> LocalChain:
    return LocalChain.create(tmp_path / "chain.db", NETUID, block_time_ms=0)


@pytest.mark.parametrize("reply", [silent, half_dead])
@pytest.mark.parametrize("call", ["block", "metagraph"])
async def test_a_node_that_stops_answering_costs_one_deadline_and_no_connection(
    reply: Reply, call: str
) -> None:
    async with serving(reply) as node:
        chain = open_chain(node.url, NETUID, read_deadline_s=SHORT_S)
        for attempt in range(1, 4):
            started_s = time.monotonic()
            with pytest.raises(ChainTimeout, match=rf"{call}: no answer from ws://127"):
                await getattr(chain, call)()
            assert time.monotonic() - started_s < 8 * SHORT_S
            assert node.opened == attempt
            await until(lambda: node.open_now == 0)  # else one socket and one task more for each attempt
        assert "state_getRuntimeVersion" in node.asked
        await chain.close()


async def test_a_server_that_never_shakes_hands_costs_one_deadline_and_no_connection() -> None:
    async with deaf() as node:
        chain = open_chain(node.url, NETUID, read_deadline_s=SHORT_S)
        with pytest.raises(ChainTimeout):
            await chain.block()
        assert node.opened == 1
        await until(lambda: node.open_now == 0)


async def test_the_next_endpoint_is_asked_within_the_same_call(local: LocalChain) -> None:
    async with serving(silent) as node:
        asked = []

        async def dead() -> Chain:
            asked.append("dead")
            raise ChainUnavailable("nobody listens")

        async def quiet() -> Chain:
            asked.append("quiet")
            from perturbnet.chain.bittensor import BittensorChain

            return await BittensorChain.connect(node.url, NETUID)

        async def good() -> Chain:
            asked.append("good")
            return local

        chain = DeadlineChain(dead, spares=[quiet, good], netuid=NETUID, network="test", read_deadline_s=4.0)
        assert await chain.block() == 0
        assert asked == ["dead", "quiet", "good"]
        assert await chain.block() == 0
        assert chain.connections == 1
        await until(lambda: node.open_now == 0)


async def test_a_lost_connection_moves_on_and_comes_round_again(local: LocalChain) -> None:
    used: list[int] = []
    chain: DeadlineChain

    async def connect(number: int) -> Chain:
        used.append(number)
        return local

    async def first() -> Chain:
        return await connect(1)

    async def second() -> Chain:
        return await connect(2)

    chain = DeadlineChain(first, spares=[second], netuid=NETUID, network="test", read_deadline_s=5.0)
    for _ in range(4):
        await chain.block()
        await chain._drop(local, failed=True)
    assert used == [1, 2, 1, 2]


async def test_when_all_fail_each_was_asked_once_and_the_last_error_is_told() -> None:
    asked: list[str] = []

    def failing(name: str) -> Callable[[], object]:
        async def connect() -> Chain:
            asked.append(name)
            raise ChainUnavailable(f"{name} is gone")

        return connect

    chain = DeadlineChain(failing("a"), spares=[failing("b")], netuid=NETUID, network="test")  # type: ignore[arg-type, list-item]
    with pytest.raises(ChainUnavailable, match="b is gone"):
        await chain.block()
    assert asked == ["a", "b"]


async def test_waits_grow_with_jitter_and_are_bounded_and_an_answer_ends_them(
    local: LocalChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    real_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await real_sleep(0)

    monkeypatch.setattr("perturbnet.chain.deadlines.asyncio.sleep", sleep)
    gone = True

    async def connect() -> Chain:
        if gone:
            raise ChainUnavailable("gone")
        return local

    chain = DeadlineChain(
        connect, netuid=NETUID, network="test", read_deadline_s=100.0, chance=random.Random(1)
    )
    for _ in range(12):
        with pytest.raises(ChainError):
            await chain.block()
    assert waits[:2] == [0.0, 0.0]
    for number, wait_s in enumerate(waits[2:]):
        longest_s = min(15.0, 0.5 * 2**number)
        assert longest_s / 2 <= wait_s <= longest_s
    assert len(set(waits[7:])) == len(waits[7:])  # no two validators in step
    gone = False
    await chain.block()
    assert chain._wait_s() == 0.0


async def test_a_wait_never_eats_the_call(local: LocalChain) -> None:
    async def connect() -> Chain:
        return local

    chain = DeadlineChain(connect, netuid=NETUID, network="test", read_deadline_s=0.6)
    chain._failures = 50
    assert await chain.block() == 0


def test_fallbacks_are_for_real_networks(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="PERTURB_CHAIN_FALLBACKS"):
        open_chain("local", NETUID, local_path=tmp_path / "chain.db", fallbacks="ws://127.0.0.1:1")


async def test_fallbacks_of_the_settings_are_asked_in_their_order() -> None:
    async with serving(silent) as first, serving(silent) as second:
        chain = open_chain(
            "ws://127.0.0.1:1", NETUID, fallbacks=f"{first.url},{second.url}", read_deadline_s=3.0
        )
        with pytest.raises(ChainTimeout):
            await chain.block()
        assert (first.opened, second.opened) == (1, 1)
        await chain.close()
