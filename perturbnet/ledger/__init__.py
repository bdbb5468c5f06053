"""The validator's memory: an append-only log of canonical leaves, and the state as a fold over it."""

from perturbnet.ledger.blobs import BlobStore
from perturbnet.ledger.folds import LedgerState, MinerHistory, OpenRound, fold
from perturbnet.ledger.leaves import Leaf, decode_leaf, leaf_hash
from perturbnet.ledger.retention import forget_responses
from perturbnet.ledger.store import ArrivalRow, Entry, LedgerStore

__all__ = [
    "ArrivalRow",
    "BlobStore",
    "Entry",
    "Leaf",
    "LedgerState",
    "LedgerStore",
    "MinerHistory",
    "OpenRound",
    "decode_leaf",
    "fold",
    "forget_responses",
    "leaf_hash",
]
