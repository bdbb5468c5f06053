"""Anchors: a log's size and root, written where the operator cannot rewrite it.

Rules
- The first field of a hotkey's commitment is 80 bytes: magic, version, netuid, size, root, SHA-256 of the
  previous anchor's 80 bytes (zeros for the first). The second is where the published log is read, a URL.
- The chain keeps the newest only. It pins all before it by the chain of digests, and all leaves before it,
  because each anchor's tree begins with the tree of the one before.
- A commitment costs its bytes, at least 100, of 3,100 an epoch.
- The list of older anchors comes from the published log. It is hostile until the newest, from the chain,
  pins it.

Source: docs/ledger.md; pallets/commitments.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from perturbnet.errors import BundleError, BundleTampered
from perturbnet.ledger.merkle import EMPTY_ROOT, HASH_BYTES, Subtree
from perturbnet.rules.subnet import Commitment
from perturbnet.wire import canonical_json

MAGIC = b"PRTB"
VERSION = 1
NO_PREVIOUS = bytes(HASH_BYTES)
ANCHOR_BYTES = 80
MAX_ANCHORS = 1_000_000
_FORM = struct.Struct(">4sHHQ32s32s")
_URL = re.compile(rb"https?://[!-~]+")
_PAYLOAD = re.compile(rf"[0-9a-f]{{{2 * ANCHOR_BYTES}}}")


@dataclass(frozen=True)
class Anchor:
    """A tree head on chain: subnet, size, root, digest of the anchor before, and the block it stands in."""

    netuid: int
    size: int
    root: bytes
    previous: bytes
    block: int = 0

    def payload(self) -> bytes:
        """The 80 bytes on chain."""
        return _FORM.pack(MAGIC, VERSION, self.netuid, self.size, self.root, self.previous)

    @property
    def digest(self) -> bytes:
        """The 32 bytes by which the next anchor names this one."""
        return hashlib.sha256(self.payload()).digest()


def parse_anchor(payload: bytes, block: int) -> Anchor:
    """Read an anchor's 80 bytes.

    Raises:
        BundleError: another length, magic or version.

    """
    if len(payload) != ANCHOR_BYTES:
        raise BundleError(f"an anchor of {len(payload)} bytes, expected {ANCHOR_BYTES}")
    magic, version, netuid, size, root, previous = _FORM.unpack(payload)
    if (magic, version) != (MAGIC, VERSION):
        raise BundleError(
            f"an anchor begins with {magic!r}, version {version}; expected {MAGIC!r}, {VERSION}"
        )
    return Anchor(netuid, size, root, previous, block)


def read_commitment(commitment: Commitment | None) -> tuple[Anchor, str] | None:
    """The anchor and the URL of a hotkey's commitment; None when it holds no anchor of ours.

    The URL is "" where there is none or it is none.
    """
    if commitment is None or not commitment.fields:
        return None
    try:
        anchor = parse_anchor(commitment.fields[0], commitment.block)
    except BundleError:
        return None
    url = commitment.fields[1] if commitment.fields[1:] else b""
    return anchor, url.decode() if _URL.fullmatch(url) else ""


def encode_anchors(anchors: Sequence[Anchor]) -> bytes:
    """The list as it is published, the oldest first."""
    return canonical_json.encode([{"block": item.block, "payload": item.payload().hex()} for item in anchors])


def parse_anchors(data: bytes) -> list[Anchor]:
    """Read a published list; nothing is verified. The caller has capped its length.

    Raises:
        BundleError: another form, or more than a million.

    """
    try:
        value = canonical_json.decode(data)
    except canonical_json.NotCanonical as error:
        raise BundleError(f"anchors.json: {error.message}") from None
    if not isinstance(value, list) or len(value) > MAX_ANCHORS:
        raise BundleError(f"anchors.json is no list of at most {MAX_ANCHORS} anchors")
    return [_parse_item(item) for item in value]


def check_chain(anchors: Sequence[Anchor]) -> None:
    """Whether each anchor names the one before it, of the same subnet, and none shrinks the log.

    Raises:
        BundleTampered: one does not; the message says which.

    """
    for number, (old, new) in enumerate(pairwise(anchors), start=1):
        if new.previous != old.digest:
            raise BundleTampered(f"anchor {number} names another one before it than anchor {number - 1}")
        if new.netuid != old.netuid or new.size < old.size or new.block < old.block:
            raise BundleTampered(f"anchor {number} is of another subnet, a smaller log or an earlier block")


def check_pinned(anchors: Sequence[Anchor], size: int, subtree: Subtree) -> None:
    """Whether a log of `size` leaves extends each of these anchors.

    Raises:
        BundleTampered: one is of a larger log, or its root is another; the message says which.

    """
    for number, anchor in enumerate(anchors):
        where = f"anchor {number} (block {anchor.block}) pins {anchor.size} leaves"
        if anchor.size > size:
            raise BundleTampered(f"{where}, the log has {size}")
        root = subtree(0, anchor.size) if anchor.size else EMPTY_ROOT
        if root != anchor.root:
            raise BundleTampered(f"{where} with the root {anchor.root.hex()}, the log's is {root.hex()}")


def _parse_item(item: Any) -> Anchor:
    match item:
        case {"block": int(block), "payload": str(payload)} if len(item) == 2 and _PAYLOAD.fullmatch(payload):
            return parse_anchor(bytes.fromhex(payload), block)
    raise BundleError("anchors.json: an anchor is {block: integer, payload: 160 hex digits}")
