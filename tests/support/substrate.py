"""An in-memory twin of the SDK's chain access (`bittensor.Substrate`) that keeps the live rules.

It holds no rule of its own: storage, runtime records and extrinsics are translated to a `LocalChain`, so the
adapter and the local chain are judged by one set of rules. Timelock encryption is the SDK's real one; what
only the drand beacon could open, `record_timelock` writes down when it is sealed.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import bittensor as bt
import pytest
from bittensor.result import ChainError as SdkChainError
from bittensor.result import RpcConnectionError

from perturbnet.chain import runtime
from perturbnet.chain.local import LocalChain
from perturbnet.chain.protocol import WeightsOnChain
from perturbnet.chain.rules import epoch_of
from perturbnet.errors import ChainRejected, NotRegistered
from perturbnet.rules.subnet import Metagraph
from perturbnet.wire import keys

Sealed = dict[bytes, tuple[list[int], list[int], int]]


def record_timelock(monkeypatch: pytest.MonkeyPatch) -> Sealed:
    """Let the SDK seal as ever, and remember what each ciphertext holds: the beacon's knowledge."""
    sealed: Sealed = {}
    core = import_module("bittensor_core")
    encrypt: Any = core.get_encrypted_commit_v2

    def encrypt_and_record(**values: Any) -> tuple[bytes, int]:
        ciphertext, reveal_round = encrypt(**values)
        sealed[bytes(ciphertext)] = (
            list(values["uids"]),
            list(values["weights"]),
            int(values["version_key"]),
        )
        return ciphertext, reveal_round

    monkeypatch.setattr(core, "get_encrypted_commit_v2", encrypt_and_record)
    return sealed


@dataclass(frozen=True)
class ComposedCall:
    """A call ready to be signed."""

    module: str
    function: str
    params: dict[str, Any]


