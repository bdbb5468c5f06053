"""The validator's memory: an append-only log of canonical leaves, and the state as a fold over it."""

from perturbnet.ledger.arrivals import ArrivalRow
from perturbnet.ledger.blobs import BlobStore
from perturbnet.ledger.folds import LedgerState, fold
from perturbnet.ledger.leaves import Leaf, decode_leaf, leaf_hash
from perturbnet.ledger.progress import EpochProgress, MinerHistory, OpenRound
from perturbnet.ledger.retention import forget_deltas, forget_responses, sweep_orphans
from perturbnet.ledger.store import Entry, LedgerStore

__all__ = [
    "ArrivalRow",
    "BlobStore",
    "Entry",
    "EpochProgress",
    "Leaf",
    "LedgerState",
    "LedgerStore",
    "MinerHistory",
    "OpenRound",
    "decode_leaf",
    "fold",
    "forget_deltas",
    "forget_responses",
    "leaf_hash",
    "sweep_orphans",
]
