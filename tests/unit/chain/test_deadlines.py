"""Every call ends in time, a silent or lost connection is rebuilt, and a doubt is settled by reading."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, cast

import pytest

from perturbnet.chain import Chain, DeadlineChain, Effect, LocalChain, reconcile_weights
from perturbnet.chain import deadlines as deadlines_module
from perturbnet.chain.bittensor import BittensorChain
from perturbnet.errors import ChainRejected, ChainTimeout, ChainUnavailable
from tests.support.substrate import SubstrateTwin, record_timelock
from tests.unit.chain.conftest import COLDKEY, NETUID, OPEN, SEALED, STAKE, keypair

pytestmark = pytest.mark.anyio
SHORT_S = 0.2


class World:
    """A network whose connections can be made to fail: each connection is a new twin over one chain file."""

    def __init__(self, local: LocalChain, sealed: dict[Any, Any]) -> None:
        self.local, self.sealed, self.twins = local, sealed, list[SubstrateTwin]()
        self.next_connection: dict[str, Any] = {}

    async def connect(self) -> Chain:
        twin = SubstrateTwin(self.local, self.sealed, **self.next_connection)
        self.twins.append(twin)
        return await BittensorChain.connect("ws://127.0.0.1:1", NETUID, substrate=cast("Any", twin))


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anyio_backend: str) -> World:
    monkeypatch.setenv("BTCLI_TOKEN_SYMBOLS_CACHE", str(tmp_path / "symbols.json"))
    local = LocalChain.create(tmp_path / "chain.db", NETUID, rules=OPEN, block_time_ms=0)
    await local.register(keypair(1).ss58_address, COLDKEY, STAKE)
    await local.register(keypair(2).ss58_address, COLDKEY)
    await local.advance(20)
    return World(local, record_timelock(monkeypatch))


def guarded(
    world: World, *, read_deadline_s: float = SHORT_S, submit_deadline_s: float = SHORT_S
) -> DeadlineChain:
    return DeadlineChain(
        world.connect,
        netuid=NETUID,
        network="test",
        read_deadline_s=read_deadline_s,
        submit_deadline_s=submit_deadline_s,
    )


async def test_a_healthy_connection_is_built_once(world: World) -> None:
    chain = guarded(world, read_deadline_s=20, submit_deadline_s=20)
    assert (chain.netuid, chain.network, chain.connections) == (NETUID, "test", 0)
    assert await chain.block() == 20
    assert len((await chain.metagraph()).neurons) == 2
    assert (await chain.hyperparameters()).tempo == OPEN.tempo
    assert await chain.uid(keypair(2).ss58_address) == 1
    assert (await chain.set_weights(keypair(1), {1: 1}, 0)).block == 20
    assert (await chain.weights(0)).weights == ((1, 65535),)
    assert await chain.serve(keypair(2), "203.0.113.5", 8091) == 20
    assert await chain.set_commitment(keypair(2), b"x") == 20
    assert await chain.commitment(keypair(2).ss58_address) is not None
    assert chain.connections == 1
    await chain.close()
    assert world.twins[0].closed


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("block", ()),
        ("metagraph", ()),
        ("hyperparameters", ()),
        ("uid", ("x",)),
        ("weights", (0,)),
        ("commitment", ("x",)),
        ("set_weights", (keypair(1), {1: 1}, 0)),
        ("serve", (keypair(1), "203.0.113.5", 1)),
        ("set_commitment", (keypair(1), b"x")),
    ],
)
async def test_a_silent_call_ends_and_the_next_one_has_a_new_socket(
    world: World, name: str, arguments: tuple[Any, ...]
) -> None:
    chain = guarded(world)
    await chain.block()
    world.twins[0].silent = True
    started = time.monotonic()
    with pytest.raises(ChainTimeout, match=rf"{name}: no answer from test within 0.2 s"):
        await getattr(chain, name)(*arguments)
    assert time.monotonic() - started < 5 * SHORT_S
    assert world.twins[0].closed
    assert await chain.block() == 20
    assert chain.connections == 2


async def test_a_server_that_never_greets(world: World) -> None:
    chain = guarded(world)
    world.next_connection = {"silent": True}
    with pytest.raises(ChainTimeout, match="block"):
        await chain.block()
    world.next_connection = {}
    assert await chain.block() == 20


async def test_a_lost_connection_is_rebuilt(world: World) -> None:
    chain = guarded(world, read_deadline_s=20)
    await chain.block()
    world.twins[0].lost = True
    with pytest.raises(ChainUnavailable, match="reset"):
        await chain.block()
    assert await chain.block() == 20
    assert chain.connections == 2


async def test_a_refusal_keeps_the_connection(world: World) -> None:
    chain = guarded(world, submit_deadline_s=20)
    with pytest.raises(ChainRejected):
        await chain.set_weights(keypair(2), {0: 1, 1: 1}, 0)
    await chain.block()
    assert chain.connections == 1


async def test_a_close_that_hangs_delays_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines_module, "CLOSE_DEADLINE_S", SHORT_S)
    chain = guarded(world)
    await chain.block()
    twin = world.twins[0]
    twin.silent = True
    monkeypatch.setattr(twin, "close", asyncio.Event().wait)
    started = time.monotonic()
    with pytest.raises(ChainTimeout):
        await chain.block()
    assert time.monotonic() - started < 5 * SHORT_S
    assert await chain.block() == 20


async def test_one_silent_call_drops_the_connection_once(world: World) -> None:
    chain = guarded(world)
    await chain.block()
    world.twins[0].silent = True
    results = await asyncio.gather(*(chain.block() for _ in range(5)), return_exceptions=True)
    assert all(isinstance(result, ChainTimeout) for result in results)
    await asyncio.gather(*(chain.block() for _ in range(5)))
    assert chain.connections == 2


async def test_a_late_timeout_leaves_the_new_connection_alone(world: World) -> None:
    chain = guarded(world, submit_deadline_s=4 * SHORT_S)
    await chain.block()
    world.twins[0].silent = True
    late = asyncio.create_task(chain.serve(keypair(1), "203.0.113.5", 8091))
    with pytest.raises(ChainTimeout, match="block"):
        await chain.block()
    await chain.block()
    with pytest.raises(ChainTimeout, match="serve"):
        await late
    await chain.block()
    assert chain.connections == 2
    assert not world.twins[1].closed


async def test_a_cancelled_caller_is_not_told_of_a_timeout(world: World) -> None:
    chain = guarded(world, read_deadline_s=20)
    await chain.block()
    world.twins[0].silent = True
    task = asyncio.create_task(chain.block())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_submission_without_an_answer_is_found_on_chain(world: World) -> None:
    chain = guarded(world)
    head = await chain.block()
    world.twins[0].drop_answer = True
    with pytest.raises(ChainTimeout, match="set_weights"):
        await chain.set_weights(keypair(1), {1: 65535}, 0)
    assert await reconcile_weights(chain, 0, {1: 65535}, head) is Effect.APPLIED


async def test_a_submission_that_never_left_is_absent(world: World) -> None:
    chain = guarded(world)
    head = await chain.block()
    world.twins[0].silent = True
    with pytest.raises(ChainTimeout, match="set_weights"):
        await chain.set_weights(keypair(1), {1: 65535}, 0)
    assert await reconcile_weights(chain, 0, {1: 65535}, head) is Effect.ABSENT


async def test_a_sealed_submission_without_an_answer_is_pending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BTCLI_TOKEN_SYMBOLS_CACHE", str(tmp_path / "symbols.json"))
    local = LocalChain.create(tmp_path / "chain.db", NETUID, rules=SEALED, block_time_ms=0)
    await local.register(keypair(1).ss58_address, COLDKEY, STAKE)
    await local.advance(20)
    sealed_world = World(local, record_timelock(monkeypatch))
    chain = guarded(sealed_world, submit_deadline_s=1.0)
    head = await chain.block()
    sealed_world.twins[0].drop_answer = True
    with pytest.raises(ChainTimeout):
        await chain.set_weights(keypair(1), {0: 65535}, 0)
    assert await reconcile_weights(chain, 0, {0: 65535}, head) is Effect.PENDING


async def test_doubt_while_the_chain_stays_unreadable(world: World) -> None:
    chain = guarded(world)
    await chain.block()
    world.next_connection = {"lost": True}
    world.twins[0].silent = True
    with pytest.raises(ChainTimeout):
        await chain.set_weights(keypair(1), {1: 1}, 0)
    with pytest.raises(ChainUnavailable):
        await reconcile_weights(chain, 0, {1: 1}, 20)
