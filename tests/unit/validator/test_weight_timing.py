"""When weights are set, when not, and what an operator is told at the start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from perturbnet.chain import ChainRules, Submission
from perturbnet.chain.rules import epoch_of
from perturbnet.errors import ChainRejected, ChainTimeout, ChainUnavailable
from perturbnet.ledger.leaves import MetagraphLeaf, SubmissionLeaf, WeightsLeaf
from perturbnet.rules.subnet import Metagraph, Neuron
from perturbnet.validator.weight_setting import RETRY_BLOCKS, WeightSetter, find_obstacles, is_time
from perturbnet.wire.keys import Keypair
from tests.support.fakes import NETUID
from tests.support.validator.weights import intents, on_chain, play, set_weights, submissions
from tests.support.validator.world import CHAIN_RULES, World, make_world

TEMPO = 360


@pytest.mark.parametrize("netuid", [0, 3, 44])
def test_the_window_is_the_end_of_each_epoch(netuid: int) -> None:
    for block in range(5000, 5000 + 3 * TEMPO):
        expected = epoch_of(block + 60, TEMPO, netuid) > epoch_of(block, TEMPO, netuid)
        found = is_time(block, block - 1, tempo=TEMPO, netuid=netuid, window_blocks=60)
        assert found == expected, block


def test_who_missed_an_epoch_does_not_wait_for_the_window() -> None:
    first = 361 * 20  # netuid 3: in the middle of an epoch
    assert not is_time(first, first - TEMPO, tempo=TEMPO, netuid=3, window_blocks=60)
    assert is_time(first, first - 2 * TEMPO, tempo=TEMPO, netuid=3, window_blocks=60)


def test_an_epoch_shorter_than_the_window_is_all_window() -> None:
    assert all(is_time(block, block - 1, tempo=6, netuid=3, window_blocks=60) for block in range(100, 120))


def set_in_window(world: World, window_blocks: int) -> None:
    async def main() -> None:
        validator = world.open()
        try:
            await WeightSetter(validator.journal, world.chain, world.keypair, window_blocks).run()
        finally:
            validator.journal.close()

    asyncio.run(main())


def test_weights_are_set_once_in_each_window(tmp_path: Path) -> None:
    world = make_world(tmp_path, rules=replace(CHAIN_RULES, tempo=99, weights_rate_limit=50))
    play(world)
    for _ in range(30):
        asyncio.run(world.chain.advance(10))
        set_in_window(world, 20)
    blocks = [leaf.block for leaf in submissions(world)]
    assert len(blocks) == 3
    assert all((block + NETUID + 1) % 100 >= 80 for block in blocks), blocks


def refuse_always(world: World, error: Exception) -> list[int]:
    """Every submission is refused; the blocks at which they came."""
    blocks: list[int] = []

    async def submit(_keypair: Keypair, _weights: Mapping[int, int], _version_key: int) -> Submission:
        blocks.append(await world.chain.block())
        raise error

    setattr(world.chain, "set_weights", submit)  # noqa: B010 - mypy sees a method
    return blocks


def test_a_vector_that_is_refused_for_good_costs_two_leaves_an_epoch(tmp_path: Path) -> None:
    world = make_world(tmp_path, rules=replace(CHAIN_RULES, tempo=40))
    play(world)
    blocks = refuse_always(world, ChainRejected("NeuronNoValidatorPermit", "uid 0"))

    async def main() -> None:
        validator = world.open()
        try:
            for _ in range(35):
                await validator.weights.run()
                await world.chain.advance(5)
        finally:
            validator.journal.close()

    asyncio.run(main())
    waits = [after - before for before, after in pairwise(blocks)]
    assert waits == [RETRY_BLOCKS, 20, 40, 40, 40]
    assert len(intents(world)) == len(submissions(world)) == len(blocks)


def test_after_a_restart_a_refused_vector_still_waits(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    play(world)
    blocks = refuse_always(world, ChainRejected("NeuronNoValidatorPermit", "uid 0"))
    for _ in range(3):
        set_weights(world, times=3)
    assert len(blocks) == 1


def test_what_is_included_late_is_not_submitted_twice(tmp_path: Path) -> None:
    """No answer came, the chain shows nothing, and blocks later the extrinsic is there after all."""
    world = make_world(tmp_path)
    play(world)
    real, late = world.chain.set_weights, []

    async def submit(signer: Keypair, weights: Mapping[int, int], version_key: int) -> Submission:
        late.append((signer, dict(weights), version_key))
        raise ChainTimeout("no answer within 120 s")

    setattr(world.chain, "set_weights", submit)  # noqa: B010 - mypy sees a method
    set_weights(world)
    asyncio.run(world.chain.advance(12))
    set_weights(world)
    assert [leaf.outcome for leaf in submissions(world)] == ["ambiguous"]
    [call] = late
    asyncio.run(real(*call))
    asyncio.run(world.chain.advance(12))
    world.chain.set_weights = real  # type: ignore[method-assign]
    set_weights(world)
    assert [leaf.outcome for leaf in submissions(world)][:2] == ["ambiguous", "applied"]


def test_a_uid_that_is_another_s_since_the_round_earns_nothing(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    play(world)
    real = world.chain.metagraph

    async def reused() -> Metagraph:
        found = await real()
        neurons = [
            replace(neuron, hotkey="a newcomer") if neuron.uid == 2 else neuron for neuron in found.neurons
        ]
        return replace(found, neurons=tuple(neurons))

    world.chain.metagraph = reused  # type: ignore[method-assign]
    set_weights(world)
    kinds = [type(entry.leaf) for entry in world.entries()[-3:]]
    assert kinds == [MetagraphLeaf, WeightsLeaf, SubmissionLeaf]
    [intent] = intents(world)
    assert [uid for uid, _ in intent.shares_ppb] == [1, 3]
    assert [uid for uid, _ in on_chain(world).weights] == [1, 3]


def test_too_few_weights_for_the_subnet_are_not_submitted_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world = make_world(tmp_path, miners=5, rules=replace(CHAIN_RULES, min_allowed_weights=6))
    play(world)

    async def main() -> None:
        validator = world.open()
        try:
            for _ in range(3):
                await validator.weights.run()
        finally:
            validator.journal.close()

    asyncio.run(main())
    assert (intents(world), submissions(world)) == ([], [])
    said = [line for line in caplog.messages if "No weights are set" in line]
    assert said == ["No weights are set: 5 miners earn, and the subnet asks for 6 weights at least"]


def test_a_small_subnet_needs_no_more_weights_than_it_has_neurons(tmp_path: Path) -> None:
    world = make_world(tmp_path, miners=3, rules=replace(CHAIN_RULES, min_allowed_weights=4))
    play(world)
    set_weights(world)
    assert intents(world) == [], "3 weights for 4 neurons"
    assert asyncio.run(world.chain.hyperparameters()).min_allowed_weights == 4


def test_the_burn_uid_of_one_s_own_may_stand_alone(tmp_path: Path) -> None:
    rules = replace(CHAIN_RULES, min_allowed_weights=3)
    world = make_world(tmp_path, rules=rules, PERTURB_BURN_UID="0", PERTURB_MIN_PROCESSED_COUNT="9")
    play(world)
    set_weights(world)
    assert on_chain(world).weights == ((0, 65535),)


def neuron(uid: int, stake_tao: int, *, permit: bool) -> Neuron:
    return Neuron(uid, f"h{uid}", f"c{uid}", stake_tao * 10**9, permit, True, None, 0, 0, 0)


def obstacles(own: Neuron, *, version: int = 1, burn_uid: int | None = None, **rules: Any) -> list[str]:
    metagraph = Metagraph(9, NETUID, (own, neuron(1, 5000, permit=True), neuron(2, 900, permit=True)))
    subnet = ChainRules(**rules).hyperparameters()
    return find_obstacles(metagraph, subnet, own.hotkey, version=version, burn_uid=burn_uid)


def test_all_is_well_says_nothing() -> None:
    assert obstacles(neuron(0, 1000, permit=True), burn_uid=2, min_allowed_weights=5, weights_version=1) == []


def test_a_missing_permit_names_the_stake_that_is_needed() -> None:
    [found] = obstacles(neuron(0, 12, permit=False))
    assert found.startswith("uid 0 has no validator permit: its stake is 12.00 TAO; the least")
    assert "those with a permit is 900.00" in found


def test_a_newer_version_key_more_weights_and_an_unknown_burn_uid_are_named() -> None:
    found = obstacles(neuron(0, 1, permit=True), burn_uid=77, weights_version=8, min_allowed_weights=6)
    assert [text.partition(":")[0] for text in found] == [
        "the subnet asks for version key 8, ours is 1",
        "the subnet asks for 6 weights at least, and 5 miners earn at most",
        "PERTURB_BURN_UID is 77, and nobody holds that uid",
    ]


def lag(world: World, blocks: int) -> None:
    """The node that answers from now on is some blocks behind."""
    head, graph = world.chain.block, world.chain.metagraph

    async def block() -> int:
        return await head() - blocks

    async def metagraph() -> Metagraph:
        found = await graph()
        return replace(found, block=found.block - blocks)

    setattr(world.chain, "block", block)  # noqa: B010 - mypy sees methods
    setattr(world.chain, "metagraph", metagraph)  # noqa: B010


def test_a_node_that_lags_behind_does_not_turn_the_ledger_s_blocks_back(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    asyncio.run(world.chain.advance(100))
    play(world)
    lag(world, 40)
    set_weights(world)
    [intent] = intents(world)
    assert intent.block == 101, "the block of the newest receipts"
    size = len(world.entries())
    with pytest.raises(ChainUnavailable, match="the node lags behind: block 61, the ledger is at 101"):
        play(world)
    assert len(world.entries()) == size
