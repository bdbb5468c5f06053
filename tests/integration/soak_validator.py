"""The validator of the soak: `perturbnet.validator.main` with a small classifier and a chain that fails.

    python -m tests.integration.soak_validator        settings from the environment, as the neuron's

All that is replaced: what it holds (`tests.support.fakes`, exact and quick), and the chain behind the
deadlines. That one drops calls, says nothing, answers from a node that lags behind, or includes a submission
after everybody has stopped waiting. SOAK_FAULTS is the share of calls that go wrong; SOAK_SUBMITTED names a
file to which each weight vector goes, a line each, when the chain takes it.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from perturbnet.bootstrap.manifest import Manifest
from perturbnet.bootstrap.opening import Held
from perturbnet.chain import DeadlineChain, LocalChain
from perturbnet.chain.protocol import Chain, Submission, WeightsOnChain
from perturbnet.config import Settings
from perturbnet.errors import ChainError, ChainUnavailable
from perturbnet.rules.subnet import Commitment, Metagraph
from perturbnet.validator import main
from perturbnet.wire.keys import Keypair
from tests.support.fakes import BlockEngine, MemorySource

READ_DEADLINE_S, SUBMIT_DEADLINE_S = 0.5, 1.5
LATE_S = 2.5
LAG_BLOCKS = 40
FINGERPRINT = "f" * 64


class FailingChain:
    """A local chain whose calls go wrong by chance. Everything else passes through."""

    def __init__(self, chain: LocalChain, *, share: float, submitted: Path, dice: random.Random) -> None:
        self._chain, self._share, self._submitted, self._dice = chain, share, submitted, dice
        self._late: set[asyncio.Task[object]] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chain, name)

    async def block(self) -> int:
        lag = LAG_BLOCKS if await self._fault() else 0
        return max(1, await self._chain.block() - lag)

    async def metagraph(self) -> Metagraph:
        found = await self._chain.metagraph()
        if not await self._fault():
            return found
        if self._dice.random() < 0.5:
            raise ChainError("answered what the SDK cannot read: a fault of the soak")
        return replace(found, block=max(1, found.block - LAG_BLOCKS))

    async def uid(self, hotkey: str) -> int | None:
        return None if await self._fault() else await self._chain.uid(hotkey)

    async def weights(self, uid: int) -> WeightsOnChain:
        shown = await self._chain.weights(uid)
        if await self._fault():
            return WeightsOnChain(uid, shown.hotkey, (), 1, ())
        return shown

    async def commitment(self, hotkey: str) -> Commitment | None:
        await self._fault()
        return await self._chain.commitment(hotkey)

    async def set_weights(self, keypair: Keypair, weights: Mapping[int, int], version_key: int) -> Submission:
        if await self._fault():
            await self._include_late(self._take(keypair, weights, version_key))
        return await self._take(keypair, weights, version_key)

    async def set_commitment(self, keypair: Keypair, *fields: bytes) -> int:
        if await self._fault():
            await self._include_late(self._chain.set_commitment(keypair, *fields))
        return await self._chain.set_commitment(keypair, *fields)

    async def _take(self, keypair: Keypair, weights: Mapping[int, int], version_key: int) -> Submission:
        done = await self._chain.set_weights(keypair, weights, version_key)
        with self._submitted.open("a") as file:
            file.write(json.dumps(sorted(weights.items())) + "\n")
        return done

    async def _fault(self) -> bool:
        """By chance: drop, stall, or say that the answer is to be wrong."""
        if self._dice.random() >= self._share:
            return False
        match self._dice.randrange(3):
            case 0:
                raise ChainUnavailable("the connection was dropped: a fault of the soak")
            case 1:
                await asyncio.sleep(3600)
        return True

    async def _include_late(self, submission: Any) -> None:
        """Say nothing in time, and let it take effect afterwards."""

        async def later() -> None:
            await asyncio.sleep(LATE_S)
            await asyncio.gather(submission, return_exceptions=True)

        task: asyncio.Task[object] = asyncio.create_task(later())
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        await asyncio.sleep(3600)


def open_failing(network: str, netuid: int, *, local_path: Path, **_: object) -> DeadlineChain:
    """What `open_chain` gives, with faults inside the deadlines."""
    share, submitted = float(os.environ["SOAK_FAULTS"]), Path(os.environ["SOAK_SUBMITTED"])
    inner = FailingChain(LocalChain(local_path), share=share, submitted=submitted, dice=random.Random())

    async def connect() -> Chain:
        return cast("Chain", inner)

    return DeadlineChain(
        connect,
        netuid=netuid,
        network=network,
        read_deadline_s=READ_DEADLINE_S,
        submit_deadline_s=SUBMIT_DEADLINE_S,
    )


def hold(_settings: Settings) -> Held:
    """The small classifier and its textures, in the place of what `perturb bootstrap` prepared."""

    class Prepared:
        digest = FINGERPRINT

    return Held(cast("Manifest", Prepared()), BlockEngine(), MemorySource(int(os.environ["SOAK_ROWS"])))


if __name__ == "__main__":
    setattr(main, "open_chain", open_failing)  # noqa: B010 - mypy sees functions
    setattr(main, "open_held", hold)  # noqa: B010
    main.main()
