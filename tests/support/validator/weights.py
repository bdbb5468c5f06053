"""What tests of weights do: play a round, set weights, spoil a submission, read log and chain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from perturbnet.chain import Submission, WeightsOnChain
from perturbnet.errors import ChainError
from perturbnet.ledger.leaves import SubmissionLeaf, WeightsLeaf
from perturbnet.wire.keys import Keypair
from tests.support.validator.world import World


def submissions(world: World) -> list[SubmissionLeaf]:
    return [entry.leaf for entry in world.entries() if isinstance(entry.leaf, SubmissionLeaf)]


def intents(world: World) -> list[WeightsLeaf]:
    return [entry.leaf for entry in world.entries() if isinstance(entry.leaf, WeightsLeaf)]


def on_chain(world: World) -> WeightsOnChain:
    return asyncio.run(world.chain.weights(0))


def set_weights(world: World, *, times: int = 1) -> None:
    async def main() -> None:
        validator = world.open()
        try:
            for _ in range(times):
                await validator.weights.run()
        finally:
            validator.journal.close()

    asyncio.run(main())


def play(world: World) -> None:
    """One round without weights."""

    async def main() -> None:
        validator = world.open()
        try:
            await validator.rounds.run()
        finally:
            validator.journal.close()

    asyncio.run(main())


SetWeights = Callable[[Keypair, Mapping[int, int], int], Any]


def replace_submission(world: World, change: Callable[[SetWeights], SetWeights]) -> None:
    setattr(world.chain, "set_weights", change(world.chain.set_weights))  # noqa: B010 - mypy sees a method


def fail_before(error: ChainError) -> Callable[[SetWeights], SetWeights]:
    """The first submission never reaches the chain."""

    def change(real: SetWeights) -> SetWeights:
        errors = [error]

        async def submit(keypair: Keypair, weights: Mapping[int, int], version_key: int) -> Submission:
            if errors:
                raise errors.pop()
            found: Submission = await real(keypair, weights, version_key)
            return found

        return submit

    return change


def fail_after(error: ChainError) -> Callable[[SetWeights], SetWeights]:
    """The first submission takes effect, but its answer never comes."""

    def change(real: SetWeights) -> SetWeights:
        errors = [error]

        async def submit(keypair: Keypair, weights: Mapping[int, int], version_key: int) -> Submission:
            found: Submission = await real(keypair, weights, version_key)
            if errors:
                raise errors.pop()
            return found

        return submit

    return change
