"""The private tables beside the leaves: what is never published as it stands, or kept for a while only.

- `arrivals`: responses, noted before they are verified; their bodies are blobs.
- `deltas`: which blobs the receipts of a round name (digests of 32 bytes, one after the other), so that
  retention finds them.
- `secrets`: the secret of each epoch, written in the same transaction as its epoch leaf.
- `anchors`: what was written on chain, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from perturbnet.errors import LedgerCorrupt
from perturbnet.ledger.database import LedgerFile

_BODIES_BEFORE = """
SELECT DISTINCT body FROM arrivals WHERE challenge < :challenge AND body <> ''
AND body NOT IN (SELECT body FROM arrivals WHERE challenge >= :challenge) ORDER BY body
"""
# The column `pixels` held what a body says of itself; the body says it.
_NOTE_ARRIVAL = """
INSERT INTO arrivals (challenge, uid, hotkey, reject, body, nonce, signature, pixels, response_ms)
VALUES (:challenge, :uid, :hotkey, :reject, :body, :nonce, :signature, '', :response_ms)
ON CONFLICT (challenge, uid) DO NOTHING
"""
_ARRIVALS_OF = """
SELECT challenge, uid, hotkey, reject, body, nonce, signature, response_ms FROM arrivals
WHERE challenge = ? ORDER BY uid
"""
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class ArrivalRow:
    """A response as it came, before anybody looked into it. `body` is the digest of a blob, or empty.

    `signature` (hex with 0x) is what came with it, not verified yet.
    """

    challenge: int
    uid: int
    hotkey: str
    reject: str
    body: str
    nonce: str
    signature: str
    response_ms: int


class PrivateTables(LedgerFile):
    """What the log's file holds beside the log."""

    def note_arrival(self, row: ArrivalRow) -> None:
        """Note a response durably before it is verified; the first note of a miner counts.

        Raises:
            LedgerError: nothing was recorded: a full disk, or no such challenge.

        """
        with self._writing():
            self._db.execute(_NOTE_ARRIVAL, asdict(row))

    def arrivals(self, challenge: int) -> list[ArrivalRow]:
        """The responses noted for the challenge at leaf `challenge`, by uid."""
        rows = self._read(_ARRIVALS_OF, challenge)
        return [ArrivalRow(*row) for row in rows]

    def challenges_with_arrivals(self) -> list[int]:
        """The places of the challenges whose responses are still noted, ascending."""
        return _numbers(self._read("SELECT DISTINCT challenge FROM arrivals ORDER BY challenge"))

    def bodies(self) -> set[str]:
        """The digests of all bodies that are noted."""
        return _texts(self._read("SELECT DISTINCT body FROM arrivals WHERE body <> ''"))

    def bodies_before(self, challenge: int) -> list[str]:
        """Digests that only responses to challenges before leaf `challenge` name: blobs that may go."""
        return [str(row[0]) for row in self._read(_BODIES_BEFORE, {"challenge": challenge})]

    def forget_arrivals(self, before_challenge: int) -> int:
        """Forget the responses to challenges before leaf `before_challenge`; return how many. Leaves stay."""
        with self._writing():
            return self._db.execute("DELETE FROM arrivals WHERE challenge < ?", (before_challenge,)).rowcount

    def challenges_with_deltas(self) -> list[int]:
        """The places of the challenges whose receipts name deltas that are still kept, ascending."""
        return _numbers(self._read("SELECT challenge FROM deltas ORDER BY challenge"))

    def deltas(self, start: int = 0, stop: int | None = None) -> set[str]:
        """The digests of the deltas kept for challenges at leaves from `start` to before `stop`."""
        query = "SELECT digests FROM deltas WHERE challenge >= ? AND challenge < ?"
        rows = self._read(query, start, 2**62 if stop is None else stop)
        return {
            row[0][place : place + _DIGEST_BYTES].hex()
            for row in rows
            for place in range(0, len(row[0]), _DIGEST_BYTES)
        }

    def deltas_before(self, challenge: int) -> list[str]:
        """Digests that only receipts of challenges before leaf `challenge` name: blobs that may go."""
        return sorted(self.deltas(0, challenge) - self.deltas(challenge))

    def forget_deltas(self, before_challenge: int) -> int:
        """Forget which deltas belong to challenges before leaf `before_challenge`; return how many."""
        with self._writing():
            return self._db.execute("DELETE FROM deltas WHERE challenge < ?", (before_challenge,)).rowcount

    def secret_of(self, position: int) -> bytes:
        """The secret of the epoch whose leaf is at `position`."""
        rows = self._read("SELECT secret FROM secrets WHERE leaf = ?", position)
        if not rows:
            raise LedgerCorrupt(f"{self.path}: the secret of the epoch at leaf {position} is missing")
        return bytes(rows[0][0])

    def note_anchor(self, block: int, payload: bytes) -> None:
        """Note what stands on chain, after those before it."""
        with self._writing():
            self._db.execute("INSERT INTO anchors (block, payload) VALUES (?, ?)", (block, payload))

    def anchors(self) -> list[tuple[int, bytes]]:
        """Block and bytes of every anchor, the oldest first."""
        rows = self._read("SELECT block, payload FROM anchors ORDER BY number")
        return [(int(block), bytes(payload)) for block, payload in rows]


def _numbers(rows: Sequence[tuple[int]]) -> list[int]:
    return [int(row[0]) for row in rows]


def _texts(rows: Sequence[tuple[str]]) -> set[str]:
    return {str(row[0]) for row in rows}
