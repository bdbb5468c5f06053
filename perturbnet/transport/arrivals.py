"""What goes out to a miner and what comes back: plain values, as the client hands them to the validator."""

from __future__ import annotations

from dataclasses import dataclass

from perturbnet.errors import Reject
from perturbnet.wire import messages
from perturbnet.wire.messages import AttackChallenge


@dataclass(frozen=True, slots=True)
class Query:
    """A challenge as it is sent: its bytes, and the two names a response must repeat."""

    task_id: str
    challenge_id: str
    body: bytes
    body_sha256: str  # hex; hashed once for all who are asked

    @classmethod
    def of(cls, challenge: AttackChallenge) -> Query:
        """Encode a challenge."""
        body = messages.encode(challenge)
        return cls(challenge.task_id, challenge.challenge_id, body, messages.body_digest(body))


@dataclass(frozen=True, slots=True)
class Arrival:
    """What came back from one miner.

    `body` is there for `OK` alone, which means no more than that it came in time; only who stores an arrival
    sees it. `nonce` (decimal) and `signature` (hex with 0x, not verified yet; empty where none of that form
    came) are what `messages.response_payload` is checked with.
    """

    uid: int
    hotkey: str
    reject: Reject
    response_ms: int
    nonce: str
    body: bytes | None = None
    signature: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Whether one acknowledgement was received."""

    uid: int
    hotkey: str
    delivered: bool
    detail: str = ""
