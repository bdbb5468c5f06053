"""Deadlines of our own around any chain, a silent socket rebuilt, and the read after a doubt.

Both lines of the SDK block for 300 s on a server that accepts and then says nothing. So each call here has a
deadline; when it passes, or when the endpoint is gone, the connection is dropped and the next call builds a
new one, to the next endpoint where there are several. Each gets its share of a call's time. When all of them
have failed, attempts wait longer and longer, with jitter, so that nobody storms a node that comes back.

A submission that ends in `ChainTimeout` or `ChainUnavailable` may have taken effect. It is never repeated
here: `reconcile_weights` reads what the chain shows, and the caller decides.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

from perturbnet.chain.protocol import (
    CLOSE_DEADLINE_S,
    Chain,
    Hyperparameters,
    Submission,
    WeightsOnChain,
    to_u16,
)
from perturbnet.errors import ChainError, ChainRejected, ChainTimeout, ChainUnavailable
from perturbnet.rules.subnet import Commitment, Metagraph
from perturbnet.wire.keys import Keypair

READ_DEADLINE_S = 30.0
SUBMIT_DEADLINE_S = 120.0  # inclusion and finality take about six blocks of 12 s
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 15.0
T = TypeVar("T")
Connect = Callable[[], Awaitable[Chain]]
_log = logging.getLogger(__name__)


class Effect(StrEnum):
    """What became of a vector of weights whose submission ended in doubt."""

    APPLIED = "applied"  # the chain shows it
    PENDING = "pending"  # it is sealed and waits for its reveal
    ABSENT = "absent"  # the chain shows no trace of it


Observer = Callable[[str, float, object], None]
"""(call, seconds, what came of it: its answer, the error it ended with, or None when it was cancelled)."""


class DeadlineChain:
    """A `Chain` whose every call ends in time.

    `connect` builds the real one when needed; `spares` are further ways to the same network.

    `observe` may be set by whoever counts; it must return at once and raise nothing.
    """

    def __init__(
        self,
        connect: Connect,
        *,
        netuid: int,
        network: str,
        spares: Sequence[Connect] = (),
        read_deadline_s: float = READ_DEADLINE_S,
        submit_deadline_s: float = SUBMIT_DEADLINE_S,
        chance: random.Random | None = None,
    ) -> None:
        """Connect nothing yet. `chance` spreads the waits."""
        self._ways, self._netuid, self._network = (connect, *spares), netuid, network
        self._way = self._failures = 0  # which endpoint is next; how many failed since one last answered
        self._chance = chance or random.Random()  # noqa: S311 - jitter
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
                chain = await self._connected(deadline_s)
                found = await use(chain)
        except ChainUnavailable:
            await self._drop(chain, failed=True)
            raise
        except TimeoutError:
            await self._drop(chain, failed=True)
            if not deadline.expired():  # the chain's own, shorter patience
                raise ChainTimeout(f"{name}: {self._network} gave up waiting for an answer") from None
            raise ChainTimeout(f"{name}: no answer from {self._network} within {deadline_s:g} s") from None
        except ChainRejected:  # an answer, too
            self._failures = 0
            raise
        self._failures = 0
        return found

    async def _connected(self, deadline_s: float) -> Chain:
        async with self._lock:
            for left in reversed(range(len(self._ways))):
                if self._chain is not None:
                    break
                await asyncio.sleep(min(self._wait_s(), deadline_s / 3))
                share_s = deadline_s / (len(self._ways) + 1) if len(self._ways) > 1 else None
                try:
                    self._chain = await self._connect_next(share_s)
                except (ChainUnavailable, TimeoutError) as error:
                    if not left:
                        raise
                    _log.warning("%s: %s; the next endpoint", self._network, str(error) or "silent")
            if self._chain is None:
                raise AssertionError("the last attempt raises")
            return self._chain

    async def _connect_next(self, share_s: float | None) -> Chain:
        """Connect to the endpoint whose turn it is, or let it be the next one's."""
        try:
            async with asyncio.timeout(share_s):
                chain = await self._ways[self._way]()
        except (ChainUnavailable, TimeoutError, asyncio.CancelledError):  # the last: the call's own deadline
            self._count_failure()
            raise
        self.connections += 1
        if self._failures:
            _log.info("Connected to %s after %d failures", chain.network, self._failures)
        return chain

    def _count_failure(self) -> None:
        self._failures += 1
        self._way = (self._way + 1) % len(self._ways)

    def _wait_s(self) -> float:
        """How long to wait before the next attempt: not at all until every endpoint has failed once more."""
        beyond = self._failures - len(self._ways) - 1
        if beyond < 0:
            return 0.0
        longest_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(beyond, 10))
        return longest_s * self._chance.uniform(0.5, 1.0)

    async def _drop(self, chain: Chain | None, *, failed: bool = False) -> None:
        """Forget this connection, unless another call has replaced it already, and close it in time."""
        if chain is None or chain is not self._chain:
            return
        self._chain = None
        if failed:
            self._count_failure()
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
