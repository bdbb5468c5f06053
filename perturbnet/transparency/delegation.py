"""Who may sign a log: the hotkey says it in the first leaf, and again when the key changes.

Rules
- A log is signed with an Ed25519 key, because that is what readers of signed notes verify. The hotkey
  (sr25519) signs the sentence "this key signs the log of this name" once, in the genesis leaf.
- A key leaf names the next key. Its owner's hotkey signs it, and so does the key before it. Where that key is
  lost, the same hotkey may go on alone; a change of the hotkey always needs the key before it.
- From its leaf on, only the newest key signs: a checkpoint is signed by the key that is current in its tree.

Source: docs/ledger.md; ADR 10.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from perturbnet.errors import LedgerForked, NoteError
from perturbnet.ledger.leaves import GenesisLeaf, KeyLeaf, Leaf
from perturbnet.transparency.checkpoints import Checkpoint, parse_checkpoint
from perturbnet.transparency.notes import Note, SigningKey, VerifierKey
from perturbnet.wire import canonical_json, keys
from perturbnet.wire.keys import Keypair

DOMAIN = "perturb/log-key/1"
_PLAIN = re.compile(r"[^A-Za-z0-9.:_-]")


@dataclass(frozen=True)
class Authority:
    """Who owns a log, and which key signs it now."""

    origin: str
    netuid: int
    hotkey: str
    key: VerifierKey

    def verify(self, note: Note) -> Checkpoint:
        """The checkpoint of a note that the log's key signed.

        Raises:
            NoteError: it did not, or the note is of another log.

        """
        note.verify([self.key])
        checkpoint = parse_checkpoint(note.text)
        if checkpoint.origin != self.origin:
            raise NoteError(f"a checkpoint of {checkpoint.origin}, expected {self.origin}")
        return checkpoint


def origin_of(network: str, netuid: int, hotkey: str) -> str:
    """The name of a hotkey's log: `perturb/<network>/<netuid>/<hotkey>`."""
    plain = _PLAIN.sub("-", network.removeprefix("wss://").removeprefix("ws://"))
    return f"perturb/{plain}/{netuid}/{hotkey}"


def build_genesis(
    keypair: Keypair, key: SigningKey, *, network: str, netuid: int, created_ms: int
) -> GenesisLeaf:
    """The first leaf of a log: the hotkey lets `key`, whose name is the log's, sign it."""
    hotkey, public = keypair.ss58_address, key.public.hex()
    payload = _payload(key.name, netuid, hotkey, public, "")
    signature = keys.sign(keypair, DOMAIN, payload).hex()
    return GenesisLeaf(key.name, network, netuid, hotkey, public, signature, created_ms)


def build_key_leaf(
    authority: Authority, keypair: Keypair, key: SigningKey, *, old: SigningKey | None
) -> KeyLeaf:
    """The leaf that hands the log to `key`, and to the hotkey of `keypair`; `old` is None when it is lost."""
    hotkey, public, previous = keypair.ss58_address, key.public.hex(), authority.key.public.hex()
    payload = _payload(authority.origin, authority.netuid, hotkey, public, previous)
    signature = keys.sign(keypair, DOMAIN, payload).hex()
    handover = old.private.sign(keys.message(DOMAIN, payload)).hex() if old else ""
    return KeyLeaf(hotkey, public, previous, signature, handover)


def read_genesis(leaf: Leaf) -> Authority:
    """Who may sign, from the first leaf.

    Raises:
        NoteError: it is no genesis leaf, the log is not named by network, netuid and hotkey, or the hotkey
            did not sign it.

    """
    if not isinstance(leaf, GenesisLeaf):
        raise NoteError(f"leaf 0 is a {leaf.kind} leaf, expected genesis: nobody may sign this log")
    named = origin_of(leaf.network, leaf.netuid, leaf.hotkey)
    if leaf.origin != named:
        raise NoteError(f"leaf 0: the log is named {leaf.origin[:160]!r}, expected {named[:160]!r}")
    payload = _payload(leaf.origin, leaf.netuid, leaf.hotkey, leaf.key, "")
    if not keys.verify(leaf.hotkey, DOMAIN, payload, _hex(leaf.signature)):
        raise NoteError(f"leaf 0: the hotkey {leaf.hotkey} did not sign the key of the log")
    return Authority(leaf.origin, leaf.netuid, leaf.hotkey, VerifierKey(leaf.origin, _hex(leaf.key)))


def follow_key(authority: Authority, leaf: KeyLeaf) -> Authority:
    """Who may sign after a key leaf.

    Raises:
        NoteError: it follows another key, or lacks the signature of the hotkey or of the key before it.

    """
    previous = authority.key
    if leaf.previous != previous.public.hex():
        raise NoteError(f"a key leaf follows the key {leaf.previous[:80]}, expected {previous.public.hex()}")
    payload = _payload(authority.origin, authority.netuid, leaf.hotkey, leaf.key, leaf.previous)
    if not keys.verify(leaf.hotkey, DOMAIN, payload, _hex(leaf.signature)):
        raise NoteError(f"a key leaf that the hotkey {leaf.hotkey[:80]} did not sign")
    handed = previous.accepts_bytes(keys.message(DOMAIN, payload), _hex(leaf.handover))
    if not handed and (leaf.handover or leaf.hotkey != authority.hotkey):
        raise NoteError("a key leaf that the key before it did not sign")
    return replace(authority, hotkey=leaf.hotkey, key=VerifierKey(authority.origin, _hex(leaf.key)))


def follow_keys(authority: Authority, changes: Iterable[Leaf]) -> Authority:
    """Who may sign after these leaves, of which only key leaves matter; raises as `follow_key`."""
    for leaf in changes:
        if isinstance(leaf, KeyLeaf):
            authority = follow_key(authority, leaf)
    return authority


def read_authority(genesis: Leaf, changes: Iterable[Leaf]) -> Authority:
    """Who may sign a log, from its first leaf and those after it, of which only key leaves matter.

    Raises:
        NoteError: a delegation that does not hold.

    """
    return follow_keys(read_genesis(genesis), changes)


def check_owner(authority: Authority, *, hotkey: str, netuid: int) -> None:
    """Whether the log is the hotkey's on this subnet.

    Raises:
        LedgerForked: it is another's.

    """
    if (authority.hotkey, authority.netuid) != (hotkey, netuid):
        found = f"{authority.hotkey} on netuid {authority.netuid}"
        raise LedgerForked(f"the log {authority.origin} belongs to {found}, not to {hotkey} on {netuid}")


def _payload(origin: str, netuid: int, hotkey: str, key: str, previous: str) -> bytes:
    return canonical_json.encode(
        {"hotkey": hotkey, "key": key, "netuid": netuid, "origin": origin, "previous": previous}
    )


def _hex(text: str) -> bytes:
    """The bytes of lower-case hex; empty for anything else, which no signature and no key is."""
    return bytes.fromhex(text) if re.fullmatch(r"(?:[0-9a-f]{2})+", text) else b""
