"""One network, two chains: each test runs on the local chain and on the adapter over the substrate twin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
from bittensor import sp_core

from perturbnet.chain import Chain, ChainRules, LocalChain
from perturbnet.chain.bittensor import BittensorChain
from perturbnet.errors import ChainRejected
from perturbnet.wire.keys import Keypair
from tests.support.substrate import SubstrateTwin, record_timelock

NETUID = 4
STAKE = 10**12
OPEN = ChainRules(
    commit_reveal_enabled=False, tempo=20, weights_rate_limit=10, immunity_period=5, loopback_allowed=False
)
SEALED = replace(OPEN, commit_reveal_enabled=True)


def keypair(number: int) -> Keypair:
    made: Keypair = sp_core.Keypair.create_from_seed(number.to_bytes(32, "big"), sp_core.CRYPTO_SR25519)
    return made


COLDKEY = keypair(1000).ss58_address


@dataclass
class Net:
    """The chain under test, and the hand that makes the network around it."""

    chain: Chain
    local: LocalChain
    twin: SubstrateTwin | None

    async def register(self, number: int, stake: int = 0) -> tuple[Keypair, int]:
        key = keypair(number)
        return key, await self.local.register(key.ss58_address, COLDKEY, stake)


async def refused(awaitable: object) -> str:
    with pytest.raises(ChainRejected) as caught:
        await awaitable  # type: ignore[misc]
    return caught.value.reason


async def validator_and_miners(net: Net, miners: int = 2) -> None:
    await net.register(1, STAKE)
    for number in range(2, 2 + miners):
        await net.register(number)


MakeNet = Callable[[ChainRules], Awaitable[Net]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the local chain's file is."""
    return tmp_path / "chain.db"


@pytest.fixture
async def chain(path: Path, anyio_backend: str) -> LocalChain:
    """A local chain with a validator (uid 0, key 1) and a miner."""
    made = LocalChain.create(path, NETUID, rules=OPEN, block_time_ms=0)
    await made.register(keypair(1).ss58_address, COLDKEY, STAKE)
    await made.register(keypair(2).ss58_address, COLDKEY)
    await made.advance(20)
    return made


def content(path: Path) -> bytes:
    """A file's bytes, for a test that is asynchronous."""
    return path.read_bytes()


@pytest.fixture(params=["local", "bittensor"])
async def make_net(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> AsyncIterator[MakeNet]:
    made: list[Chain] = []
    monkeypatch.setenv("BTCLI_TOKEN_SYMBOLS_CACHE", str(tmp_path / "symbols.json"))

    async def make(rules: ChainRules) -> Net:
        local = LocalChain.create(tmp_path / "chain.db", NETUID, rules=rules, block_time_ms=0)
        await local.advance(1)
        if request.param == "local":
            made.append(local)
            return Net(local, local, None)
        twin = SubstrateTwin(local, record_timelock(monkeypatch))
        chain = await BittensorChain.connect("ws://127.0.0.1:1", NETUID, substrate=cast("Any", twin))
        made.append(chain)
        return Net(chain, local, twin)

    yield make
    for chain in made:
        await chain.close()
