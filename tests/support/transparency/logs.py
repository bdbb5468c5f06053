"""Signed logs to test with: a ledger with a genesis leaf, its key, and a folder to publish it in."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from bittensor import sp_core

from perturbnet.ledger import BlobStore, Leaf, LedgerStore
from perturbnet.ledger.leaves import ReceiptLeaf
from perturbnet.transparency.delegation import build_genesis, origin_of
from perturbnet.transparency.notes import SigningKey
from perturbnet.transparency.places import Folder
from perturbnet.transparency.publishing import LogSource
from perturbnet.wire.keys import Keypair
from tests.support.ledger.samples import plain, random_log, skip

NETUID = 7


def hotkey(name: str) -> Keypair:
    """An sr25519 pair that follows from a name."""
    seed = hashlib.sha256(name.encode()).digest()
    pair: Keypair = sp_core.Keypair.create_from_seed(seed, sp_core.CRYPTO_SR25519)
    return pair


def log_key(name: str, owner: Keypair) -> SigningKey:
    """An Ed25519 key for the owner's log that follows from a name."""
    origin = origin_of("local", NETUID, owner.ss58_address)
    return SigningKey.from_seed(origin, hashlib.sha256(b"key" + name.encode()).digest())


@dataclass
class SignedLog:
    """A ledger in a folder, its owner and its key."""

    folder: Path
    owner: Keypair
    key: SigningKey
    store: LedgerStore
    deltas: BlobStore

    @property
    def source(self) -> LogSource:
        """What is published."""
        return LogSource(self.store, self.deltas, self.key)

    @property
    def target(self) -> Folder:
        """Where it is published."""
        return Folder(self.folder / "bundle")

    def grow(self, *leaves: Leaf) -> None:
        """Append."""
        self.store.append(leaves)

    def answer(self, data: bytes) -> str:
        """Append a receipt that names a delta of these bytes."""
        digest = self.deltas.put(data)
        self.store.append([plain(ReceiptLeaf, delta=digest)])
        return digest


def signed_log(
    folder: Path, *, owner: str = "alice", key: str = "1", leaves: int = 0, seed: int = 0
) -> SignedLog:
    """A log that begins with its genesis leaf and goes on with skips, or with a random history."""
    pair = hotkey(owner)
    signing = log_key(key, pair)
    log = SignedLog(
        folder, pair, signing, LedgerStore(folder / "ledger.sqlite"), BlobStore(folder / "deltas")
    )
    log.grow(build_genesis(pair, signing, network="local", netuid=NETUID, created_ms=5))
    if seed:
        log.grow(*[entry.leaf for entry in random_log(seed, leaves).entries])
    elif leaves:
        log.grow(*[skip(number) for number in range(leaves)])
    return log
