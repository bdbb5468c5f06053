"""An endpoint of another network: refused by name, closed, and the next one is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from bittensor.settings import FINNEY_GENESIS_HASH

from perturbnet.chain import Chain, LocalChain, open_chain
from perturbnet.chain.bittensor import BittensorChain
from perturbnet.chain.genesis import FINNEY, OneNetwork
from perturbnet.errors import ChainUnavailable
from tests.support.substrate import SubstrateTwin
from tests.unit.chain.conftest import NETUID

pytestmark = pytest.mark.anyio
OURS, OTHER = "0x" + "aa" * 32, "0x" + "bb" * 32


class Endpoint(SubstrateTwin):
    """The twin behind one address, with a first block of its own."""

    def __init__(self, local: LocalChain, genesis: str) -> None:
        super().__init__(local, {})
        self.genesis, self.closings = genesis, 0

    async def block_hash(self, block: int | None = None) -> str:
        return self.genesis if block == 0 else await super().block_hash(block)

    async def close(self) -> None:
        self.closings += 1


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalChain:
    monkeypatch.setenv("BTCLI_TOKEN_SYMBOLS_CACHE", str(tmp_path / "symbols.json"))
    return LocalChain.create(tmp_path / "chain.db", NETUID, block_time_ms=0)


def serve(patch: pytest.MonkeyPatch, endpoints: dict[str, Endpoint | None]) -> list[str]:
    """Put these behind `ws://NAME`; the list of those that were asked."""
    asked: list[str] = []
    connect = BittensorChain.connect

    async def dial(place: str, netuid: int, *, one: OneNetwork) -> Chain:
        name = place.removeprefix("ws://")
        asked.append(name)
        found = endpoints[name]
        if found is None:
            raise ChainUnavailable(f"{place} is down")
        return await connect(place, netuid, one=one, substrate=cast("Any", found))

    patch.setattr(BittensorChain, "connect", dial)
    return asked


async def test_a_fallback_of_another_network_is_passed_over(
    local: LocalChain, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wrong, right = Endpoint(local, OTHER), Endpoint(local, OURS.upper().replace("X", "x"))
    first = Endpoint(local, OURS)
    endpoints: dict[str, Endpoint | None] = {"first": first, "wrong": wrong, "right": right}
    asked = serve(monkeypatch, endpoints)
    chain = open_chain("ws://first", NETUID, fallbacks="ws://wrong,ws://right")
    assert await chain.block() == 0
    endpoints["first"] = None
    await chain._drop(chain._chain, failed=True)
    assert await chain.block() == 0
    assert asked == ["first", "wrong", "right"]
    assert (wrong.closings, right.closings) == (1, 0)
    assert f"ws://wrong serves another network: its genesis is {OTHER}, that of ws://first is {OURS}" in (
        caplog.text
    )


async def test_where_all_are_of_another_network_the_call_says_so(
    local: LocalChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoints: dict[str, Endpoint | None] = {"first": Endpoint(local, OURS), "wrong": Endpoint(local, OTHER)}
    serve(monkeypatch, endpoints)
    chain = open_chain("ws://first", NETUID, fallbacks="ws://wrong")
    await chain.block()
    endpoints["first"] = None
    await chain._drop(chain._chain, failed=True)
    for _ in range(2):
        with pytest.raises(ChainUnavailable, match=r"another network|is down"):
            await chain.block()


async def test_finney_is_known_before_anybody_answers(
    local: LocalChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert FINNEY_GENESIS_HASH.lower() == FINNEY
    serve(monkeypatch, {"finney": Endpoint(local, OURS), "real": Endpoint(local, FINNEY)})
    chain = open_chain("finney", NETUID)
    with pytest.raises(ChainUnavailable, match=f"finney serves another network.*that of finney is {FINNEY}"):
        await chain.block()
    chain = open_chain("finney", NETUID, fallbacks="ws://real")
    assert await chain.block() == 0
