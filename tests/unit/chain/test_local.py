"""What is the local chain's own: signatures, registration, wall time."""

from __future__ import annotations

from pathlib import Path

import pytest

from perturbnet.chain import ChainRules, LocalChain
from perturbnet.chain.rules import epoch_of
from perturbnet.chain.runtime import DOMAIN
from perturbnet.errors import ConfigError
from perturbnet.runtime.clock import SystemClock
from perturbnet.wire import canonical_json, keys
from tests.unit.chain.conftest import COLDKEY, NETUID, OPEN, SEALED, STAKE, content, keypair, refused

pytestmark = pytest.mark.anyio
ARGS = {"ip": "203.0.113.5", "port": 8091}


class WallClock(SystemClock):
    """Wall time that a test moves."""

    now_ns = 1_700_000_000_000_000_000

    def time_ns(self) -> int:
        return self.now_ns

    def later(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)


# Signatures ----------------------------------------------------------------------------------------


async def test_a_call_signed_by_its_hotkey_is_applied(chain: LocalChain) -> None:
    key = keypair(1)
    payload = await chain.compose(key.ss58_address, "serve_axon", ARGS)
    assert await chain.submit(key.ss58_address, payload, keys.sign(key, DOMAIN, payload)) == (20, "20-1")


async def test_nobody_writes_for_another(chain: LocalChain) -> None:
    victim, thief = keypair(1), keypair(2)
    payload = await chain.compose(victim.ss58_address, "serve_axon", ARGS)
    assert (
        await refused(chain.submit(victim.ss58_address, payload, keys.sign(thief, DOMAIN, payload)))
        == "BadProof"
    )
    signature = keys.sign(thief, DOMAIN, payload)
    assert await refused(chain.submit(thief.ss58_address, payload, signature)) == "BadRequest"
    assert (await chain.metagraph()).neurons[0].ip is None


async def test_a_signature_for_another_purpose_is_refused(chain: LocalChain) -> None:
    key = keypair(1)
    payload = await chain.compose(key.ss58_address, "serve_axon", ARGS)
    other = keys.sign(key, "perturb/response/1", payload)
    assert await refused(chain.submit(key.ss58_address, payload, other)) == "BadProof"
    changed = payload.replace(b"8091", b"8092")
    good = keys.sign(key, DOMAIN, payload)
    assert await refused(chain.submit(key.ss58_address, changed, good)) == "BadProof"


async def test_a_call_is_applied_once(chain: LocalChain) -> None:
    key = keypair(1)
    payload = await chain.compose(key.ss58_address, "set_commitment", {"fields": ["00"]})
    signature = keys.sign(key, DOMAIN, payload)
    await chain.submit(key.ss58_address, payload, signature)
    assert await refused(chain.submit(key.ss58_address, payload, signature)) == "Stale"
    value = canonical_json.decode(await chain.compose(key.ss58_address, "set_commitment", {"fields": ["00"]}))
    assert isinstance(value, dict)
    ahead = canonical_json.encode({**value, "nonce": int(value["nonce"]) + 1})
    assert await refused(chain.submit(key.ss58_address, ahead, keys.sign(key, DOMAIN, ahead))) == "Future"


async def test_a_call_for_another_chain_is_refused(chain: LocalChain, tmp_path: Path) -> None:
    other = LocalChain.create(tmp_path / "other.db", NETUID, rules=OPEN, block_time_ms=0)
    await other.register(keypair(1).ss58_address, COLDKEY)
    key = keypair(1)
    payload = await other.compose(key.ss58_address, "serve_axon", ARGS)
    assert (
        await refused(chain.submit(key.ss58_address, payload, keys.sign(key, DOMAIN, payload)))
        == "BadRequest"
    )


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"args":{},"call":"mint","chain":"x","hotkey":"y","netuid":4,"nonce":0}',
        b'{"a":1,"a":2}',
    ],
)
async def test_a_payload_that_is_no_call(chain: LocalChain, payload: bytes) -> None:
    key = keypair(1)
    assert (
        await refused(chain.submit(key.ss58_address, payload, keys.sign(key, DOMAIN, payload)))
        == "BadRequest"
    )


@pytest.mark.parametrize(
    ("call", "args", "reason"),
    [
        ("mint", {}, "BadRequest"),
        ("serve_axon", {"ip": "203.0.113.5"}, "BadRequest"),
        ("set_weights", {"row": [[1, 1], [1, 2]], "version_key": 0}, "DuplicateUids"),
        ("set_weights", {"row": [[1, 70000]], "version_key": 0}, "BadRequest"),
        ("set_weights", {"row": [[1]], "version_key": 0}, "BadRequest"),
        ("set_weights", {"row": [[1, 0]], "version_key": 0}, "WeightVecLengthIsLow"),
        ("commit_weights", {"row": [[1, 1]], "version_key": 0}, "CommitRevealDisabled"),
    ],
)
async def test_calls_no_client_would_make(
    chain: LocalChain, call: str, args: dict[str, object], reason: str
) -> None:
    key = keypair(1)
    payload = await chain.compose(key.ss58_address, call, args)
    assert await refused(chain.submit(key.ss58_address, payload, keys.sign(key, DOMAIN, payload))) == reason


