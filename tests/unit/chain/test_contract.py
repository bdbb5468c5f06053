"""What every chain does, run on the local chain and on the adapter over the substrate twin."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perturbnet.errors import NotRegistered
from perturbnet.rules.subnet import Metagraph
from tests.unit.chain.conftest import (
    COLDKEY,
    NETUID,
    OPEN,
    SEALED,
    STAKE,
    MakeNet,
    keypair,
    refused,
    validator_and_miners,
)

pytestmark = pytest.mark.anyio


# Reading -------------------------------------------------------------------------------------------


async def test_names_the_subnet_and_counts_blocks(make_net: MakeNet) -> None:
    net = await make_net(OPEN)
    assert net.chain.netuid == NETUID
    before = await net.chain.block()
    await net.local.advance(7)
    assert await net.chain.block() == before + 7


async def test_a_registered_hotkey_is_in_the_metagraph(make_net: MakeNet) -> None:
    net = await make_net(OPEN)
    key, uid = await net.register(1, STAKE)
    other, other_uid = await net.register(2)
    assert (uid, other_uid) == (0, 1)
    assert await net.chain.uid(other.ss58_address) == 1
    graph = await net.chain.metagraph()
    assert (graph.block, graph.netuid) == (1, NETUID)
    neuron = graph.registered(key.ss58_address)
    assert neuron == graph.by_uid(0)
    assert (neuron.uid, neuron.coldkey, neuron.stake_rao) == (0, COLDKEY, STAKE)
    assert (neuron.ip, neuron.port, neuron.active) == (None, 0, True)
    assert (neuron.registered_block, neuron.last_update) == (1, 1)


async def test_an_unknown_hotkey_has_no_uid(make_net: MakeNet) -> None:
    net = await make_net(OPEN)
    await net.register(1)
    stranger = keypair(9).ss58_address
    assert await net.chain.uid(stranger) is None
    graph = await net.chain.metagraph()
    assert graph.by_hotkey(stranger) is None
    with pytest.raises(NotRegistered, match=stranger):
        graph.registered(stranger)
    with pytest.raises(NotRegistered):
        await net.chain.weights(1)


async def test_hyperparameters(make_net: MakeNet) -> None:
    rules = replace(
        SEALED,
        weights_version=5,
        min_allowed_weights=2,
        reveal_period_epochs=3,
        max_uids=17,
        serving_rate_limit=9,
    )
    net = await make_net(rules)
    assert await net.chain.hyperparameters() == rules.hyperparameters()


async def test_two_reads_see_one_block(make_net: MakeNet) -> None:
    net = await make_net(OPEN)
    await validator_and_miners(net)
    graph: Metagraph = await net.chain.metagraph()
    assert [neuron.uid for neuron in graph.neurons] == [0, 1, 2]


# Permits and reuse of uids -------------------------------------------------------------------------


async def test_permits_go_to_the_highest_stakes(make_net: MakeNet) -> None:
    net = await make_net(replace(OPEN, max_validators=2))
    for number, stake in ((1, 5), (2, 9), (3, 0), (4, 7)):
        await net.register(number, stake)
    assert [neuron.validator_permit for neuron in (await net.chain.metagraph()).neurons] == [
        False,
        True,
        False,
        True,
    ]


async def test_after_the_first_epoch_a_permit_waits_for_the_next(make_net: MakeNet) -> None:
    net = await make_net(OPEN)
    await net.register(1, STAKE)
    await net.local.advance(40)
    await net.register(2, STAKE)
    assert not (await net.chain.metagraph()).neurons[1].validator_permit
    await net.local.advance(OPEN.tempo + 1)
    assert (await net.chain.metagraph()).neurons[1].validator_permit


async def test_a_reused_uid_keeps_nothing_of_its_predecessor(make_net: MakeNet) -> None:
    net = await make_net(replace(OPEN, max_uids=3, min_non_immune_uids=0))
    await validator_and_miners(net)
    await net.local.advance(20)
    await net.chain.set_weights(keypair(1), {1: 10, 2: 65535}, 0)
    await net.chain.serve(keypair(2), "203.0.113.5", 8091)
    await net.local.advance(OPEN.tempo + 1)  # emission follows the weights
    newcomer, uid = await net.register(5)
    assert uid == 1  # the lowest emission
    graph = await net.chain.metagraph()
    assert graph.by_hotkey(keypair(2).ss58_address) is None
    neuron = graph.registered(newcomer.ss58_address)
    assert (neuron.uid, neuron.ip, neuron.registered_block) == (1, None, graph.block)
    assert (await net.chain.weights(0)).weights == ((1, 0), (2, 65535))
    assert (await net.chain.weights(1)).hotkey == newcomer.ss58_address
    assert await refused(net.chain.serve(keypair(2), "203.0.113.5", 8091)) == "HotKeyNotRegisteredInNetwork"


async def test_a_predecessor_that_returns_starts_anew(make_net: MakeNet) -> None:
    net = await make_net(replace(OPEN, max_uids=2, min_non_immune_uids=0))
    await net.register(1, STAKE)
    await net.register(2, STAKE)
    await net.local.advance(20)
    await net.chain.set_weights(keypair(2), {0: 1}, 0)
    await net.chain.serve(keypair(2), "203.0.113.5", 8091)
    await net.chain.set_weights(keypair(1), {0: 1}, 0)
    await net.local.advance(OPEN.tempo + 1)
    assert [(await net.register(number, STAKE))[1] for number in (3, 2)] == [1, 0]
    neuron = (await net.chain.metagraph()).registered(keypair(2).ss58_address)
    assert (neuron.uid, neuron.ip, neuron.port) == (0, None, 0)
    assert [(await net.chain.weights(uid)).weights for uid in (0, 1)] == [(), ()]


async def test_an_immune_neuron_stays(make_net: MakeNet) -> None:
    net = await make_net(replace(OPEN, max_uids=2, min_non_immune_uids=0, immunity_period=30))
    await net.register(1, STAKE)
    await net.local.advance(40)
    await net.chain.set_weights(keypair(1), {0: 1}, 0)
    await net.register(2)
    await net.local.advance(29)
    assert (await net.register(3))[1] == 0  # uid 1 earned nothing, but is younger than the immunity period
    await net.local.advance(1)
    assert (await net.register(4))[1] == 1


# Serving -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ip", ["203.0.113.5", "2001:db8::7"])
async def test_an_axon_is_in_the_metagraph(make_net: MakeNet, ip: str) -> None:
    net = await make_net(OPEN)
    key, _ = await net.register(1)
    assert await net.chain.serve(key, ip, 8091) == 1
    neuron = (await net.chain.metagraph()).registered(key.ss58_address)
    assert (neuron.ip, neuron.port) == (ip, 8091)


async def test_an_axon_moves_only_so_often(make_net: MakeNet) -> None:
    net = await make_net(OPEN)
    key, _ = await net.register(1)
    await net.chain.serve(key, "203.0.113.5", 8091)
    await net.local.advance(OPEN.serving_rate_limit - 1)
    assert await refused(net.chain.serve(key, "203.0.113.6", 8091)) == "ServingRateLimitExceeded"
    await net.local.advance(1)
    await net.chain.serve(key, "203.0.113.6", 8092)
    neuron = (await net.chain.metagraph()).neurons[0]
    assert (neuron.ip, neuron.port) == ("203.0.113.6", 8092)


@pytest.mark.parametrize(
    ("ip", "port", "reason"),
    [
        ("127.0.0.1", 8091, "InvalidIpAddress"),
        ("::1", 8091, "InvalidIpAddress"),
        ("255.255.255.255", 8091, "InvalidIpAddress"),
        ("localhost", 8091, "InvalidIpAddress"),
        ("203.0.113.5", 0, "InvalidPort"),
        ("203.0.113.5", 65536, "InvalidPort"),
    ],
)
async def test_an_address_that_cannot_be_served(make_net: MakeNet, ip: str, port: int, reason: str) -> None:
    net = await make_net(OPEN)
    key, _ = await net.register(1)
    assert await refused(net.chain.serve(key, ip, port)) == reason


# Commitments ---------------------------------------------------------------------------------------


async def test_a_commitment_is_read_back_and_replaced(make_net: MakeNet) -> None:
    net = await make_net(OPEN)
    key, _ = await net.register(1)
    assert await net.chain.commitment(key.ss58_address) is None
    anchor = bytes(range(176, 256))
    assert await net.chain.set_commitment(key, anchor, b"https://example.org/bundle") == 1
    found = await net.chain.commitment(key.ss58_address)
    assert found is not None
    assert (found.block, found.fields) == (1, (anchor, b"https://example.org/bundle"))
    await net.local.advance(2)
    await net.chain.set_commitment(key, b"\x00")
    found = await net.chain.commitment(key.ss58_address)
    assert found is not None
    assert (found.block, found.fields) == (3, (b"\x00",))


async def test_the_budget_of_an_epoch(make_net: MakeNet) -> None:
    net = await make_net(OPEN)
    key, _ = await net.register(1)
    for count in range(31):  # 100 bytes each, however small
        await net.chain.set_commitment(key, bytes([count + 1]))
    assert await refused(net.chain.set_commitment(key, b"x")) == "SpaceLimitExceeded"
    await net.local.advance(OPEN.tempo + 1)
    await net.chain.set_commitment(key, b"x")


async def test_long_fields_cost_what_they_weigh(make_net: MakeNet) -> None:
    net = await make_net(replace(OPEN, commitment_bytes_per_epoch=600))
    key, _ = await net.register(1)
    await net.chain.set_commitment(key, bytes(128), bytes(128), bytes(128))
    assert await refused(net.chain.set_commitment(key, bytes(128), bytes(128))) == "SpaceLimitExceeded"
    await net.chain.set_commitment(key, bytes(128), bytes(88))


async def test_commitments_that_cannot_be(make_net: MakeNet) -> None:
    net = await make_net(OPEN)
    key, _ = await net.register(1)
    assert await refused(net.chain.set_commitment(keypair(9), b"x")) == "AccountNotAllowedCommit"
    assert await refused(net.chain.set_commitment(key)) == "TooManyFieldsInCommitmentInfo"
    assert (
        await refused(net.chain.set_commitment(key, b"1", b"2", b"3", b"4"))
        == "TooManyFieldsInCommitmentInfo"
    )
    assert await refused(net.chain.set_commitment(key, bytes(129))) == "SpaceLimitExceeded"
    assert await refused(net.chain.set_commitment(key, b"")) == "SpaceLimitExceeded"
    assert await net.chain.commitment(key.ss58_address) is None
