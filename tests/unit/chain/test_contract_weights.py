"""Weights on every chain, the local one and the adapter over the twin: shown, sealed, refused, read back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perturbnet.chain import ChainRules, Effect, reconcile_weights, to_u16
from tests.unit.chain.conftest import (
    OPEN,
    SEALED,
    STAKE,
    MakeNet,
    keypair,
    refused,
    validator_and_miners,
)

pytestmark = pytest.mark.anyio


# Weights, shown at once ----------------------------------------------------------------------------


async def test_weights_are_shown(make_net: MakeNet) -> None:
    net = await make_net(OPEN)
    await validator_and_miners(net)
    await net.local.advance(20)
    submission = await net.chain.set_weights(keypair(1), {2: 3000, 1: 65535, 0: 0}, 0)
    assert (submission.mode, submission.block) == ("set", 21)
    assert submission.reference.startswith("21-")
    shown = await net.chain.weights(0)
    assert shown.weights == ((1, 65535), (2, 3000))
    assert (shown.hotkey, shown.last_update, shown.pending_commits) == (keypair(1).ss58_address, 21, ())


async def test_weights_are_scaled_up_before_they_are_sent(make_net: MakeNet) -> None:
    net = await make_net(OPEN)
    await validator_and_miners(net)
    await net.local.advance(20)
    await net.chain.set_weights(keypair(1), {1: 700, 2: 250}, 0)
    assert (await net.chain.weights(0)).weights == ((1, 65535), (2, 23405))


async def test_the_weight_of_uid_zero_survives(make_net: MakeNet) -> None:
    net = await make_net(OPEN)
    await net.register(2)
    await net.register(1, STAKE)
    await net.local.advance(20)
    await net.chain.set_weights(keypair(1), {0: 65535, 1: 1}, 0)
    assert dict((await net.chain.weights(1)).weights)[0] == 65535


async def test_a_second_vector_waits_for_the_rate_limit(make_net: MakeNet) -> None:
    net = await make_net(OPEN)
    await validator_and_miners(net)
    assert (
        await refused(net.chain.set_weights(keypair(1), {1: 1}, 0)) == "SettingWeightsTooFast"
    )  # just registered
    await net.local.advance(OPEN.weights_rate_limit)
    await net.chain.set_weights(keypair(1), {1: 1}, 0)
    await net.local.advance(OPEN.weights_rate_limit - 1)
    assert await refused(net.chain.set_weights(keypair(1), {2: 1}, 0)) == "SettingWeightsTooFast"
    await net.local.advance(1)
    await net.chain.set_weights(keypair(1), {2: 1}, 0)
    assert (await net.chain.weights(0)).weights == ((2, 65535),)


@pytest.mark.parametrize(
    ("sender", "weights", "version", "reason"),
    [
        (9, {1: 1}, 3, "HotKeyNotRegisteredInSubNet"),
        (2, {1: 1, 2: 1}, 3, "NeuronNoValidatorPermit"),
        (1, {1: 1, 7: 1}, 3, "UidVecContainInvalidOne"),
        (1, {1: 1, 2: 1}, 2, "IncorrectWeightVersionKey"),
        (1, {1: 1}, 3, "WeightVecLengthIsLow"),
        (1, {1: 0, 2: 0}, 3, "WeightVecLengthIsLow"),
        (1, {}, 3, "WeightVecLengthIsLow"),
        (1, {0: 1, 1: 1, 2: 1, 3: 1}, 3, "UidsLengthExceedUidsInSubNet"),
        (1, {1: 1, 65536: 1}, 3, "UidVecContainInvalidOne"),
    ],
)
async def test_refusals(
    make_net: MakeNet, sender: int, weights: dict[int, int], version: int, reason: str
) -> None:
    net = await make_net(replace(OPEN, weights_version=3, min_allowed_weights=2))
    await validator_and_miners(net)
    await net.local.advance(20)
    assert await refused(net.chain.set_weights(keypair(sender), weights, version)) == reason
    assert (await net.chain.weights(0)).weights == ()


async def test_a_newer_version_key_is_accepted(make_net: MakeNet) -> None:
    net = await make_net(replace(OPEN, weights_version=3))
    await validator_and_miners(net)
    await net.local.advance(20)
    assert (await net.chain.set_weights(keypair(1), {1: 1}, 4)).mode == "set"


async def test_a_neuron_without_permit_may_weight_itself(make_net: MakeNet) -> None:
    net = await make_net(replace(OPEN, min_allowed_weights=2))
    await validator_and_miners(net)
    await net.local.advance(20)
    await net.chain.set_weights(keypair(2), {1: 1}, 0)
    assert (await net.chain.weights(1)).weights == ((1, 65535),)


@pytest.mark.parametrize("rules", [OPEN, SEALED])
async def test_too_little_stake(make_net: MakeNet, rules: ChainRules) -> None:
    net = await make_net(replace(rules, min_stake_rao=STAKE + 1))
    await validator_and_miners(net)
    await net.local.advance(20)
    assert await refused(net.chain.set_weights(keypair(1), {1: 1}, 0)) == "NotEnoughStakeToSetWeights"


# Weights, sealed -----------------------------------------------------------------------------------


async def test_sealed_weights_are_invisible_until_their_reveal(make_net: MakeNet) -> None:
    net = await make_net(SEALED)
    await validator_and_miners(net)
    other, other_uid = await net.register(8, STAKE)
    await net.local.advance(14)  # block 15, the last of epoch 0: (block + netuid + 1) // (tempo + 1)
    submission = await net.chain.set_weights(keypair(1), {1: 65535, 2: 9}, 0)
    assert submission.mode == "commit"
    hidden = await net.chain.weights(0)
    assert (hidden.weights, hidden.pending_commits, hidden.last_update) == ((), (15,), 15)
    assert (await net.chain.weights(other_uid)).pending_commits == ()
    await net.chain.set_weights(other, {1: 1}, 0)
    assert (await net.chain.weights(0)).pending_commits == (15,)
    await net.local.advance(1)  # the first block of epoch 1
    revealed = await net.chain.weights(0)
    assert (revealed.weights, revealed.pending_commits) == (((1, 65535), (2, 9)), ())
    assert revealed.last_update == 15  # the commit's block, not the reveal's


async def test_a_reveal_waits_for_its_period(make_net: MakeNet) -> None:
    net = await make_net(replace(SEALED, reveal_period_epochs=2))
    await validator_and_miners(net)
    await net.local.advance(14)
    await net.chain.set_weights(keypair(1), {1: 1}, 0)
    await net.local.advance(1 + SEALED.tempo)
    assert (await net.chain.weights(0)).weights == ()
    await net.local.advance(1)
    assert (await net.chain.weights(0)).weights == ((1, 65535),)


async def test_a_second_commit_waits_for_the_rate_limit(make_net: MakeNet) -> None:
    net = await make_net(SEALED)
    await validator_and_miners(net)
    await net.local.advance(20)
    await net.chain.set_weights(keypair(1), {1: 1}, 0)
    assert await refused(net.chain.set_weights(keypair(1), {2: 1}, 0)) == "CommittingWeightsTooFast"


async def test_too_many_commits_in_one_epoch(make_net: MakeNet) -> None:
    net = await make_net(replace(SEALED, tempo=100, weights_rate_limit=1))
    await validator_and_miners(net)
    for _ in range(10):
        await net.local.advance(1)
        await net.chain.set_weights(keypair(1), {1: 1}, 0)
    await net.local.advance(1)
    assert await refused(net.chain.set_weights(keypair(1), {1: 1}, 0)) == "TooManyUnrevealedCommits"


async def test_a_sealed_vector_with_a_stale_version_vanishes(make_net: MakeNet) -> None:
    net = await make_net(replace(SEALED, weights_version=3))
    await validator_and_miners(net)
    await net.local.advance(20)
    await net.chain.set_weights(keypair(1), {1: 1}, 2)
    assert await reconcile_weights(net.chain, 0, {1: 1}, 21) is Effect.PENDING
    await net.local.advance(SEALED.tempo + 1)
    assert (await net.chain.weights(0)).weights == ()
    assert await reconcile_weights(net.chain, 0, {1: 1}, 21) is Effect.ABSENT


# Reading back --------------------------------------------------------------------------------------


async def test_reconcile_tells_what_became_of_a_vector(make_net: MakeNet) -> None:
    net = await make_net(OPEN)
    await validator_and_miners(net)
    await net.local.advance(20)
    wanted = to_u16({1: 700_000_000, 2: 300_000_000})
    head = await net.chain.block()
    assert await reconcile_weights(net.chain, 0, wanted, head) is Effect.ABSENT
    await net.chain.set_weights(keypair(1), wanted, 0)
    assert await reconcile_weights(net.chain, 0, wanted, head) is Effect.APPLIED
    assert await reconcile_weights(net.chain, 0, {1: 1}, head) is Effect.ABSENT
    assert await reconcile_weights(net.chain, 0, wanted, head + 1) is Effect.ABSENT  # an older, equal vector


async def test_reconcile_after_a_reveal(make_net: MakeNet) -> None:
    net = await make_net(SEALED)
    await validator_and_miners(net)
    await net.local.advance(20)
    await net.chain.set_weights(keypair(1), {1: 65535, 2: 4}, 0)
    assert await reconcile_weights(net.chain, 0, {1: 65535, 2: 4}, 21) is Effect.PENDING
    await net.local.advance(SEALED.tempo + 1)
    assert await reconcile_weights(net.chain, 0, {1: 65535, 2: 4}, 21) is Effect.APPLIED
