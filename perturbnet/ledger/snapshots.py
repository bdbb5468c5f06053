"""A shortcut for opening a long log: the state at some leaf, so that only the leaves after it are folded.

Rules
- A snapshot is a copy of what the leaves say, never a source: deleting it costs time and nothing else.
- It is taken up only if it has its own digest, if the log's first `size` leaves have the root it was made at,
  and if the code that folds is the code that made it. Anything else is said in the log, and every leaf is
  folded anew.
- It holds integers and strings; leaves it names by their place, and they are read from the log again.
- None is made while a round is open.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter, deque
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from perturbnet.errors import LedgerCorrupt, LedgerError
from perturbnet.ledger.folds import LedgerState
from perturbnet.ledger.leaves import (
    CertificateLeaf,
    ConfigLeaf,
    EpochLeaf,
    GenesisLeaf,
    KeyLeaf,
    Leaf,
    MetagraphLeaf,
    RulesLeaf,
    SubmissionLeaf,
    WeightsLeaf,
    decode_leaf,
)
from perturbnet.ledger.progress import EpochProgress, MinerHistory
from perturbnet.ledger.store import LedgerStore
from perturbnet.runtime.artifacts import write_durably
from perturbnet.wire import canonical_json

MAX_SNAPSHOT_BYTES = 1 << 28
_CODE = ("leaves", "folds", "progress", "snapshots")

AnyLeaf = TypeVar("AnyLeaf", bound=Leaf)

log = logging.getLogger(__name__)


def save_snapshot(path: Path, state: LedgerState, root: bytes) -> bool:
    """Write the state after `state.size` leaves, whose root is `root`; False while a round is open.

    Raises:
        LedgerError: it cannot be written.

    """
    if state.open_round is not None:
        return False
    content = {"code": _code_digest(), "root": root.hex(), "state": describe_state(state)}
    try:
        write_durably(
            path, canonical_json.encode({"content": content, "digest": canonical_json.digest(content)})
        )
    except OSError as error:
        raise LedgerError(f"{path} was not written: {error.strerror}") from error
    return True


def load_snapshot(path: Path, store: LedgerStore) -> LedgerState:
    """The state that the snapshot says, if it can be believed; else the empty one.

    Raises:
        LedgerCorrupt: a leaf that it names is not what was written.

    """
    try:
        found = _read(path)
    except FileNotFoundError:
        return LedgerState()
    except (OSError, canonical_json.NotCanonical, LedgerCorrupt, KeyError, TypeError, ValueError) as error:
        log.warning("%s is not used, every leaf is folded anew: %s", path, error)
        return LedgerState()
    size, root = found["state"]["size"], bytes.fromhex(found["root"])
    if found["code"] != _code_digest():
        log.info("%s was made by another version: every leaf is folded anew", path)
    elif not 0 < size <= store.size or store.subtree(0, size) != root:
        log.warning("%s is not of this log, every leaf is folded anew", path)
    else:
        return _rebuild(found["state"], store)
    return LedgerState()


def _read(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_SNAPSHOT_BYTES:
        raise LedgerCorrupt(f"larger than {MAX_SNAPSHOT_BYTES} bytes")
    value: Any = canonical_json.decode(path.read_bytes())
    if canonical_json.digest(value["content"]) != value["digest"]:
        raise LedgerCorrupt("its digest is another")
    content: dict[str, Any] = value["content"]
    return content


@cache
def _code_digest() -> str:
    """Names the code that folds: the bytes of its modules."""
    digest = hashlib.sha256()
    for name in _CODE:
        spec = find_spec(f"perturbnet.ledger.{name}")
        if spec is None or spec.origin is None:
            raise LedgerError(f"the source of perturbnet.ledger.{name} is not there")
        digest.update(hashlib.sha256(Path(spec.origin).read_bytes()).digest())
    return digest.hexdigest()


def describe_state(state: LedgerState) -> dict[str, Any]:
    """The state in integers and strings: the same for the same leaves. An open round is left out."""
    epoch, submission = state.epoch, state.last_submission
    return {
        "size": state.size,
        "block": state.block,
        "genesis": state.genesis is not None,
        "keys": [position for position, _ in state.keys],
        "config": _position(state.config),
        "rules": _position(state.rules),
        "metagraph": _position(state.metagraph),
        "epoch": epoch and [epoch.position, epoch.cursor, epoch.segments_revealed, int(epoch.abandoned)],
        "rounds": state.rounds,
        "counted_rounds": state.counted_rounds,
        "miners": [_describe_miner(state.miners[uid]) for uid in state.miners],
        "pending_weights": _position(state.pending_weights),
        "last_weights": _position(state.last_weights),
        "last_submission": submission and submission.encode().decode(),
        "certificates": [position for position, _ in state.certificates],
    }


def _describe_miner(miner: MinerHistory) -> list[Any]:
    counts = [miner.uid, miner.hotkey, miner.processed, miner.asked, miner.succeeded]
    return [*counts, list(miner.scores_ppb), {str(code): count for code, count in miner.rejects.items()}]


def _rebuild(value: dict[str, Any], store: LedgerStore) -> LedgerState:
    rules = _named(store, value["rules"], RulesLeaf)
    history_size = int(rules[1].history["history_size"]) if rules else 1
    genesis = _named(store, 0 if value["genesis"] else None, GenesisLeaf)
    submission = decode_leaf(value["last_submission"].encode()) if value["last_submission"] else None
    if submission is not None and not isinstance(submission, SubmissionLeaf):
        raise LedgerCorrupt(f"the snapshot's submission is a {submission.kind} leaf")
    return LedgerState(
        size=value["size"],
        block=value["block"],
        genesis=genesis[1] if genesis else None,
        keys=tuple((position, _leaf(store, position, KeyLeaf)) for position in value["keys"]),
        config=_named(store, value["config"], ConfigLeaf),
        rules=rules,
        metagraph=_named(store, value["metagraph"], MetagraphLeaf),
        epoch=_rebuild_epoch(value["epoch"], store),
        rounds=value["rounds"],
        counted_rounds=value["counted_rounds"],
        miners={item[0]: _rebuild_miner(item, history_size) for item in value["miners"]},
        pending_weights=_named(store, value["pending_weights"], WeightsLeaf),
        last_weights=_named(store, value["last_weights"], WeightsLeaf),
        last_submission=submission,
        certificates=tuple((at, _leaf(store, at, CertificateLeaf)) for at in value["certificates"]),
    )


def _rebuild_epoch(value: list[int] | None, store: LedgerStore) -> EpochProgress | None:
    if value is None:
        return None
    position, cursor, revealed, abandoned = value
    return EpochProgress(position, _leaf(store, position, EpochLeaf), cursor, revealed, bool(abandoned))


def _rebuild_miner(value: list[Any], history_size: int) -> MinerHistory:
    uid, hotkey, processed, asked, succeeded, scores, rejects = value
    return MinerHistory(
        uid, hotkey, deque(scores, maxlen=history_size), processed, asked, succeeded, Counter(rejects)
    )


def _position(named: tuple[int, Leaf] | None) -> int | None:
    return named[0] if named else None


def _named(store: LedgerStore, position: int | None, kind: type[AnyLeaf]) -> tuple[int, AnyLeaf] | None:
    return None if position is None else (position, _leaf(store, position, kind))


def _leaf(store: LedgerStore, position: int, kind: type[AnyLeaf]) -> AnyLeaf:
    entry = next(store.entries(position), None)
    if entry is None or not isinstance(entry.leaf, kind):
        raise LedgerCorrupt(f"the snapshot names leaf {position}, which is no {kind.kind} leaf")
    return entry.leaf
