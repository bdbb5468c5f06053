"""Acknowledgements of a log's receipts, as the validator signs them, or as somebody else does."""

from __future__ import annotations

from typing import Any

from bittensor import http_auth

from perturbnet.errors import Reject
from perturbnet.ledger.leaves import ReceiptLeaf
from perturbnet.transport import SignedMessage
from perturbnet.wire.keys import Keypair
from perturbnet.wire.messages import ACKNOWLEDGEMENT_PATH, Acknowledgement, encode
from tests.support.auditing.honest import Honest
from tests.support.fakes import keypair


def told(honest: Honest, place: int, **changes: Any) -> Acknowledgement:
    """What the validator told the miner of a receipt."""
    entry = honest.entries[place]
    leaf = entry.leaf
    assert isinstance(leaf, ReceiptLeaf)
    fields: dict[str, Any] = {
        "challenge_id": leaf.challenge_id,
        "body_digest": leaf.body or None,
        "leaf": place,
        "leaf_hash": entry.hash,
        "reject": Reject(leaf.reject),
        "score_ppb": leaf.score_ppb,
    }
    return Acknowledgement(**{**fields, **changes})


def signed(honest: Honest, place: int, *, by: Keypair | None = None, **changes: Any) -> SignedMessage:
    """The same as the miner keeps it."""
    leaf = honest.entries[place].leaf
    assert isinstance(leaf, ReceiptLeaf)
    body = encode(told(honest, place, **changes))
    headers = http_auth.sign(
        by or keypair(1),
        method="POST",
        path=ACKNOWLEDGEMENT_PATH,
        body=body,
        receiver_ss58=leaf.hotkey,
        nonce_ns=1_700_000_000 * 10**9,
    )
    return SignedMessage.of(ACKNOWLEDGEMENT_PATH, headers.items(), body)
