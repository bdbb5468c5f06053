"""What is the adapter's own: names put back on refusals, doubts kept apart from them, hostile records."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import bittensor as bt
import pytest
from bittensor.error_map import NAME_TO_CODE
from bittensor.result import ChainError as SdkChainError
from bittensor.result import RpcPolicyError

from perturbnet.chain import Chain, LocalChain
from perturbnet.chain.bittensor import BittensorChain
from perturbnet.chain.records import read_raw_fields
from perturbnet.errors import ChainError, ChainRejected, ChainUnavailable
from tests.support.substrate import SubstrateTwin
from tests.unit.chain.conftest import COLDKEY, NETUID, OPEN, STAKE, keypair

pytestmark = pytest.mark.anyio


@pytest.fixture
async def twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anyio_backend: str) -> SubstrateTwin:
    monkeypatch.setenv("BTCLI_TOKEN_SYMBOLS_CACHE", str(tmp_path / "symbols.json"))
    local = LocalChain.create(tmp_path / "chain.db", NETUID, rules=OPEN, block_time_ms=0)
    await local.register(keypair(1).ss58_address, COLDKEY, STAKE)
    await local.register(keypair(2).ss58_address, COLDKEY)
    await local.advance(20)
    return SubstrateTwin(local)


async def connected(twin: SubstrateTwin, netuid: int = NETUID) -> Chain:
    return await BittensorChain.connect("ws://127.0.0.1:1", netuid, substrate=cast("Any", twin))


async def test_a_closed_door_is_unavailable(twin: SubstrateTwin) -> None:
    twin.lost = True
    with pytest.raises(ChainUnavailable, match=r"127\.0\.0\.1"):
        await connected(twin)


async def test_an_endpoint_where_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BTCLI_TOKEN_SYMBOLS_CACHE", str(tmp_path / "symbols.json"))

    async def refuse(self: Any) -> None:
        raise ConnectionRefusedError(111, "Connect call failed")

    monkeypatch.setattr(bt.RpcSubstrate, "connect", refuse)
    with pytest.raises(ChainUnavailable, match="Connect call failed"):
        await BittensorChain.connect("ws://127.0.0.1:1", NETUID)


async def test_a_subnet_that_does_not_exist(twin: SubstrateTwin) -> None:
    chain = await connected(twin, NETUID + 1)
    for call in (chain.metagraph, chain.hyperparameters):
        with pytest.raises(ChainError, match=f"netuid {NETUID + 1} does not exist"):
            await call()


@pytest.mark.parametrize("name", ["Dropped", "Usurped", "Retracted", "FinalityTimeout", "AlreadyImported"])
async def test_a_watch_that_ended_in_doubt_is_no_refusal(twin: SubstrateTwin, name: str) -> None:
    chain = await connected(twin)
    twin.watch_failure = name
    with pytest.raises(ChainUnavailable, match=name):
        await chain.set_weights(keypair(1), {1: 1}, 0)
    assert (await chain.weights(0)).weights == ((1, 65535),)  # and indeed it was included


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SdkChainError("text", "ServingRateLimitExceeded"), "ServingRateLimitExceeded"),
        (SdkChainError("Custom error: 12", "InvalidPort"), "InvalidPort"),
        (SdkChainError("inability to pay some fees"), "insufficient_balance"),
    ],
)
async def test_refusals_keep_the_runtimes_name(
    twin: SubstrateTwin, monkeypatch: pytest.MonkeyPatch, error: SdkChainError, reason: str
) -> None:
    chain = await connected(twin)

    async def refuse(*_: Any, **__: Any) -> bt.ExtrinsicResult:
        return bt.ExtrinsicResult(success=False, message=error.message, error=error)

    monkeypatch.setattr(twin, "submit", refuse)
    with pytest.raises(ChainRejected) as caught:
        await chain.serve(keypair(1), "203.0.113.5", 8091)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "error",
    [
        SdkChainError("something nobody classified"),
        RpcPolicyError("slow down", retry_after="30"),
        OSError("broken pipe"),
    ],
)
async def test_what_is_no_refusal_is_unavailable(
    twin: SubstrateTwin, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    chain = await connected(twin)

    async def fail(*_: Any, **__: Any) -> bt.ExtrinsicResult:
        raise error

    monkeypatch.setattr(twin, "submit", fail)
    with pytest.raises(ChainUnavailable, match=str(error)):
        await chain.serve(keypair(1), "203.0.113.5", 8091)


async def test_an_extrinsic_lives_a_bounded_time(
    twin: SubstrateTwin, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, periods = await connected(twin), []
    submit = twin.submit

    async def watch(*arguments: Any, **options: Any) -> bt.ExtrinsicResult:
        periods.append(options["period"])
        return await submit(*arguments, **options)

    monkeypatch.setattr(twin, "submit", watch)
    await chain.set_weights(keypair(1), {1: 1}, 0)
    await chain.serve(keypair(1), "203.0.113.5", 8091)
    await chain.set_commitment(keypair(1), b"x")
    assert periods == [16, 16, 16]


@pytest.mark.parametrize(
    "axon",
    [
        {"ip": 2**127, "port": 8091, "ip_type": 4},
        {"ip": 2**128, "port": 8091, "ip_type": 6},
        {"ip": 1, "port": 70000, "ip_type": 4},
        {"ip": 1, "port": 0, "ip_type": 4},
        {"ip": "many", "port": 1, "ip_type": 4},
        {"ip": -1, "port": 1, "ip_type": 4},
        {},
        None,
    ],
)
async def test_one_nonsense_axon_costs_only_itself(twin: SubstrateTwin, axon: Any) -> None:
    twin.hostile_axons = [axon, {"ip": 0xCB007105, "port": 8091, "ip_type": 4}]
    neurons = (await (await connected(twin)).metagraph()).neurons
    assert [(neuron.ip, neuron.port) for neuron in neurons] == [(None, 0), ("203.0.113.5", 8091)]


async def test_a_metagraph_with_ragged_columns_is_refused(twin: SubstrateTwin) -> None:
    twin.hostile_axons = [{"ip": 0, "port": 0, "ip_type": 4}]
    chain = await connected(twin)
    with pytest.raises(ChainError, match="2 hotkeys but 1 values in 'axons'"):
        await chain.metagraph()


async def test_a_runtime_the_sdk_cannot_read(twin: SubstrateTwin, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = await connected(twin)

    async def unknown(*_: Any, **__: Any) -> Any:
        raise ValueError("Storage function SubtensorModule.Uids not found")

    monkeypatch.setattr(twin, "query", unknown)
    with pytest.raises(ChainError, match="cannot read: Storage function") as caught:
        await chain.uid("x")
    assert "update bittensor" in caught.value.hint


@pytest.mark.parametrize("lost", ["tempo", "commit_reveal_period"])
async def test_a_record_without_a_rule_is_refused(
    twin: SubstrateTwin, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    chain, record = await connected(twin), twin._record(await twin.chain.metagraph())
    del record[lost]

    async def answer(*_: Any, **__: Any) -> Any:
        return record

    monkeypatch.setattr(twin, "runtime_call", answer)
    with pytest.raises(ChainError, match=lost):
        await chain.hyperparameters()


def test_fields_of_other_kinds_are_left_out() -> None:
    entries = [
        {"Raw2": "0xffff"},
        "None",
        {"Sha256": "0x00"},
        {"Raw1": b"x"},
        {"Raw3": "0xzz"},
        {"Raw1": [7]},
        5,
    ]
    assert read_raw_fields(entries) == (b"\xff\xff", b"x", b"\x07")


def test_the_reasons_named_here_are_the_runtimes_own() -> None:
    from perturbnet.chain.bittensor import _WEIGHTS_REASONS

    own = {"SettingWeightsTooFast", "CommittingWeightsTooFast", "ServingRateLimitExceeded"}
    for name in {*_WEIGHTS_REASONS.values(), *own}:
        assert name in NAME_TO_CODE
    assert all(NAME_TO_CODE[name] is code for code, name in _WEIGHTS_REASONS.items())
