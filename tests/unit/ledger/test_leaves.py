"""A leaf is read back as it was written, or it is refused."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from perturbnet.errors import LedgerCorrupt, LedgerError
from perturbnet.ledger import Leaf, decode_leaf, leaf_hash
from perturbnet.ledger.leaves import _KINDS, EpochLeaf, MetagraphLeaf, SkipLeaf
from perturbnet.wire import canonical_json
from tests.support.ledger.samples import KINDS, any_leaf, plain

SKIP = {"kind": "skip", "epoch": 0, "draw": 1, "row": 2, "reason": "torn"}


def test_every_kind_is_tested_here() -> None:
    assert set(_KINDS.values()) == set(KINDS)


@given(st.sampled_from(KINDS).flatmap(any_leaf))
def test_round_trip(leaf: Leaf) -> None:
    data = leaf.encode()
    assert decode_leaf(data) == leaf
    assert decode_leaf(data).encode() == data
    assert canonical_json.decode(data)["kind"] == leaf.kind  # type: ignore[call-overload, index]


@given(st.sampled_from(KINDS).flatmap(any_leaf))
def test_the_quick_way_writes_what_the_general_encoder_writes(leaf: Leaf) -> None:
    assert leaf.encode() == canonical_json.encode({"kind": leaf.kind, **asdict(leaf)})


@given(st.text(st.characters(), max_size=30))
def test_the_quick_way_escapes_as_the_general_encoder_does(reason: str) -> None:
    """Any text, lone surrogates too."""
    leaf = SkipLeaf(0, 1, 2, reason)
    try:
        expected = canonical_json.encode({"kind": "skip", **asdict(leaf)})
    except canonical_json.NotCanonical:
        with pytest.raises(LedgerError, match="lone surrogate"):
            leaf.encode()
        return
    assert leaf.encode() == expected


def test_written_form_is_pinned() -> None:
    assert (
        SkipLeaf(0, 1, 2, "tórn").encode()
        == '{"draw":1,"epoch":0,"kind":"skip","reason":"tórn","row":2}'.encode()
    )


def test_hash_is_rfc_6962s() -> None:
    """The leaf hash of the empty entry is a published vector (RFC 6962's reference implementation)."""
    assert leaf_hash(b"") == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert leaf_hash(b"\x00") == "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
    assert leaf_hash(b"a") == hashlib.sha256(b"\x00a").hexdigest()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "skipp"}, "unknown kind of leaf 'skipp'"),
        ({"kind": ["skip"]}, "unknown kind"),
        ({"kind": {"skip": 1}}, "unknown kind"),
        ({"kind": None}, "unknown kind"),
        ({"extra": 1}, "expected the fields"),
        ({"draw": "1"}, "draw is '1', expected int"),
        ({"draw": True}, "draw is True, expected int"),
        ({"draw": None}, "draw is None"),
        ({"draw": [1]}, r"draw is \[1\]"),
        ({"reason": 5}, "reason is 5, expected str"),
        ({"reason": False}, "reason is False"),
    ],
)
def test_refused_on_reading(change: dict[str, Any], said: str) -> None:
    with pytest.raises(LedgerCorrupt, match=said):
        decode_leaf(canonical_json.encode({**SKIP, **change}))


def test_missing_field_refused() -> None:
    with pytest.raises(LedgerCorrupt, match="expected the fields"):
        decode_leaf(canonical_json.encode({name: SKIP[name] for name in SKIP if name != "row"}))


@pytest.mark.parametrize("value", [[], "skip", 5, None, True, {}])
def test_what_is_no_leaf_refused(value: Any) -> None:
    with pytest.raises(LedgerCorrupt, match="unknown kind"):
        decode_leaf(canonical_json.encode(value))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"{",
        json.dumps(SKIP).encode(),  # white space, other order
        b'{"draw":1,"draw":1,"epoch":0,"kind":"skip","reason":"torn","row":2}',
        b'{"draw":1.5,"epoch":0,"kind":"skip","reason":"torn","row":2}',
        b"[" * 100_000,
    ],
)
def test_not_canonical_refused(data: bytes) -> None:
    with pytest.raises(LedgerCorrupt, match="not canonical JSON"):
        decode_leaf(data)


@pytest.mark.parametrize(
    ("leaf", "said"),
    [
        (replace(plain(SkipLeaf), draw="1"), "skip leaf: draw is '1', expected int"),
        (replace(plain(SkipLeaf), draw=True), "draw is True"),
        (replace(plain(SkipLeaf), draw=1.0), "draw is 1.0"),
        (replace(plain(SkipLeaf), draw=2**53), "beyond 2\\^53"),
        (replace(plain(SkipLeaf), reason="\ud800"), "surrogate"),
        (replace(plain(EpochLeaf), commitments=("a",)), "commitments is"),
        (replace(plain(EpochLeaf), commitments=["a", 1]), "commitments is"),
        (replace(plain(MetagraphLeaf), neurons=[[1, None]]), "neurons is"),
        (replace(plain(MetagraphLeaf), neurons=[[True]]), "neurons is"),
    ],
)
def test_what_could_not_be_read_again_is_never_written(leaf: Leaf, said: str) -> None:
    """A field of another type would be stored, hashed, and refused for ever at the next start."""
    with pytest.raises(LedgerError, match=said):
        leaf.encode()


@given(st.sampled_from(KINDS).flatmap(any_leaf), st.data())
def test_flipped_bits_never_pass_for_another_hash(leaf: Leaf, data: st.DataObject) -> None:
    body = bytearray(leaf.encode())
    place = data.draw(st.integers(0, len(body) * 8 - 1))
    body[place // 8] ^= 1 << place % 8
    assert leaf_hash(bytes(body)) != leaf_hash(leaf.encode())
    try:
        found = decode_leaf(bytes(body))
    except LedgerCorrupt:
        return
    assert found != leaf
