"""A chain in one file: the `Chain` protocol for local networks and tests, under the live rules (`rules.py`).

Validators, miners and the command that made the network open the same file from their own processes. Blocks
follow wall time; a chain created with `block_time_ms=0` stands still until `advance` is called. File access
runs in a thread, so the event loop never waits for a disk or a lock.

Making the chain, registering and advancing need no signature: they are the local network's own word.
Everything a neuron does is signed with its hotkey.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from perturbnet.chain import runtime
from perturbnet.chain.protocol import Hyperparameters, Submission, WeightsOnChain, check_fields, to_u16
from perturbnet.chain.rules import ChainRules
from perturbnet.chain.store import ChainFile, Transaction, decode_row
from perturbnet.errors import ChainRejected, ConfigError, NotRegistered
from perturbnet.rules.subnet import Commitment, Metagraph, Neuron
from perturbnet.runtime.clock import Clock, SystemClock
from perturbnet.wire import canonical_json, keys
from perturbnet.wire.keys import Keypair

NETWORK = "local"
DEFAULT_BLOCK_TIME_MS = 12_000
_NONCE_ATTEMPTS = 100  # each loss means that another process got through
T = TypeVar("T")


class LocalChain:
    """One subnet in one SQLite file."""

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        """Open an existing chain.

        Raises:
            ChainUnavailable: there is no such file.
            ChainFileCorrupt: it is damaged, foreign or of another version.

        """
        self._file = ChainFile(path, clock or SystemClock())

    @classmethod
    def create(
        cls,
        path: Path,
        netuid: int,
        *,
        rules: ChainRules | None = None,
        block_time_ms: int = DEFAULT_BLOCK_TIME_MS,
        clock: Clock | None = None,
    ) -> LocalChain:
        """Make a new chain at block 0; `block_time_ms=0` for one that is advanced by hand.

        Raises:
            ConfigError: netuid or block time out of range.
            ChainError: there is a file already, or it cannot be written.

        """
        clock = clock or SystemClock()
        ChainFile.create(path, clock, netuid=netuid, rules=rules or ChainRules(), block_time_ms=block_time_ms)
        return cls(path, clock=clock)

    @property
    def netuid(self) -> int:
        """See `Chain`."""
        return self._file.settings.netuid

    @property
    def network(self) -> str:
        """See `Chain`."""
        return NETWORK

    @property
    def rules(self) -> ChainRules:
        """The rules the file was created with."""
        return self._file.settings.rules

    @property
    def block_time_ms(self) -> int:
        """Milliseconds from block to block; 0 when blocks are made by hand."""
        return self._file.settings.block_time_ms

    async def block(self) -> int:
        """See `Chain`."""
        return await self._ask(lambda tx: tx.block)

    async def metagraph(self) -> Metagraph:
        """See `Chain`."""
        return await self._ask(_metagraph)

    async def hyperparameters(self) -> Hyperparameters:
        """See `Chain`."""
        return self.rules.hyperparameters()

    async def uid(self, hotkey: str) -> int | None:
        """See `Chain`."""
        row = await self._ask(lambda tx: tx.one("SELECT uid FROM neuron WHERE hotkey = ?", hotkey))
        return None if row is None else int(row[0])

    async def set_weights(self, keypair: Keypair, weights: Mapping[int, int], version_key: int) -> Submission:
        """See `Chain`."""
        row = [[uid, value] for uid, value in to_u16(weights).items()]
        sealed = self.rules.commit_reveal_enabled
        call = "commit_weights" if sealed else "set_weights"
        block, reference = await self._submit(keypair, call, {"row": row, "version_key": version_key})
        return Submission(block, "commit" if sealed else "set", reference)

    async def weights(self, uid: int) -> WeightsOnChain:
        """See `Chain`."""
        return await self._ask(lambda tx: _weights(tx, uid))

    async def serve(self, keypair: Keypair, ip: str, port: int) -> int:
        """See `Chain`."""
        return (await self._submit(keypair, "serve_axon", {"ip": ip, "port": port}))[0]

    async def set_commitment(self, keypair: Keypair, *fields: bytes) -> int:
        """See `Chain`."""
        check_fields(fields)
        return (await self._submit(keypair, "set_commitment", {"fields": [data.hex() for data in fields]}))[0]

    async def commitment(self, hotkey: str) -> Commitment | None:
        """See `Chain`."""
        row = await self._ask(
            lambda tx: tx.one("SELECT block, fields FROM commitment WHERE hotkey = ?", hotkey)
        )
        if row is None:
            return None
        fields: Any = canonical_json.decode(row[1].encode())
        return Commitment(int(row[0]), tuple(map(bytes.fromhex, fields)))

    async def close(self) -> None:
        """See `Chain`; nothing is held open between calls."""

    async def register(self, hotkey: str, coldkey: str, stake_rao: int = 0) -> int:
        """Give a hotkey a uid and a stake, as the maker of the network.

        Raises:
            ChainRejected: `HotKeyAlreadyRegisteredInSubNet`, `NoNeuronIdAvailable` or `BadRequest`.

        """
        return await self._change(lambda tx: runtime.register(tx, hotkey, coldkey, stake_rao))

    async def advance(self, blocks: int) -> int:
        """Make blocks by hand and return the new head.

        Raises:
            ConfigError: the chain follows wall time, or `blocks` is negative.

        """
        if self.block_time_ms != 0:
            raise ConfigError("block_time_ms", self.block_time_ms, "0 for a chain that is advanced by hand")
        if blocks < 0:
            raise ConfigError("blocks", blocks, "0 or more")

        def step(tx: Transaction) -> int:
            tx.sql.execute("UPDATE chain SET block = block + ?", (blocks,))
            return tx.block + blocks

        return await self._change(step)

    async def compose(self, hotkey: str, call: str, args: dict[str, Any]) -> bytes:
        """The bytes that `hotkey` must sign for its next call (see `runtime.py`)."""
        return await self._ask(lambda tx: runtime.compose(tx, hotkey, call, args))

    async def submit(self, hotkey: str, payload: bytes, signature: bytes) -> tuple[int, str]:
        """Apply a signed call; returns its block and reference.

        Raises:
            ChainRejected: the signature, the nonce or the call is refused.

        """
        return await self._change(lambda tx: (tx.block, runtime.submit(tx, hotkey, payload, signature)))

    async def _submit(self, keypair: Keypair, call: str, args: dict[str, Any]) -> tuple[int, str]:
        for attempt in range(1, _NONCE_ATTEMPTS + 1):
            payload = await self.compose(keypair.ss58_address, call, args)
            signature = keys.sign(keypair, runtime.DOMAIN, payload)
            try:
                return await self.submit(keypair.ss58_address, payload, signature)
            except ChainRejected as error:
                if error.reason != "Stale" or attempt == _NONCE_ATTEMPTS:
                    raise  # else another process with this hotkey used the nonce first
        raise AssertionError

    async def _ask(self, question: Callable[[Transaction], T]) -> T:
        return await asyncio.to_thread(runtime.ask, self._file, question)

    async def _change(self, action: Callable[[Transaction], T]) -> T:
        return await asyncio.to_thread(runtime.change, self._file, action)


def _metagraph(tx: Transaction) -> Metagraph:
    axons = {hotkey: (ip, port) for hotkey, ip, port in tx.sql.execute("SELECT hotkey, ip, port FROM axon")}
    cutoff = tx.settings.rules.activity_cutoff
    neurons = []
    for member in tx.members():
        ip, port = axons.get(member.hotkey, (None, 0))
        neuron = Neuron(
            uid=member.uid,
            hotkey=member.hotkey,
            coldkey=member.coldkey,
            stake_rao=member.stake_rao,
            validator_permit=member.permit,
            active=tx.block - member.last_update <= cutoff,
            ip=ip,
            port=port,
            last_update=member.last_update,
            registered_block=member.registered_block,
        )
        neurons.append(neuron)
    return Metagraph(tx.block, tx.settings.netuid, tuple(neurons))


def _weights(tx: Transaction, uid: int) -> WeightsOnChain:
    member = tx.one("SELECT hotkey, last_update FROM neuron WHERE uid = ?", uid)
    if member is None:
        raise NotRegistered(f"uid {uid} is not registered on netuid {tx.settings.netuid} at block {tx.block}")
    hotkey, last_update = member
    pairs = tx.one("SELECT pairs FROM weight WHERE uid = ?", uid)
    sealed = tx.sql.execute("SELECT block FROM sealed WHERE hotkey = ? ORDER BY id", (hotkey,)).fetchall()
    row = decode_row(pairs[0]) if pairs else ()
    return WeightsOnChain(uid, hotkey, row, last_update, tuple(block for (block,) in sealed))
