"""The adapter to bittensor (SDK 11): the only module that imports the SDK's chain calls.

- Reads are pinned to one block, and the runtime's own records are read in `records.py`.
- Writes are the intents `SetWeights` (which seals when the subnet asks for it) and `ServeAxon`, and the raw
  call `Commitments.set_commitment`, for which the SDK has no intent. Each waits for finality.
- Refusals become `ChainRejected` with the runtime's name. Where the SDK refuses before it signs, it tells
  only a code; the name is put back here. What may still take effect (a dropped watch, a lost socket) becomes
  `ChainUnavailable`.

Source: bittensor 11.3: client.py, intents/weights.py, intents/serving.py, result.py, _substrate.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator, Mapping
from typing import Any

import bittensor as bt
from bittensor.error_map import ErrorCode
from bittensor.result import ChainError as SdkChainError
from bittensor.result import RpcPolicyError

from perturbnet.chain.genesis import OneNetwork
from perturbnet.chain.protocol import (
    CLOSE_DEADLINE_S,
    U16_MAX,
    Hyperparameters,
    Submission,
    WeightsOnChain,
    check_fields,
    to_u16,
)
from perturbnet.chain.records import read_hyperparameters, read_metagraph, read_raw_fields
from perturbnet.chain.rpc import Rpc
from perturbnet.errors import ChainError, ChainRejected, ChainUnavailable, NotRegistered
from perturbnet.rules.subnet import Commitment, Metagraph
from perturbnet.wire.keys import Keypair

ERA_BLOCKS = 16  # an extrinsic not included by then never will be: a doubt ends with it
_GRAPH = ("SubnetInfoRuntimeApi", "get_metagraph")
_UIDS = ("SubtensorModule", "Uids")
_KEYS = ("SubtensorModule", "Keys")
_WEIGHTS = ("SubtensorModule", "Weights")
_LAST_UPDATE = ("SubtensorModule", "LastUpdate")
_SEALED = ("SubtensorModule", "TimelockedWeightCommits")
_SEALED_ONLY = ("SubtensorModule", "CommitRevealWeightsEnabled")
_COMMITMENT = ("Commitments", "CommitmentOf")

# Outcomes of watching an extrinsic that do not say whether it was included.
_IN_DOUBT = frozenset({"Dropped", "Usurped", "Retracted", "FinalityTimeout", "AlreadyImported", "Future"})

# The runtime's names for what the SDK refuses before signing, when it gives a code but no name.
_WEIGHTS_REASONS = {
    ErrorCode.NOT_REGISTERED: "HotKeyNotRegisteredInSubNet",
    ErrorCode.NOT_AUTHORIZED: "NeuronNoValidatorPermit",
    ErrorCode.INVALID_ARGUMENT: "WeightVecLengthIsLow",
}


class BittensorChain:
    """One subnet of a bittensor network over one connection."""

    def __init__(self, client: bt.Client, netuid: int, network: str) -> None:
        """Use a client that is connected; see `connect`."""
        self._client, self._netuid, self._network = client, netuid, network

    @classmethod
    async def connect(
        cls,
        network: str,
        netuid: int,
        *,
        one: OneNetwork | None = None,
        substrate: bt.Substrate | None = None,
    ) -> BittensorChain:
        """Open a connection to `finney`, `test` or an endpoint; `substrate` replaces the network, in tests.

        Raises:
            ChainUnavailable: no endpoint answers, or it serves another network than `one` knows.

        """
        backend = substrate or Rpc(network)
        client = bt.Client(network, substrate=backend)
        chain = cls(client, netuid, network)
        try:
            async with chain._translated({}):
                await client.connect()
                if one is not None:
                    one.require(network, await backend.block_hash(0))
        except BaseException:  # a deadline's cancellation too: half a connection is closed as well
            with contextlib.suppress(ChainError, TimeoutError):
                async with asyncio.timeout(CLOSE_DEADLINE_S):
                    await chain.close()
            raise
        return chain

    @property
    def netuid(self) -> int:
        """See `Chain`."""
        return self._netuid

    @property
    def network(self) -> str:
        """See `Chain`."""
        return self._network

    async def block(self) -> int:
        """See `Chain`."""
        async with self._translated({}):
            return int(await self._client.block())

    async def metagraph(self) -> Metagraph:
        """See `Chain`.

        Raises:
            ChainError: the subnet does not exist, or the answer is not a metagraph.

        """
        graph, block = await self._graph()
        async with self._translated({}):
            return read_metagraph(graph, self._netuid, block)

    async def hyperparameters(self) -> Hyperparameters:
        """See `Chain`.

        Raises:
            ChainError: the subnet does not exist, or its record lacks a rule.

        """
        graph, _ = await self._graph()
        async with self._translated({}):
            return read_hyperparameters(graph)

    async def uid(self, hotkey: str) -> int | None:
        """See `Chain`."""
        async with self._translated({}):
            value = await self._client.query(_UIDS, [self._netuid, hotkey])
        return None if value is None else int(value)

    async def set_weights(self, keypair: Keypair, weights: Mapping[int, int], version_key: int) -> Submission:
        """See `Chain`."""
        row = to_u16(weights)
        if not row:
            raise ChainRejected("WeightVecLengthIsLow", "no weight is positive")
        intent = bt.SetWeights(
            netuid=self._netuid,
            uids=list(row),
            weights=[float(value) for value in row.values()],
            version_key=version_key,
        )
        async with self._translated({}):
            sealed = bool(await self._client.query(_SEALED_ONLY, [self._netuid]))
        too_fast = "CommittingWeightsTooFast" if sealed else "SettingWeightsTooFast"
        async with self._translated({**_WEIGHTS_REASONS, ErrorCode.RATE_LIMITED: too_fast}):
            result = await self._client.execute(intent, _signer(keypair), period=ERA_BLOCKS)
            result.raise_for_failure()
        sealed = "reveal_round" in result.data
        return Submission(await self._block_of(result), "commit" if sealed else "set", _reference(result))

    async def weights(self, uid: int) -> WeightsOnChain:
        """See `Chain`."""
        netuid = self._netuid
        async with self._translated({}):
            view = await self._client.at()
            hotkey, row, updates, sealed = await asyncio.gather(
                view.query(_KEYS, [netuid, uid]),
                view.query(_WEIGHTS, [netuid, uid]),
                view.query(_LAST_UPDATE, [netuid]),
                view.query_map(_SEALED, [netuid]),
            )
        if hotkey is None or uid >= len(updates or ()):
            raise NotRegistered(f"uid {uid} is not registered on netuid {netuid} at block {view.block}")
        mine = [
            int(block) for _, commits in sealed or () for who, block, *_ in commits or () if who == hotkey
        ]
        pairs = tuple((int(target), int(value)) for target, value in row or ())
        return WeightsOnChain(uid, str(hotkey), pairs, int(updates[uid]), tuple(sorted(mine)))

    async def serve(self, keypair: Keypair, ip: str, port: int) -> int:
        """See `Chain`."""
        try:
            ipaddress.ip_address(ip)
        except ValueError:
            raise ChainRejected("InvalidIpAddress", f"{ip!r} is not an address") from None
        if not 1 <= port <= U16_MAX:
            raise ChainRejected("InvalidPort", f"port {port}; 1 to {U16_MAX} are allowed")
        async with self._translated({ErrorCode.RATE_LIMITED: "ServingRateLimitExceeded"}):
            intent = bt.ServeAxon(netuid=self._netuid, ip=ip, port=port)
            result = await self._client.execute(intent, _signer(keypair), period=ERA_BLOCKS)
            result.raise_for_failure()
        return await self._block_of(result)

    async def set_commitment(self, keypair: Keypair, *fields: bytes) -> int:
        """See `Chain`."""
        check_fields(fields)
        info = {"fields": [{f"Raw{len(data)}": "0x" + data.hex()} for data in fields]}
        call = bt.calls.Commitments.set_commitment(netuid=self._netuid, info=info)
        async with self._translated({}):
            result = await self._client.submit_call(
                call, _signer(keypair), signer="hotkey", period=ERA_BLOCKS
            )
            result.raise_for_failure()
        return await self._block_of(result)

    async def commitment(self, hotkey: str) -> Commitment | None:
        """See `Chain`; fields of other kinds than raw bytes are left out."""
        async with self._translated({}):
            record = await self._client.query(_COMMITMENT, [self._netuid, hotkey])
        if not isinstance(record, dict):
            return None
        entries = (record.get("info") or {}).get("fields") or ()
        return Commitment(int(record.get("block") or 0), read_raw_fields(entries))

    async def close(self) -> None:
        """See `Chain`."""
        async with self._translated({}):
            await self._client.close()

    async def _graph(self) -> tuple[dict[str, Any], int]:
        """The runtime's record of the subnet: neurons and rules in one call, at one block."""
        async with self._translated({}):
            view = await self._client.at()
            graph = await view.runtime(_GRAPH, [self._netuid])
        if not isinstance(graph, dict):
            raise ChainError(f"netuid {self._netuid} does not exist on {self._network}")
        return graph, int(view.block)

    async def _block_of(self, result: bt.ExtrinsicResult) -> int:
        """The block that included the extrinsic; the head, where the node did not say."""
        height = (result.extrinsic_id or "").partition("-")[0]
        return int(height) if height.isdigit() else await self.block()

    @contextlib.asynccontextmanager
    async def _translated(self, reasons: Mapping[ErrorCode, str]) -> AsyncIterator[None]:
        """Turn the SDK's errors into ours; `reasons` names refusals that come with a code only."""
        try:
            yield
        except SdkChainError as error:
            raise _refusal(error, reasons) from error
        except RpcPolicyError as error:
            after = f"; it says to retry after {error.retry_after}" if error.retry_after else ""
            raise ChainUnavailable(f"{self._network} refuses our requests: {error}{after}") from error
        except (bt.BittensorError, OSError) as error:
            raise ChainUnavailable(f"{self._network}: {str(error) or type(error).__name__}") from error
        except (ValueError, LookupError) as error:  # the codec's own: a runtime newer than the SDK
            hint = "update bittensor, if the runtime was upgraded"
            raise ChainError(
                f"{self._network} answered what the SDK cannot read: {error}", hint=hint
            ) from error


def _refusal(error: SdkChainError, reasons: Mapping[ErrorCode, str]) -> ChainError:
    reason = error.name or reasons.get(error.code)
    if reason is None and error.code is not ErrorCode.UNKNOWN:
        reason = error.code.value
    if reason is None or reason in _IN_DOUBT:
        return ChainUnavailable(f"{reason or 'no answer'}: {error.message}")
    return ChainRejected(reason, error.message)


def _signer(keypair: Keypair) -> Any:
    return keypair


def _reference(result: bt.ExtrinsicResult) -> str:
    return str(result.extrinsic_id or result.block_hash or "")