@dataclass
class SubstrateTwin:
    """One connection: `silent` hangs every call, `lost` fails it, `drop_answer` includes it, then hangs."""

    chain: LocalChain
    sealed: Sealed = field(default_factory=dict)
    silent: bool = False
    lost: bool = False
    drop_answer: bool = False
    watch_failure: str | None = None
    hostile_axons: list[dict[str, Any]] | None = None
    token_symbols: dict[int, str] = field(default_factory=dict)
    closed: bool = False

    def balance(self, rao: int, netuid: int = 0) -> Any:
        return bt.Balance(int(rao), netuid)

    async def connect(self) -> None:
        await self._answer()

    async def close(self) -> None:
        self.closed = True

    async def _answer(self) -> None:
        if self.silent:
            await asyncio.Event().wait()
        if self.lost or self.closed:
            raise RpcConnectionError("the connection was reset")

    # Reads -----------------------------------------------------------------------------------------

    async def block_number(self) -> int:
        await self._answer()
        return await self.chain.block()

    async def finalized_block_number(self) -> int:
        return await self.block_number()

    async def block_hash(self, block: int | None = None) -> str:
        return f"0x{await self.block_number() if block is None else block:064x}"

    async def block_time(self) -> float:
        return 12.0

    async def spec_version(self) -> int:
        return 432

    async def constant(self, module: str, name: str) -> Any:
        raise NotImplementedError(f"{module}.{name}")

    async def query(
        self,
        module: str,
        storage_function: str,
        params: list[Any] | None = None,
        block_hash: str | None = None,
    ) -> Any:
        await self._answer()
        if module == "Commitments" and storage_function == "CommitmentOf":
            return await self._commitment_of(*(params or []))
        assert module == "SubtensorModule", module
        netuid, *rest = params or []
        if netuid != self.chain.netuid:
            return None
        if storage_function == "Uids":
            return await self.chain.uid(rest[0])
        if storage_function in {"Keys", "Weights"}:
            return await self._of_validator(storage_function, rest[0])
        return await self._of_subnet(storage_function)

    async def _of_subnet(self, name: str) -> Any:
        rules, graph = self.chain.rules, await self.chain.metagraph()
        values: dict[str, Callable[[], Any]] = {
            "CommitRevealWeightsEnabled": lambda: rules.commit_reveal_enabled,
            "WeightsSetRateLimit": lambda: rules.weights_rate_limit,
            "MinAllowedWeights": lambda: rules.min_allowed_weights,
            "MaxWeightsLimit": lambda: 65535,
            "SubnetEpochConsensus": lambda: "Yuma",
            "LastUpdate": lambda: [neuron.last_update for neuron in graph.neurons],
            "ValidatorPermit": lambda: [neuron.validator_permit for neuron in graph.neurons],
            "Tempo": lambda: rules.tempo,
            "RevealPeriodEpochs": lambda: rules.reveal_period_epochs,
            "SubnetEpochIndex": lambda: self._epoch(graph.block),
            "LastEpochBlock": lambda: self._epoch_start(graph.block),
            "PendingEpochAt": lambda: 0,
            "BlocksSinceLastStep": lambda: graph.block - self._epoch_start(graph.block),
        }
        return values[name]()

    def _epoch(self, block: int) -> int:
        return epoch_of(block, self.chain.rules.tempo, self.chain.netuid)

    def _epoch_start(self, block: int) -> int:
        return max(0, self._epoch(block) * (self.chain.rules.tempo + 1) - self.chain.netuid - 1)

    async def _of_validator(self, name: str, uid: int) -> Any:
        try:
            shown = await self.chain.weights(uid)
        except NotRegistered:  # a ValueQuery's default: the zero account, the empty row
            return bt.sp_core.ss58_encode(bytes(32), 42) if name == "Keys" else []
        return shown.hotkey if name == "Keys" else list(shown.weights)

    async def _commitment_of(self, netuid: int, hotkey: str) -> Any:
        found = await self.chain.commitment(hotkey) if netuid == self.chain.netuid else None
        if found is None:
            return None
        fields = [{f"Raw{len(data)}": "0x" + data.hex()} for data in found.fields]
        return {"deposit": 0, "block": found.block, "info": {"fields": fields}}

    async def query_map(
        self,
        module: str,
        storage_function: str,
        params: list[Any] | None = None,
        block_hash: str | None = None,
    ) -> list[tuple[Any, Any]]:
        await self._answer()
        if (module, storage_function) != ("SubtensorModule", "TimelockedWeightCommits"):
            return []
        epochs: dict[int, list[Any]] = {}
        for neuron in (await self.chain.metagraph()).neurons:
            shown: WeightsOnChain = await self.chain.weights(neuron.uid)
            for block in shown.pending_commits:
                epochs.setdefault(self._epoch(block), []).append((neuron.hotkey, block, "0x00", 1))
        return list(epochs.items())

    async def query_batch(
        self, module: str, storage_function: str, param_sets: list[list[Any]], block_hash: str | None = None
    ) -> list[Any]:
        return [await self.query(module, storage_function, params, block_hash) for params in param_sets]

    async def map_has_entries(
        self, module: str, storage_function: str, params: list[Any], block_hash: str | None = None
    ) -> bool:
        return bool(await self.query_map(module, storage_function, params, block_hash))

    async def runtime_call(
        self, api: str, method: str, params: list[Any], block_hash: str | None = None
    ) -> Any:
        await self._answer()
        assert (api, method) == ("SubnetInfoRuntimeApi", "get_metagraph"), (api, method)
        return self._record(await self.chain.metagraph()) if params == [self.chain.netuid] else None

    def _record(self, graph: Metagraph) -> dict[str, Any]:
        """The runtime's `Metagraph` record, as its codec decodes it (field names of spec 432)."""
        rules, neurons = self.chain.rules, graph.neurons
        return {
            "netuid": graph.netuid,
            "block": graph.block,
            "hotkeys": [neuron.hotkey for neuron in neurons],
            "coldkeys": [neuron.coldkey for neuron in neurons],
            "axons": self.hostile_axons or [_axon(neuron.ip, neuron.port) for neuron in neurons],
            "active": [neuron.active for neuron in neurons],
            "validator_permit": [neuron.validator_permit for neuron in neurons],
            "last_update": [neuron.last_update for neuron in neurons],
            "block_at_registration": [neuron.registered_block for neuron in neurons],
            "total_stake": [neuron.stake_rao for neuron in neurons],
            "tempo": rules.tempo,
            "weights_rate_limit": rules.weights_rate_limit,
            "weights_version": rules.weights_version,
            "min_allowed_weights": rules.min_allowed_weights,
            "max_weights_limit": 65535,
            "immunity_period": rules.immunity_period,
            "serving_rate_limit": rules.serving_rate_limit,
            "max_uids": rules.max_uids,
            "max_validators": rules.max_validators,
            "activity_cutoff": rules.activity_cutoff,
            "commit_reveal_weights_enabled": rules.commit_reveal_enabled,
            "commit_reveal_period": rules.reveal_period_epochs,
        }

    # Calls -----------------------------------------------------------------------------------------

    async def compose(self, call: Any) -> ComposedCall:
        await self._answer()
        return ComposedCall(*call)

    async def estimate_fee(self, call: Any, keypair: Any) -> Any:
        return bt.Balance(0)

    async def estimate_weight(self, call: Any, keypair: Any) -> dict[str, int]:
        return {"ref_time": 0, "proof_size": 0}

    async def submit(self, call: ComposedCall, keypair: Any, **options: Any) -> bt.ExtrinsicResult:
        """Sign with the caller's key, include in this block, and answer as the SDK's backend would."""
        await self._answer()
        assert call.params.get("mecid", 0) == 0
        assert call.params["netuid"] == self.chain.netuid
        name, args = self._translate(call)
        hotkey = keypair.ss58_address
        payload = await self.chain.compose(hotkey, name, args)
        try:
            block, _ = await self.chain.submit(hotkey, payload, keys.sign(keypair, runtime.DOMAIN, payload))
        except ChainRejected as error:
            failure = SdkChainError(error.detail or error.reason, error.reason)
            return bt.ExtrinsicResult(success=False, message=failure.message, error=failure)
        if self.drop_answer:
            await asyncio.Event().wait()
        if self.watch_failure is not None:
            failure = SdkChainError(self.watch_failure, self.watch_failure)
            return bt.ExtrinsicResult(success=False, message=failure.message, error=failure)
        return bt.ExtrinsicResult(
            success=True, message="Success", block_hash=f"0x{block:064x}", extrinsic_id=f"{block}-0003"
        )

    def _translate(self, call: ComposedCall) -> tuple[str, dict[str, Any]]:
        params = call.params
        if call.function == "set_mechanism_weights":
            row = [list(pair) for pair in zip(params["dests"], params["weights"], strict=True)]
            return "set_weights", {"row": row, "version_key": params["version_key"]}
        if call.function == "commit_timelocked_mechanism_weights":
            uids, values, version_key = self.sealed[bytes(params["commit"])]
            assert params["reveal_round"] > 0
            row = [list(pair) for pair in zip(uids, values, strict=True)]
            return "commit_weights", {"row": row, "version_key": version_key}
        if call.function == "serve_axon":
            kind = ipaddress.IPv6Address if params["ip_type"] == 6 else ipaddress.IPv4Address
            return "serve_axon", {"ip": str(kind(params["ip"])), "port": params["port"]}
        assert (call.module, call.function) == ("Commitments", "set_commitment"), call
        entries = params["info"]["fields"]
        fields = [value.removeprefix("0x") for entry in entries for value in entry.values()]
        return "set_commitment", {"fields": fields}

    async def blocks(self, *, finalized: bool = False) -> AsyncIterator[dict[str, Any]]:
        yield {"header": {"number": await self.block_number()}}


def _axon(ip: str | None, port: int) -> dict[str, Any]:
    address = ipaddress.ip_address(ip or "0.0.0.0")
    return {
        "block": 0,
        "version": 1,
        "ip": int(address),
        "port": port,
        "ip_type": address.version,
        "protocol": 4,
    }
