"""Deadlines of our own around any chain, a silent socket rebuilt, and the read after a doubt.

Both lines of the SDK block for 300 s on a server that accepts and then says nothing. So each call here has a
deadline; when it passes, or when the endpoint is gone, the connection is dropped and the next call builds a
new one.

A submission that ends in `ChainTimeout` or `ChainUnavailable` may have taken effect. It is never repeated
here: `reconcile_weights` reads what the chain shows, and the caller decides.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import TypeVar

from perturbnet.chain.protocol import (
    Chain,
    Commitment,
    Hyperparameters,
    Metagraph,
    Submission,
    WeightsOnChain,
    to_u16,
)
from perturbnet.errors import ChainError, ChainTimeout, ChainUnavailable
from perturbnet.identity import Keypair

READ_DEADLINE_S = 30.0
SUBMIT_DEADLINE_S = 120.0  # inclusion and finality take about six blocks of 12 s
CLOSE_DEADLINE_S = 2.0
T = TypeVar("T")
_log = logging.getLogger(__name__)


class Effect(StrEnum):
    """What became of a vector of weights whose submission ended in doubt."""

    APPLIED = "applied"  # the chain shows it
    PENDING = "pending"  # it is sealed and waits for its reveal
    ABSENT = "absent"  # the chain shows no trace of it


Observer = Callable[[str, float, object], None]
"""(call, seconds, what came of it: its answer, the error it ended with, or None when it was cancelled)."""


class DeadlineChain:
    """A `Chain` whose every call ends in time. `connect` builds the real one when needed.

    `observe` may be set by whoever counts; it must return at once and raise nothing.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Chain]],
        *,
        netuid: int,
        network: str,
        read_deadline_s: float = READ_DEADLINE_S,
        submit_deadline_s: float = SUBMIT_DEADLINE_S,
    ) -> None:
        """Connect nothing yet."""
        self._connect, self._netuid, self._network = connect, netuid, network
        self._read_deadline_s, self._submit_deadline_s = read_deadline_s, submit_deadline_s
        self._chain: Chain | None = None
        self._lock = asyncio.Lock()
        self.observe: Observer | None = None
        self.connections = 0  # how often a connection was built, for the log and the metrics

    @property
    def netuid(self) -> int:
        """See `Chain`."""
        return self._netuid

    @property
    def network(self) -> str:
        """See `Chain`."""
        return self._network

    async def block(self) -> int:
        """See `Chain`; also raises `ChainTimeout`, as all calls here do."""
        return await self._call("block", self._read_deadline_s, lambda chain: chain.block())

    async def metagraph(self) -> Metagraph:
        """See `Chain`."""
        return await self._call("metagraph", self._read_deadline_s, lambda chain: chain.metagraph())

    async def hyperparameters(self) -> Hyperparameters:
        """See `Chain`."""
        return await self._call(
            "hyperparameters", self._read_deadline_s, lambda chain: chain.hyperparameters()
        )

    async def uid(self, hotkey: str) -> int | None:
        """See `Chain`."""
        return await self._call("uid", self._read_deadline_s, lambda chain: chain.uid(hotkey))

    async def set_weights(self, keypair: Keypair, weights: Mapping[int, int], version_key: int) -> Submission:
        """See `Chain`."""
        deadline_s = self._submit_deadline_s
        return await self._call(
            "set_weights", deadline_s, lambda chain: chain.set_weights(keypair, weights, version_key)
        )

    async def weights(self, uid: int) -> WeightsOnChain:
        """See `Chain`."""
        return await self._call("weights", self._read_deadline_s, lambda chain: chain.weights(uid))

    async def serve(self, keypair: Keypair, ip: str, port: int) -> int:
        """See `Chain`."""
        return await self._call(
            "serve", self._submit_deadline_s, lambda chain: chain.serve(keypair, ip, port)
        )

    async def set_commitment(self, keypair: Keypair, *fields: bytes) -> int:
        """See `Chain`."""
        deadline_s = self._submit_deadline_s
        return await self._call(
            "set_commitment", deadline_s, lambda chain: chain.set_commitment(keypair, *fields)
        )

    async def commitment(self, hotkey: str) -> Commitment | None:
        """See `Chain`."""
        return await self._call("commitment", self._read_deadline_s, lambda chain: chain.commitment(hotkey))

    async def close(self) -> None:
        """See `Chain`; never waits longer than `CLOSE_DEADLINE_S`."""
        if self._chain is not None:
            await self._drop(self._chain)

    async def _call(self, name: str, deadline_s: float, use: Callable[[Chain], Awaitable[T]]) -> T:
        """One call within its deadline; whoever observes is told."""
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        found: T | ChainError | None = None
        try:
            found = await self._in_time(name, deadline_s, use)
        except ChainError as error:
            found = error
            raise
        else:
            return found
        finally:
            if self.observe is not None:
                self.observe(name, loop.time() - started_s, found)

    async def _in_time(self, name: str, deadline_s: float, use: Callable[[Chain], Awaitable[T]]) -> T:
        chain: Chain | None = None
        deadline = asyncio.timeout(deadline_s)
        try:
            async with deadline:
                chain = await self._connected()
                return await use(chain)
        except ChainUnavailable:
            await self._drop(chain)
            raise
        except TimeoutError:
            await self._drop(chain)
            if not deadline.expired():  # the chain's own, shorter patience
                raise ChainTimeout(f"{name}: {self._network} gave up waiting for an answer") from None
            raise ChainTimeout(f"{name}: no answer from {self._network} within {deadline_s:g} s") from None

    async def _connected(self) -> Chain:
        async with self._lock:
            if self._chain is None:
                self._chain = await self._connect()
                self.connections += 1
            return self._chain

    async def _drop(self, chain: Chain | None) -> None:
        """Forget this connection, unless another call has replaced it already, and close it in time."""
        if chain is None or chain is not self._chain:
            return
        self._chain = None
        try:
            async with asyncio.timeout(CLOSE_DEADLINE_S):
                await chain.close()
        except (TimeoutError, OSError, ChainError) as error:
            _log.warning("the connection to %s did not close: %s", self._network, str(error) or "timeout")


async def reconcile_weights(chain: Chain, uid: int, expected: Mapping[int, int], since_block: int) -> Effect:
    """Tell from the chain whether weights submitted at or after `since_block` took effect.

    `since_block` is the head read before the submission. `ABSENT` is final once the extrinsic's era (16
    blocks) is over; before that a retry is still safe, for the rate limit lets only one of the two in. A
    pending commit counts whatever is in it, for nobody can look; with one validator process per hotkey it can
    only be ours.

    Raises:
        NotRegistered: the uid is gone.
        ChainTimeout, ChainUnavailable: the chain cannot be read either; ask again later, and submit nothing
            until then.

    """
    shown = await chain.weights(uid)
    if any(block >= since_block for block in shown.pending_commits):
        return Effect.PENDING
    if shown.last_update >= since_block and to_u16(dict(shown.weights)) == to_u16(expected):
        return Effect.APPLIED
    return Effect.ABSENT
