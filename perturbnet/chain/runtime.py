"""What the local chain does with a call: check the signature, check the rules, change the tables.

1. signature (`BadProof`)   2. form of the payload (`BadRequest`)   3. nonce (`Stale`, `Future`)
4. the call's own rules (`rules.py`)   5. effects   6. one line in the log of extrinsics

A payload is canonical JSON `{args, call, chain, hotkey, netuid, nonce}`, signed by the hotkey under `DOMAIN`,
so one process cannot write for another, and no call can be replayed or carried to another chain. Whoever can
write the file can of course write the tables: the signature guards the interface, not the disk.

Commit-reveal: the vector waits in the table `sealed` and is applied at the first block of the epoch that is
`reveal_period_epochs` later, under the rules as they are then; one that has become invalid is dropped without
a word.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any, TypeVar

from perturbnet.chain import rules as chain_rules
from perturbnet.chain.protocol import U16_MAX, check_fields
from perturbnet.chain.rules import RegisteredHotkey, Row, epoch_of
from perturbnet.chain.store import ChainFile, Transaction, decode_row, encode_row
from perturbnet.errors import ChainRejected
from perturbnet.wire import canonical_json, keys
from perturbnet.wire.digests import sha256_hex

DOMAIN = "perturb/local-chain/1"
T = TypeVar("T")


def ask(file: ChainFile, question: Callable[[Transaction], T]) -> T:
    """Answer from the file; takes the write lock only when an epoch has ended unsettled."""
    with file.transaction(write=False) as tx:
        if _epoch(tx) == tx.settled_epoch:
            return question(tx)
    return change(file, question)


def change(file: ChainFile, action: Callable[[Transaction], T]) -> T:
    """Settle the epochs that have ended, then change the file; all or nothing."""
    with file.transaction(write=True) as tx:
        settle(tx)
        tx.sql.execute("UPDATE chain SET block = ?", (tx.block,))
        return action(tx)


def compose(tx: Transaction, hotkey: str, call: str, args: dict[str, Any]) -> bytes:
    """The bytes a hotkey signs for its next call."""
    chain = tx.settings
    payload = {"args": args, "call": call, "chain": chain.identity, "hotkey": hotkey, "netuid": chain.netuid}
    return canonical_json.encode({**payload, "nonce": _next_nonce(tx, hotkey)})


def submit(tx: Transaction, hotkey: str, payload: bytes, signature: bytes) -> str:
    """Apply a signed call and return its reference, `<block>-<number>`.

    Raises:
        ChainRejected: `BadProof`, `BadRequest`, `Stale`, `Future`, or the call's own reason.

    """
    # 1. signature
    if not keys.verify(hotkey, DOMAIN, payload, signature):
        raise ChainRejected("BadProof", f"the signature is not {hotkey}'s")
    # 2. form
    call, args, nonce = _parse(tx, hotkey, payload)
    # 3. nonce
    expected = _next_nonce(tx, hotkey)
    if nonce != expected:
        raise ChainRejected("Stale" if nonce < expected else "Future", f"nonce {nonce}; expected {expected}")
    # 4. and 5. rules, effects
    _CALLS[call](tx, hotkey, **args)
    # 6. the log: a digest, for a sealed vector must not be read from it
    digest = sha256_hex(payload)
    line = (tx.block, hotkey, nonce, call, digest, signature)
    added = tx.sql.execute("INSERT INTO extrinsic VALUES (NULL, ?, ?, ?, ?, ?, ?)", line)
    return f"{tx.block}-{added.lastrowid}"


def register(tx: Transaction, hotkey: str, coldkey: str, stake_rao: int) -> int:
    """Give the hotkey a uid, its own or that of a neuron it replaces, and return it.

    Raises:
        ChainRejected: `HotKeyAlreadyRegisteredInSubNet`, `NoNeuronIdAvailable`, or `BadRequest` for what is
            no address or stake.

    """
    if not (keys.is_address(hotkey) and keys.is_address(coldkey)):
        raise ChainRejected("BadRequest", f"{hotkey} or {coldkey} is not an address")
    if not 0 <= stake_rao < 2**63:
        raise ChainRejected("BadRequest", f"stake {stake_rao} rao; 0 to 2^63 - 1 are allowed")
    members = tx.members()
    if any(member.hotkey == hotkey for member in members):
        raise ChainRejected("HotKeyAlreadyRegisteredInSubNet", f"hotkey {hotkey}")
    uid = chain_rules.free_uid(tx.settings.rules, members, tx.block)
    for old in members[uid : uid + 1]:
        _remove(tx, old)
    newcomer = RegisteredHotkey(uid, hotkey, coldkey, stake_rao, False, tx.block, tx.block, 0)
    tx.put_members([newcomer])
    if _epoch(tx) == epoch_of(0, tx.settings.rules.tempo, tx.settings.netuid):
        _run_epoch(tx)
    return uid


def settle(tx: Transaction) -> None:
    """Run every epoch that has begun since the last call: reveal what is due, then recompute permits."""
    now = _epoch(tx)
    if now == tx.settled_epoch:
        return
    rules = tx.settings.rules
    due = tx.sql.execute(
        "SELECT id, hotkey, epoch, pairs, version_key FROM sealed WHERE epoch <= ? ORDER BY epoch, id",
        (now - rules.reveal_period_epochs,),
    ).fetchall()
    previous = None
    for number, hotkey, epoch, pairs, version_key in due:
        if previous is not None and epoch != previous:
            _run_epoch(tx)
        previous = epoch
        _reveal(tx, hotkey, decode_row(pairs), version_key)
        tx.sql.execute("DELETE FROM sealed WHERE id = ?", (number,))
    _run_epoch(tx)
    tx.sql.execute("UPDATE chain SET settled_epoch = ?", (now,))


def _epoch(tx: Transaction) -> int:
    return epoch_of(tx.block, tx.settings.rules.tempo, tx.settings.netuid)


def _run_epoch(tx: Transaction) -> None:
    tx.put_members(chain_rules.run_epoch(tx.settings.rules, tx.members(), tx.rows()))


def _reveal(tx: Transaction, hotkey: str, row: Row, version_key: int) -> None:
    try:
        member = chain_rules.check_weights(tx.settings.rules, tx.members(), hotkey, row, version_key)
    except ChainRejected:
        return  # as on the live chain: traced by the node, told to nobody
    tx.put_row(member.uid, row)


def _remove(tx: Transaction, old: RegisteredHotkey) -> None:
    """Clear a replaced neuron (`replace_neuron`, `clear_neuron`); only its commitment stays."""
    tx.sql.execute("DELETE FROM neuron WHERE uid = ?", (old.uid,))
    tx.sql.execute("DELETE FROM axon WHERE hotkey = ?", (old.hotkey,))
    tx.sql.execute("DELETE FROM weight WHERE uid = ?", (old.uid,))
    for uid, row in tx.rows().items():
        tx.put_row(uid, tuple((target, 0 if target == old.uid else value) for target, value in row))


def _next_nonce(tx: Transaction, hotkey: str) -> int:
    return int(tx.one("SELECT COALESCE(MAX(nonce) + 1, 0) FROM extrinsic WHERE hotkey = ?", hotkey)[0])


def _parse(tx: Transaction, hotkey: str, payload: bytes) -> tuple[str, dict[str, Any], int]:
    try:
        value: Any = canonical_json.decode(payload)
        call, args, nonce = value["call"], value["args"], int(value["nonce"])
        bound = (value["chain"], value["netuid"], value["hotkey"]) == (
            tx.settings.identity,
            tx.settings.netuid,
            hotkey,
        )
    except (canonical_json.NotCanonical, KeyError, TypeError, ValueError) as error:
        raise ChainRejected("BadRequest", f"the payload is malformed: {error}") from None
    if not bound:
        raise ChainRejected("BadRequest", "the payload is for another chain, subnet or hotkey")
    if call not in _CALLS or set(args) != _ARGUMENTS[call]:
        raise ChainRejected("BadRequest", f"no call {call!r} with {sorted(args)}")
    return call, args, nonce


def _upscale(row: list[list[int]]) -> Row:
    """The row with its largest value at 65,535 (`vec_u16_max_upscale_to_u16`); repeated uids stay.

    Raises:
        ChainRejected: `BadRequest` for what is not a list of pairs of u16; `WeightVecLengthIsLow` for nothing
            positive.

    """
    if not all(
        len(pair) == 2 and all(type(item) is int and 0 <= item <= U16_MAX for item in pair) for pair in row
    ):
        raise ChainRejected("BadRequest", f"weights are pairs of 0 to {U16_MAX}")
    top = max((value for _, value in row), default=0)
    if top == 0:
        raise ChainRejected("WeightVecLengthIsLow", "no weight is positive")
    return tuple((uid, round(Fraction(value * U16_MAX, top))) for uid, value in row)


def _set_weights(tx: Transaction, hotkey: str, row: list[list[int]], version_key: int) -> None:
    rules = tx.settings.rules
    if rules.commit_reveal_enabled:
        raise ChainRejected("CommitRevealEnabled", "this subnet takes sealed weights only")
    ready = _upscale(row)
    member = chain_rules.check_weights(rules, tx.members(), hotkey, ready, version_key)
    chain_rules.check_weights_rate(rules, member, tx.block, "SettingWeightsTooFast")
    tx.put_row(member.uid, ready)
    tx.put_members([replace(member, last_update=tx.block)])


def _commit_weights(tx: Transaction, hotkey: str, row: list[list[int]], version_key: int) -> None:
    rules = tx.settings.rules
    if not rules.commit_reveal_enabled:
        raise ChainRejected("CommitRevealDisabled", "this subnet takes open weights only")
    member = chain_rules.check_commit(rules, tx.members(), hotkey)
    chain_rules.check_weights_rate(rules, member, tx.block, "CommittingWeightsTooFast")
    waiting = tx.one("SELECT COUNT(*) FROM sealed WHERE hotkey = ? AND epoch = ?", hotkey, _epoch(tx))[0]
    if waiting >= chain_rules.MAX_UNREVEALED_COMMITS:
        raise ChainRejected("TooManyUnrevealedCommits", f"{waiting} commits wait for their reveal")
    line = (hotkey, tx.block, _epoch(tx), encode_row(_upscale(row)), version_key)
    tx.sql.execute("INSERT INTO sealed VALUES (NULL, ?, ?, ?, ?, ?)", line)
    tx.put_members([replace(member, last_update=tx.block)])


def _serve_axon(tx: Transaction, hotkey: str, ip: str, port: int) -> None:
    chain_rules.member_of(tx.members(), hotkey, "HotKeyNotRegisteredInNetwork")
    last = tx.one("SELECT block FROM axon WHERE hotkey = ?", hotkey)
    chain_rules.check_axon(tx.settings.rules, ip, port, tx.block, last[0] if last else 0)
    tx.sql.execute("INSERT OR REPLACE INTO axon VALUES (?, ?, ?, ?)", (hotkey, ip, port, tx.block))


def _set_commitment(tx: Transaction, hotkey: str, fields: list[str]) -> None:
    chain_rules.member_of(tx.members(), hotkey, "AccountNotAllowedCommit")
    data = tuple(map(bytes.fromhex, fields))
    check_fields(data)
    last = tx.one("SELECT epoch, used_bytes FROM commitment WHERE hotkey = ?", hotkey)
    used = last[1] if last and last[0] == _epoch(tx) else 0
    used = chain_rules.charge_commitment(tx.settings.rules, used, data)
    line = (hotkey, tx.block, canonical_json.encode(fields).decode(), _epoch(tx), used)
    tx.sql.execute("INSERT OR REPLACE INTO commitment VALUES (?, ?, ?, ?, ?)", line)


_CALLS: dict[str, Callable[..., None]] = {
    "set_weights": _set_weights,
    "commit_weights": _commit_weights,
    "serve_axon": _serve_axon,
    "set_commitment": _set_commitment,
}
_ARGUMENTS = {
    "set_weights": {"row", "version_key"},
    "commit_weights": {"row", "version_key"},
    "serve_axon": {"ip", "port"},
    "set_commitment": {"fields"},
}
