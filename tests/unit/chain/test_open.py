"""The network's name chooses the chain; real sockets end in time too."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from perturbnet.chain import LocalChain, open_chain
from perturbnet.errors import ChainTimeout, ChainUnavailable, ConfigError
from tests.unit.chain.conftest import NETUID

pytestmark = pytest.mark.anyio


async def test_local_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    LocalChain.create(path, NETUID, block_time_ms=0)
    chain = open_chain("local", NETUID, local_path=path)
    assert (chain.network, chain.netuid, await chain.block()) == ("local", NETUID, 0)
    await chain.close()


async def test_a_file_that_appears_later(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    chain = open_chain("local", NETUID, local_path=path)
    with pytest.raises(ChainUnavailable, match="no local chain"):
        await chain.block()
    LocalChain.create(path, NETUID, block_time_ms=0)
    assert await chain.block() == 0


async def test_a_file_of_another_subnet(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    LocalChain.create(path, NETUID + 1, block_time_ms=0)
    with pytest.raises(ConfigError, match=f"NETUID: {NETUID}"):
        await open_chain("local", NETUID, local_path=path).block()


def test_local_needs_a_path() -> None:
    with pytest.raises(ConfigError, match="PERTURB_LOCAL_CHAIN"):
        open_chain("local", NETUID)


@pytest.mark.parametrize("network", ["", "mainnet", "http://127.0.0.1", "archive"])
def test_an_unknown_network(network: str) -> None:
    with pytest.raises(ConfigError, match="NETWORK"):
        open_chain(network, NETUID)


async def test_a_server_that_accepts_and_says_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BTCLI_TOKEN_SYMBOLS_CACHE", str(tmp_path / "symbols.json"))
    accepted: list[asyncio.StreamWriter] = []

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    chain = open_chain(f"ws://127.0.0.1:{port}", NETUID, read_deadline_s=0.5)
    for _ in range(2):
        with pytest.raises(ChainTimeout, match=r"block: no answer from ws://127\.0\.0\.1:\d+ within 0\.5 s"):
            await chain.block()
    assert len(accepted) >= 2
    await chain.close()
    for writer in accepted:
        writer.close()
    server.close()
