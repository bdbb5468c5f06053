"""The local chain's file: several processes, a crash within a transaction, damage of every kind."""

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

from perturbnet.chain import ChainFileCorrupt, ChainRules, LocalChain
from perturbnet.chain import store as store_module
from perturbnet.errors import ChainError, ChainUnavailable, ConfigError
from tests.unit.chain.conftest import COLDKEY, NETUID, content, keypair

pytestmark = pytest.mark.anyio


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
    size, hotkey = len(content(path)), keypair(7).ss58_address
    died = await asyncio.create_subprocess_exec(sys.executable, "-c", _DIE_WHILE_WRITING, str(path), hotkey)
    assert await died.wait() == 9
    assert len(content(path)) > size  # half a transaction is on the disk
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
    before = content(path)
    with pytest.raises(ChainFileCorrupt, match=str(path)) as caught:
        LocalChain(path)
    assert caught.value.exit_code == 3
    assert content(path) == before


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
        ChainRules(**rules)  # type: ignore[arg-type]
