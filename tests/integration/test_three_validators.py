"""Three validators with orders and choices of their own, on one chain: how soon do they agree on the winners?

Each has its own secret, so it draws other images in another order, and it asks half of the miners at a time.
Miners differ in how much they change beyond the smallest flip, and in how often they fail. What is compared:
the ranks by mean score (Spearman), and the vectors. Printed with `-s`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from perturbnet.chain import LocalChain, to_u16
from perturbnet.ledger import fold
from perturbnet.rounds.draws import EpochDraws
from perturbnet.rounds.policy import secret_source
from perturbnet.rounds.terms import weigh
from perturbnet.wire.images import decode_base64, decode_png
from perturbnet.wire.messages import AttackChallenge
from tests.support.fakes import NETUID, BlockEngine, MemorySource, flip, keypair, response_body
from tests.support.validator.world import CHAIN_RULES, STAKE_RAO, Validator, World

MINERS, VALIDATORS, ROUNDS, HISTORY = 12, 3, 100, 40
LOOKS = (20, 40, 60, 80, 100)
BOOTSTRAP = 2000
SEEDS = 3
FAILS = 0.06  # of its answers for each number: the twelfth fails two times of three


@dataclass
class Skill:
    """A miner that changes more and fails more often the higher its number."""

    number: int
    seed: int

    def __call__(self, challenge: AttackChallenge) -> bytes:
        clean = decode_png(decode_base64(challenge.clean_image_b64))
        dice = np.random.default_rng([self.seed, self.number, int(challenge.challenge_id[:8], 16)])
        if dice.random() < FAILS * self.number:
            return response_body(challenge.task_id, challenge.challenge_id, clean)
        found = flip(BlockEngine(), clean).astype(np.int16)
        step = np.sign(found - clean)
        more = dice.random(step.shape) < 0.06 * self.number
        pixels = np.clip(found + step * more, 0, 255).astype(np.uint8)
        return response_body(challenge.task_id, challenge.challenge_id, pixels)


async def make_chain(path: Path) -> LocalChain:
    """Three validators with permits, and the miners behind them."""
    chain = LocalChain.create(path, NETUID, rules=CHAIN_RULES, block_time_ms=0)
    await chain.advance(1)
    for uid in range(VALIDATORS + MINERS):
        await chain.register(
            keypair(uid + 1).ss58_address,
            keypair(uid + 1001).ss58_address,
            STAKE_RAO if uid < VALIDATORS else 0,
        )
        if uid >= VALIDATORS:
            await chain.serve(keypair(uid + 1), "127.0.0.1", 9000 + uid)
    return chain


def make_validators(folder: Path, chain: LocalChain, seed: int) -> list[tuple[World, Validator]]:
    """The three, each with its own secret, on one data set."""
    made = []
    for number in range(VALIDATORS):
        world = World(
            folder / f"validator-{number}", chain, keypair(number + 1), environment=settings(folder)
        )
        world.folder.mkdir()
        world.source = MemorySource(ROUNDS * 8, name="shared")
        for uid in range(VALIDATORS, VALIDATORS + MINERS):
            world.courier.answers = {**world.courier.answers, uid: Skill(uid - VALIDATORS, seed)}
        validator = world.open()
        secret = secret_source(f"secret {seed} of validator {number}")
        validator.rounds.draws = EpochDraws(validator.journal, world.source.identity, secret)
        made.append((world, validator))
    return made


def settings(folder: Path) -> dict[str, str]:
    return {
        "PERTURB_LOCAL_CHAIN": str(folder / "chain.sqlite"),
        "PERTURB_HISTORY_SIZE": str(HISTORY),
        "PERTURB_MIN_PROCESSED_COUNT": "4",
        "PERTURB_K_MINERS": str(MINERS // 2),
    }


def means(validator: Validator) -> NDArray[np.float64]:
    """Mean score of each miner, by uid."""
    scores = {standing.uid: standing.scores_ppb for standing in validator.journal.state.standings()}
    return np.array([np.mean(scores[uid] or [0]) for uid in range(VALIDATORS, VALIDATORS + MINERS)])


def spearman(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Correlation of ranks; scores are never tied here."""
    ranks = [np.argsort(np.argsort(values)) for values in (first, second)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def interval(values: list[float]) -> tuple[float, float, float]:
    """Mean, and the bootstrap's 95 % interval of it."""
    dice = np.random.default_rng(0)
    drawn = dice.choice(values, (BOOTSTRAP, len(values))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(np.mean(values)), float(low), float(high)


async def run(folder: Path, seed: int, look: Callable[[int, list[Validator]], None]) -> list[World]:
    """So many rounds of each, and weights at the end."""
    chain = await make_chain(folder / "chain.sqlite")
    made = make_validators(folder, chain, seed)
    try:
        for done in range(1, ROUNDS + 1):
            for _, validator in made:
                await validator.rounds.run()
                await validator.rounds.finish_telling()
            if done in LOOKS:
                look(done, [validator for _, validator in made])
            await chain.advance(1)
        for _, validator in made:
            await validator.weights.run()
    finally:
        for _, validator in made:
            with closing(validator.journal):
                pass
    return [world for world, _ in made]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_three_validators_agree_on_the_winners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda handle: None)  # no power is cut here
    found: dict[int, list[float]] = {rounds: [] for rounds in LOOKS}

    def look(rounds: int, validators: list[Validator]) -> None:
        found[rounds] += [spearman(means(a), means(b)) for a, b in combinations(validators, 2)]

    for seed in range(SEEDS):
        folder = tmp_path / str(seed)
        folder.mkdir()
        worlds = asyncio.run(run(folder, seed, look))
        check_last(worlds)
    table = {rounds: interval(values) for rounds, values in found.items()}
    sys.stdout.write(json.dumps({"spearman: mean, low, high": table}) + "\n")
    assert table[LOOKS[-1]][1] > 0.8, table
    assert table[LOOKS[-1]][0] > table[LOOKS[0]][0] - 0.05, table


def check_last(worlds: list[World]) -> None:
    """Each had its own images; the best miner is the same for all, and the chain shows their vectors."""
    states = [fold(world.entries()) for world in worlds]
    orders = [tuple(world.source.reads) for world in worlds]
    assert len(set(orders)) == VALIDATORS, "the traversals are the same"
    vectors = []
    for uid, (world, state) in enumerate(zip(worlds, states, strict=True)):
        assert state.rules is not None
        vector = weigh(state.standings(), state.rules[1]).shares_ppb
        assert dict(asyncio.run(world.chain.weights(uid)).weights) == to_u16(vector)
        vectors.append(vector)
    winners = [max(vector, key=lambda uid: vector[uid]) for vector in vectors]
    assert all(winner in set(vector) for winner in winners for vector in vectors), (
        "one validator's winner earns nothing with another"
    )
