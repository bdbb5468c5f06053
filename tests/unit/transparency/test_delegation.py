"""Only the hotkey says who signs, and a key is handed on by the one before."""

from __future__ import annotations

import pytest
from msgspec.structs import asdict

from perturbnet.errors import NoteError
from perturbnet.ledger.leaves import GenesisLeaf
from perturbnet.transparency.checkpoints import Checkpoint, sign_checkpoint
from perturbnet.transparency.delegation import build_genesis, build_key_leaf, origin_of, read_authority
from tests.support.ledger.samples import skip
from tests.support.transparency.logs import NETUID, hotkey, log_key

ALICE = hotkey("alice")
KEY = log_key("1", ALICE)


def genesis() -> GenesisLeaf:
    return build_genesis(ALICE, KEY, network="local", netuid=NETUID, created_ms=1)


@pytest.mark.parametrize(
    ("field", "value"),
    [("network", "finney"), ("netuid", 8), ("origin", "x"), ("hotkey", hotkey("bob").ss58_address)],
)
def test_a_log_is_named_by_network_netuid_and_hotkey(field: str, value: str | int) -> None:
    leaf = genesis()
    with pytest.raises(NoteError, match="the log is named"):
        read_authority(type(leaf)(**{**asdict(leaf), field: value}), [])


def test_a_key_is_handed_on() -> None:
    second, third = log_key("2", ALICE), log_key("3", ALICE)
    authority = read_authority(genesis(), [])
    first_change = build_key_leaf(authority, ALICE, second, old=KEY)
    later = read_authority(genesis(), [skip(1), first_change])
    assert later.key == second.verifier()
    alone = build_key_leaf(later, ALICE, third, old=None)
    assert read_authority(genesis(), [first_change, alone]).key == third.verifier()
    note = sign_checkpoint(Checkpoint(KEY.name, 1, bytes(32)), third)
    assert read_authority(genesis(), [first_change, alone]).verify(note).size == 1
    with pytest.raises(NoteError, match="no known key"):
        later.verify(note)
    with pytest.raises(NoteError, match="follows the key"):
        read_authority(genesis(), [alone])


def test_another_hotkey_needs_the_key_before() -> None:
    bob, authority = hotkey("bob"), read_authority(genesis(), [])
    second = log_key("2", ALICE)
    assert (
        read_authority(genesis(), [build_key_leaf(authority, bob, second, old=KEY)]).hotkey
        == bob.ss58_address
    )
    for old in (None, log_key("9", ALICE)):
        with pytest.raises(NoteError, match="the key before it did not sign"):
            read_authority(genesis(), [build_key_leaf(authority, bob, second, old=old)])


def test_only_the_hotkey_begins_a_log() -> None:
    leaf = genesis()
    bob = hotkey("bob").ss58_address
    for changes in (
        {"signature": "zz"},
        {"netuid": 8, "origin": origin_of("local", 8, leaf.hotkey)},
        {"network": "finney", "origin": origin_of("finney", NETUID, leaf.hotkey)},
        {"hotkey": bob, "origin": origin_of("local", NETUID, bob)},
    ):
        with pytest.raises(NoteError, match="did not sign the key"):
            read_authority(type(leaf)(**{**asdict(leaf), **changes}), [])
    other = sign_checkpoint(Checkpoint("perturb/other", 0, bytes(32)), KEY)
    with pytest.raises(NoteError, match="a checkpoint of perturb/other"):
        read_authority(leaf, []).verify(other)
