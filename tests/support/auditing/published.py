"""A log as an operator publishes it, honest or not: leaves, key and blobs in, a folder out.

The package's own publisher reads a ledger and refuses to lie; an operator who rewrites his log writes files.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from perturbnet.ledger import Leaf, merkle
from perturbnet.transparency.anchors import NO_PREVIOUS, Anchor, encode_anchors
from perturbnet.transparency.checkpoints import Checkpoint, sign_checkpoint
from perturbnet.transparency.fraud import FraudStatement, write_fraud_proof
from perturbnet.transparency.notes import SigningKey
from perturbnet.transparency.tiles import encode_entries, tiles_of
from tests.support.auditing.honest import LOG_KEY, ORIGIN, Honest, tampered
from tests.support.fakes import NETUID

OTHER_KEY = SigningKey.from_seed(ORIGIN, b"\x02" * 32)


def publish(
    leaves: Sequence[Leaf],
    folder: Path,
    blobs: Path,
    *,
    key: SigningKey = LOG_KEY,
) -> Path:
    """Write a bundle of these leaves, signed by `key`."""
    shutil.rmtree(folder, ignore_errors=True)
    data = [leaf.encode() for leaf in leaves]
    hashes = [merkle.leaf_hash(item) for item in data]
    for tile in tiles_of(len(data)):
        span = 256**tile.level
        first = tile.index * 256
        nodes = [
            merkle.root(hashes[(first + number) * span : (first + number + 1) * span])
            for number in range(tile.width)
        ]
        _write(folder / tile.path, b"".join(nodes))
        if tile.level == 0:
            _write(folder / tile.entries_path, encode_entries(data[first : first + tile.width]))
    if blobs.exists():
        shutil.copytree(blobs, folder / "blobs")
    sign_head(folder, len(data), merkle.root(hashes), key)
    return folder


def sign_head(folder: Path, size: int, root: bytes, key: SigningKey) -> None:
    """Write a checkpoint."""
    _write(folder / "checkpoint", sign_checkpoint(Checkpoint(ORIGIN, size, root), key).encode())


def anchor_of(
    leaves: Sequence[Leaf], *, netuid: int = NETUID, block: int = 100, previous: Anchor | None = None
) -> Anchor:
    """What an honest validator would have written to the chain for these leaves."""
    root = merkle.root(merkle.leaf_hash(leaf.encode()) for leaf in leaves)
    return Anchor(netuid, len(leaves), root, previous.digest if previous else NO_PREVIOUS, block)


def statement_of(leaves: Sequence[Leaf], key: SigningKey = LOG_KEY) -> FraudStatement:
    """A head that the operator signed, with the delegation of its key."""
    root = merkle.root(merkle.leaf_hash(leaf.encode()) for leaf in leaves)
    return FraudStatement(sign_checkpoint(Checkpoint(ORIGIN, len(leaves), root), key), (leaves[0],))


def prove_fraud(honest: Honest) -> bytes:
    """The honest log, and a shorter one that it does not begin with, both signed by the same key."""
    leaves = honest.leaves()
    other = tampered(honest, honest.receipts()[0], score_ppb=1)[:-3]
    hashes = [merkle.leaf_hash(leaf.encode()) for leaf in leaves]
    first, second = statement_of(other), statement_of(leaves)
    return write_fraud_proof(first, second, lambda start, stop: merkle.root(hashes[start:stop]))


def write_anchors(path: Path, *anchors: Anchor) -> Path:
    """An auditor's own file of anchors."""
    path.write_bytes(encode_anchors(anchors))
    return path


def publish_honest(honest: Honest, folder: Path) -> Path:
    """The honest log."""
    return publish(honest.leaves(), folder, honest.blobs.folder)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
