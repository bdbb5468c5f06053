"""The stream that every output is derived from: a log's complete rounds, one at a time, in the log's order.

Rules
- Only complete rounds: a receipt for each miner that was asked, and for nobody else. A round that was cut off
  is left out and counted (`Reading`).
- One round is in memory, whatever the length of the log.
- The log is hostile. `Bundle` checks each leaf up to the root; here a round must fit together: its receipts
  name its challenge, and its config, rules and metagraph are leaves before it. Whether labels, scores and
  draws are right is for `perturb audit` to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from perturbnet.errors import LedgerCorrupt, Reject
from perturbnet.ledger import Entry
from perturbnet.ledger.leaves import ChallengeLeaf, ConfigLeaf, ReceiptLeaf
from perturbnet.rounds.logged import Contexts, Log, LoggedRound, read_rounds
from perturbnet.rounds.terms import Terms


@dataclass(frozen=True)
class Attempt:
    """One miner's receipt, and its place in the log."""

    position: int
    hash: str
    leaf: ReceiptLeaf

    @property
    def accepted(self) -> bool:
        """Whether the answer passed every check: the model was fooled within the gates."""
        return self.leaf.reject == Reject.OK.value


@dataclass(frozen=True)
class ImageAttempts:
    """A complete round: one image's challenge and every attempt on it, in the order of the log."""

    position: int
    hash: str  # the challenge id
    challenge: ChallengeLeaf
    config: ConfigLeaf
    terms: Terms
    attempts: tuple[Attempt, ...]

    @property
    def image(self) -> tuple[str, int]:
        """Which image: (the data set's fingerprint, row)."""
        return self.config.fingerprint, self.challenge.row

    @property
    def broken(self) -> bool:
        """Whether some attempt was accepted."""
        return any(attempt.accepted for attempt in self.attempts)


@dataclass
class Reading:
    """What a reading of the stream came across; complete once the stream has ended."""

    challenges: int = 0
    rounds: int = 0
    open_at: int | None = None  # a last challenge that has no receipts yet, or not all

    @property
    def left_out(self) -> int:
        """Rounds that were cut off: challenges without a receipt for everyone who was asked."""
        return self.challenges - self.rounds


def read_attempts(
    log: Log,
    start: int = 0,
    stop: int | None = None,
    *,
    size: int | None = None,
    reading: Reading | None = None,
) -> Iterator[ImageAttempts]:
    """The complete rounds whose challenge stands from `start` to before `stop`.

    Args:
        log: a bundle, a validator's own ledger, or a list in memory.
        start: receipts of rounds that began before belong to another part.
        stop: where the next part starts; `size` when it is not given. A round that began before is read on.
        size: the log's length for this reading; nothing behind it is looked at. All of it when not given.
        reading: is told what was read and what was left out.

    Raises:
        LedgerCorrupt: a round that does not fit together.
        LedgerError: a leaf that is missing, or not what it should be.

    """
    size = log.size if size is None else min(size, log.size)
    stop = size if stop is None else min(stop, size)
    reading = Reading() if reading is None else reading
    contexts = Contexts(log)
    for logged in read_rounds(_count(log.entries(min(start, stop), size), stop, reading), stop=stop):
        reading.rounds += 1
        reading.open_at = None
        yield _join(logged, contexts)


def _count(entries: Iterable[Entry], stop: int, reading: Reading) -> Iterator[Entry]:
    for entry in entries:
        if isinstance(entry.leaf, ChallengeLeaf) and entry.position < stop:
            reading.challenges += 1
            reading.open_at = entry.position
        yield entry


def _join(logged: LoggedRound, contexts: Contexts) -> ImageAttempts:
    opened = logged.opened
    _require_order(opened.position, opened.leaf)
    attempts = tuple(
        Attempt(entry.position, entry.hash, leaf)
        for entry, leaf in zip(logged.receipts, logged.receipt_leaves(), strict=True)
    )
    answered = [attempt.leaf.uid for attempt in attempts]
    if sorted(answered) != sorted(set(opened.leaf.asked)):
        raise LedgerCorrupt(
            f"leaf {opened.position}: asks uids {opened.leaf.asked}, its receipts are of {answered}"
        )
    for attempt in attempts:
        if attempt.leaf.challenge != opened.position:
            raise LedgerCorrupt(
                f"leaf {attempt.position}: a receipt for the challenge at {attempt.leaf.challenge}, "
                f"it belongs to the one at {opened.position}"
            )
    terms, config = contexts.terms_of(opened.leaf), contexts.config_of(opened.leaf)
    return ImageAttempts(opened.position, opened.hash, opened.leaf, config, terms, attempts)


def _require_order(position: int, leaf: ChallengeLeaf) -> None:
    for name, named in (("config", leaf.config), ("rules", leaf.rules), ("metagraph", leaf.metagraph)):
        if not 0 <= named < position:
            raise LedgerCorrupt(f"leaf {position}: its {name} is leaf {named}, expected one before it")
