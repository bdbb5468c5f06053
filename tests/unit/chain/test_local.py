"""What is the local chain's own: signatures, wall time, several processes, damaged files."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from perturbnet import canonical, identity
from perturbnet.chain import ChainFileCorrupt, LocalChain, Rules
from perturbnet.chain import store as store_module
from perturbnet.chain.rules import epoch_of
from perturbnet.chain.runtime import DOMAIN
from perturbnet.clock import SystemClock
from perturbnet.errors import ChainError, ChainRejected, ChainUnavailable, ConfigError
from tests.unit.chain.conftest import COLDKEY, NETUID, OPEN, SEALED, STAKE, keypair

pytestmark = pytest.mark.anyio
ARGS = {"ip": "203.0.113.5", "port": 8091}


class WallClock(SystemClock):
    """Wall time that a test moves."""

    now_ns = 1_700_000_000_000_000_000

    def time_ns(self) -> int:
        return self.now_ns

    def later(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chain.db"


@pytest.fixture
async def chain(path: Path, anyio_backend: str) -> LocalChain:
    made = LocalChain.create(path, NETUID, rules=OPEN, block_time_ms=0)
    await made.register(keypair(1).ss58_address, COLDKEY, STAKE)
    await made.register(keypair(2).ss58_address, COLDKEY)
    await made.advance(20)
    return made


def _bytes(path: Path) -> bytes:
    return path.read_bytes()


async def reason_of(awaitable: object) -> str:
    with pytest.raises(ChainRejected) as caught:
        await awaitable  # type: ignore[misc]
    return caught.value.reason


# Signatures ----------------------------------------------------------------------------------------


async def test_a_call_signed_by_its_hotkey_is_applied(chain: LocalChain) -> None:
    key = keypair(1)
    payload = await chain.compose(key.ss58_address, "serve_axon", ARGS)
    assert await chain.submit(key.ss58_address, payload, identity.sign(key, DOMAIN, payload)) == (20, "20-1")


async def test_nobody_writes_for_another(chain: LocalChain) -> None:
    victim, thief = keypair(1), keypair(2)
    payload = await chain.compose(victim.ss58_address, "serve_axon", ARGS)
    assert (
        await reason_of(chain.submit(victim.ss58_address, payload, identity.sign(thief, DOMAIN, payload)))
        == "BadProof"
    )
    signature = identity.sign(thief, DOMAIN, payload)
    assert await reason_of(chain.submit(thief.ss58_address, payload, signature)) == "BadRequest"
    assert (await chain.metagraph()).neurons[0].ip is None


async def test_a_signature_for_another_purpose_is_refused(chain: LocalChain) -> None:
    key = keypair(1)
    payload = await chain.compose(key.ss58_address, "serve_axon", ARGS)
    other = identity.sign(key, "perturb/response/1", payload)
    assert await reason_of(chain.submit(key.ss58_address, payload, other)) == "BadProof"
    changed = payload.replace(b"8091", b"8092")
    good = identity.sign(key, DOMAIN, payload)
    assert await reason_of(chain.submit(key.ss58_address, changed, good)) == "BadProof"


async def test_a_call_is_applied_once(chain: LocalChain) -> None:
    key = keypair(1)
    payload = await chain.compose(key.ss58_address, "set_commitment", {"fields": ["00"]})
    signature = identity.sign(key, DOMAIN, payload)
    await chain.submit(key.ss58_address, payload, signature)
    assert await reason_of(chain.submit(key.ss58_address, payload, signature)) == "Stale"
    value = canonical.decode(await chain.compose(key.ss58_address, "set_commitment", {"fields": ["00"]}))
    assert isinstance(value, dict)
    ahead = canonical.encode({**value, "nonce": int(value["nonce"]) + 1})
    assert (
        await reason_of(chain.submit(key.ss58_address, ahead, identity.sign(key, DOMAIN, ahead))) == "Future"
    )


async def test_a_call_for_another_chain_is_refused(chain: LocalChain, tmp_path: Path) -> None:
    other = LocalChain.create(tmp_path / "other.db", NETUID, rules=OPEN, block_time_ms=0)
    await other.register(keypair(1).ss58_address, COLDKEY)
    key = keypair(1)
    payload = await other.compose(key.ss58_address, "serve_axon", ARGS)
    assert (
        await reason_of(chain.submit(key.ss58_address, payload, identity.sign(key, DOMAIN, payload)))
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
        await reason_of(chain.submit(key.ss58_address, payload, identity.sign(key, DOMAIN, payload)))
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
    assert (
        await reason_of(chain.submit(key.ss58_address, payload, identity.sign(key, DOMAIN, payload)))
        == reason
    )


async def test_open_weights_are_refused_where_weights_are_sealed(path: Path) -> None:
    chain = LocalChain.create(path, NETUID, rules=SEALED, block_time_ms=0)
    key = keypair(1)
    await chain.register(key.ss58_address, COLDKEY, STAKE)
    payload = await chain.compose(key.ss58_address, "set_weights", {"row": [[0, 1]], "version_key": 0})
    signature = identity.sign(key, DOMAIN, payload)
    assert await reason_of(chain.submit(key.ss58_address, payload, signature)) == "CommitRevealEnabled"


async def test_a_refused_call_changes_nothing(chain: LocalChain, path: Path) -> None:
    assert await reason_of(chain.set_weights(keypair(1), {9: 1, 1: 1}, 0)) == "UidVecContainInvalidOne"
    before = _bytes(path)
    assert await reason_of(chain.serve(keypair(1), "127.0.0.1", 1)) == "InvalidIpAddress"
    assert _bytes(path) == before


# Registration --------------------------------------------------------------------------------------


async def test_a_hotkey_registers_once(chain: LocalChain) -> None:
    assert (
        await reason_of(chain.register(keypair(1).ss58_address, COLDKEY)) == "HotKeyAlreadyRegisteredInSubNet"
    )


@pytest.mark.parametrize("stake", [-1, 2**63])
async def test_an_impossible_stake(chain: LocalChain, stake: int) -> None:
    assert await reason_of(chain.register(keypair(3).ss58_address, COLDKEY, stake)) == "BadRequest"


async def test_what_is_no_address_is_not_registered(chain: LocalChain) -> None:
    assert await reason_of(chain.register("miner", COLDKEY)) == "BadRequest"
    assert await reason_of(chain.register(keypair(3).ss58_address, "5" * 48)) == "BadRequest"


async def test_a_full_subnet_of_immune_neurons_replaces_one_of_them(path: Path) -> None:
    rules = Rules(max_uids=2, immunity_period=1000)
    chain = LocalChain.create(path, NETUID, rules=rules, block_time_ms=0)
    for number in (1, 2, 3):
        await chain.register(keypair(number).ss58_address, COLDKEY)
    assert await chain.uid(keypair(3).ss58_address) == 0
    await chain.advance(1000)  # none is immune now, but fewer than ten are not either
    assert await reason_of(chain.register(keypair(4).ss58_address, COLDKEY)) == "NoNeuronIdAvailable"


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


# Several processes ---------------------------------------------------------------------------------

_CALLS = 15


def _commit_often(path: str, number: int, start: Barrier) -> None:
    async def work() -> None:
        chain, key = LocalChain(Path(path)), keypair(number)
        for count in range(_CALLS):
            await chain.set_commitment(key, bytes([number, count]))
            await chain.metagraph()

    start.wait(60)
    asyncio.run(work())


async def test_processes_share_the_file(chain: LocalChain, path: Path) -> None:
    """Three processes, two of them with one hotkey, all at once: every call lands exactly once."""
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(3)
    workers = [spawn.Process(target=_commit_often, args=(str(path), number, start)) for number in (1, 2)]
    for worker in workers:
        worker.start()
    await asyncio.to_thread(_commit_often, str(path), 2, start)
    for worker in workers:
        await asyncio.to_thread(worker.join, 60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    with closing(sqlite3.connect(path)) as sql:
        counts = dict(sql.execute("SELECT hotkey, COUNT(DISTINCT nonce) FROM extrinsic GROUP BY hotkey"))
        assert sql.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert counts == {keypair(1).ss58_address: _CALLS, keypair(2).ss58_address: 2 * _CALLS}
    found = await chain.commitment(keypair(1).ss58_address)
    assert found is not None
    assert found.fields == (bytes([1, _CALLS - 1]),)


async def test_a_lock_that_is_not_released(
    chain: LocalChain, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "BUSY_S", 0.05)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(ChainUnavailable, match=r"locked for 0\.05 s"):
            await chain.advance(1)
    finally:
        holder.close()
    assert await chain.advance(1) == 21


_DIE_WHILE_WRITING = """
import os, sqlite3, sys
sql = sqlite3.connect(sys.argv[1], isolation_level=None)
sql.execute("PRAGMA cache_size = 1")
sql.execute("BEGIN IMMEDIATE")
sql.execute("INSERT INTO neuron VALUES (2, ?, 'x', 0, 0, 0, 0, 0)", sys.argv[2:])
sql.execute("INSERT INTO weight VALUES (1, ?)", ("x" * 200_000,))  # larger than the cache: reaches the disk
os._exit(9)
"""


async def test_a_crash_within_a_transaction_leaves_the_chain_as_it_was(chain: LocalChain, path: Path) -> None:
    size, hotkey = len(_bytes(path)), keypair(7).ss58_address
    died = await asyncio.create_subprocess_exec(sys.executable, "-c", _DIE_WHILE_WRITING, str(path), hotkey)
    assert await died.wait() == 9
    assert len(_bytes(path)) > size  # half a transaction is on the disk
    assert (await chain.metagraph()).by_hotkey(hotkey) is None
    assert await chain.register(hotkey, COLDKEY) == 2


# Files that are not what they seem -----------------------------------------------------------------


def test_a_missing_file(path: Path) -> None:
    with pytest.raises(ChainUnavailable, match="no local chain") as caught:
        LocalChain(path)
    assert "perturb localnet" in caught.value.hint


def test_a_file_is_never_replaced(path: Path) -> None:
    path.write_text("mine")
    with pytest.raises(ChainError, match="cannot be created"):
        LocalChain.create(path, NETUID)
    assert path.read_text() == "mine"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ChainError, match="cannot be created"):
        LocalChain.create(tmp_path / "none" / "chain.db", NETUID)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _garble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = random.Random(1).randbytes(len(data) - 4096)
    path.write_bytes(data)


def _sql(*statements: str) -> Callable[[Path], None]:
    def run(path: Path) -> None:
        sql = sqlite3.connect(path, isolation_level=None)
        for statement in statements:
            sql.execute(statement)
        sql.close()

    return run


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(b"not a database " * 500), id="foreign"),
        pytest.param(_truncate, id="truncated"),
        pytest.param(_garble, id="garbled"),
        pytest.param(_sql("PRAGMA application_id = 7"), id="of another program"),
        pytest.param(_sql("PRAGMA user_version = 2"), id="of another version"),
        pytest.param(_sql("PRAGMA journal_mode = WAL"), id="in WAL mode"),
        pytest.param(_sql("DELETE FROM chain"), id="without its own record"),
        pytest.param(_sql("DROP TABLE chain"), id="without its own table"),
        pytest.param(_sql("UPDATE chain SET rules = '{}'"), id="without rules"),
        pytest.param(_sql("UPDATE chain SET rules = '[]'"), id="with rules that are a list"),
        pytest.param(_sql("UPDATE chain SET rules = 'x'"), id="with rules that are no JSON"),
        pytest.param(
            _sql("UPDATE chain SET rules = replace(rules, '\"tempo\":20', '\"tempo\":0')"), id="tempo 0"
        ),
    ],
)
async def test_a_damaged_file_is_refused_and_left_alone(
    chain: LocalChain, path: Path, damage: Callable[[Path], None]
) -> None:
    damage(path)
    before = _bytes(path)
    with pytest.raises(ChainFileCorrupt, match=str(path)) as caught:
        LocalChain(path)
    assert caught.value.exit_code == 3
    assert _bytes(path) == before


@pytest.mark.parametrize(("netuid", "block_time_ms"), [(-1, 1), (65536, 1), (1, -1), (1, 3_600_001)])
def test_absurd_settings(path: Path, netuid: int, block_time_ms: int) -> None:
    with pytest.raises(ConfigError):
        LocalChain.create(path, netuid, block_time_ms=block_time_ms)
    assert not path.exists()


@pytest.mark.parametrize(
    "rules", [{"tempo": 0}, {"max_uids": -1}, {"weights_rate_limit": True}, {"tempo": 2.5}]
)
def test_absurd_rules(rules: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(rules))):
        Rules(**rules)  # type: ignore[arg-type]