async def test_open_weights_are_refused_where_weights_are_sealed(path: Path) -> None:
    chain = LocalChain.create(path, NETUID, rules=SEALED, block_time_ms=0)
    key = keypair(1)
    await chain.register(key.ss58_address, COLDKEY, STAKE)
    payload = await chain.compose(key.ss58_address, "set_weights", {"row": [[0, 1]], "version_key": 0})
    signature = keys.sign(key, DOMAIN, payload)
    assert await refused(chain.submit(key.ss58_address, payload, signature)) == "CommitRevealEnabled"


async def test_a_refused_call_changes_nothing(chain: LocalChain, path: Path) -> None:
    assert await refused(chain.set_weights(keypair(1), {9: 1, 1: 1}, 0)) == "UidVecContainInvalidOne"
    before = content(path)
    assert await refused(chain.serve(keypair(1), "127.0.0.1", 1)) == "InvalidIpAddress"
    assert content(path) == before


# Registration --------------------------------------------------------------------------------------


async def test_a_hotkey_registers_once(chain: LocalChain) -> None:
    assert (
        await refused(chain.register(keypair(1).ss58_address, COLDKEY)) == "HotKeyAlreadyRegisteredInSubNet"
    )


@pytest.mark.parametrize("stake", [-1, 2**63])
async def test_an_impossible_stake(chain: LocalChain, stake: int) -> None:
    assert await refused(chain.register(keypair(3).ss58_address, COLDKEY, stake)) == "BadRequest"


async def test_what_is_no_address_is_not_registered(chain: LocalChain) -> None:
    assert await refused(chain.register("miner", COLDKEY)) == "BadRequest"
    assert await refused(chain.register(keypair(3).ss58_address, "5" * 48)) == "BadRequest"


async def test_a_full_subnet_of_immune_neurons_replaces_one_of_them(path: Path) -> None:
    rules = ChainRules(max_uids=2, immunity_period=1000)
    chain = LocalChain.create(path, NETUID, rules=rules, block_time_ms=0)
    for number in (1, 2, 3):
        await chain.register(keypair(number).ss58_address, COLDKEY)
    assert await chain.uid(keypair(3).ss58_address) == 0
    await chain.advance(1000)  # none is immune now, but fewer than ten are not either
    assert await refused(chain.register(keypair(4).ss58_address, COLDKEY)) == "NoNeuronIdAvailable"


# Blocks --------------------------------------------------------------------------------------------


async def test_blocks_follow_wall_time(path: Path) -> None:
    clock = WallClock()
    chain = LocalChain.create(path, NETUID, block_time_ms=250, clock=clock)
    assert await chain.block() == 0
    clock.later(0.25)
    assert await chain.block() == 1
    clock.later(99.99)
    assert await chain.block() == 400
    assert await LocalChain(path, clock=clock).block() == 400


async def test_blocks_never_go_back(path: Path) -> None:
    clock = WallClock()
    chain = LocalChain.create(path, NETUID, block_time_ms=1000, clock=clock)
    clock.later(50)
    await chain.register(keypair(1).ss58_address, COLDKEY)
    clock.later(-49)
    assert await chain.block() == 50
    clock.later(50)
    assert await chain.block() == 51


async def test_epochs_that_passed_while_nobody_looked_are_settled(path: Path) -> None:
    clock = WallClock()
    chain = LocalChain.create(path, NETUID, rules=SEALED, block_time_ms=1000, clock=clock)
    await chain.register(keypair(1).ss58_address, COLDKEY, STAKE)
    clock.later(30)
    await chain.set_weights(keypair(1), {0: 1}, 0)
    clock.later(12)
    await chain.set_weights(keypair(1), {0: 9}, 0)
    clock.later(1_000_000)
    shown = await chain.weights(0)
    assert (shown.weights, shown.pending_commits, shown.last_update) == (((0, 65535),), (), 42)
    assert epoch_of(30, SEALED.tempo, NETUID) != epoch_of(42, SEALED.tempo, NETUID)


async def test_a_chain_on_wall_time_is_not_advanced(path: Path) -> None:
    chain = LocalChain.create(path, NETUID, block_time_ms=1)
    with pytest.raises(ConfigError, match="block_time_ms"):
        await chain.advance(1)


async def test_blocks_are_not_taken_back(chain: LocalChain) -> None:
    with pytest.raises(ConfigError, match="blocks"):
        await chain.advance(-1)
