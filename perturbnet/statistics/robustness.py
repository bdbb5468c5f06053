"""How a model stood up, counted: a fold over the stream of rounds into whole numbers and intervals.

Vocabulary
- image: a distinct source image, (the data set's fingerprint, row). It is what is counted; every share here
  is a share of images, never of attempts or rounds, for the attempts on one image depend on each other.
- round: one challenge; an image has several where the data set is gone through again.
- attempt: one miner's answer, or its failure to answer, in a round that counts.
- broken: some attempt on the image was accepted, by any miner, in any round.
- stability: the share of images that nobody broke. The label is the model's own, on the clean image.
- clean accuracy: the share of labelled images that the model labels as the source does, in every round on
  them. Robust accuracy: the share of labelled images of which that holds and which nobody broke.

A round counts when somebody tried: an attempt that ended in anything but ABSENT. A time-out is a try; it and
the rounds from which no image came back at all are counted beside, because they make a model look stable.
What does not count is counted by its reason:

    cut_off             not everybody who was asked has a receipt
    other_model         the round's config names another model
    nobody_served       nobody was there to be asked
    interrupted         nobody tried, and the validator itself had stopped
    clean_mislabelled   the clean image did not have the challenge's label

The same log gives the same `Statistics` to the letter, whoever counts. Memory: a few words for each image and
each miner.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from perturbnet.errors import LedgerCorrupt, OutputError, Reject
from perturbnet.rounds.attempts import ImageAttempts, Reading, read_attempts
from perturbnet.rounds.logged import Log
from perturbnet.runtime.progress import Progress
from perturbnet.statistics.intervals import LEVEL, Interval, anytime, clopper_pearson, share
from perturbnet.wire import canonical_json

ABSENT = frozenset(
    {
        Reject.NOT_SERVING,
        Reject.ADDRESS_REFUSED,
        Reject.OFFLINE,
        Reject.HTTP_ERROR,
        Reject.INTERRUPTED,
        Reject.CLEAN_MISLABELLED,
    }
)
CUT_OFF = "cut_off"
OTHER_MODEL = "other_model"
NOBODY_SERVED = "nobody_served"
EXCLUSIONS = (
    CUT_OFF,
    OTHER_MODEL,
    NOBODY_SERVED,
    Reject.INTERRUPTED.value,
    Reject.CLEAN_MISLABELLED.value,
)


class Rate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A share of images, with the interval for a fixed number of images and the one for any."""

    successes: int
    trials: int
    share: str  # decimal text; "" where there are no images
    exact: Interval
    anytime: Interval


class Statistics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counts and shares of one model in a range of leaves."""

    model: str  # digest of the artefact
    since: int  # leaves: from this one
    until: int  # to before this one
    first_block: int  # of the rounds that count; 0 where there are none
    last_block: int
    rounds: int  # that count
    excluded: dict[str, int]  # rounds that do not, by reason
    rounds_without_an_image: int  # that count, though nobody sent a picture that could be looked at
    images: int
    images_again: int  # of these: in several rounds
    broken: int
    miners: int  # hotkeys that tried
    attempts: int  # tries
    accepted: int
    timeouts: int
    outcomes: dict[str, int]  # of all receipts in rounds that count, absent miners' too
    smallest_linf_u8: dict[str, int]  # broken images by the smallest distance that broke them, in levels
    labelled: int  # images whose class the source names
    stability: Rate
    clean_accuracy: Rate
    robust_accuracy: Rate

    def encode(self) -> bytes:
        """The canonical bytes."""
        return canonical_json.encode(msgspec.to_builtins(self))

    def digest(self) -> str:
        """SHA-256 of the canonical bytes, hex."""
        return canonical_json.digest(msgspec.to_builtins(self))


@dataclass
class _Image:
    """What is kept of one image."""

    rounds: int = 0
    linf_u8: int = -1  # the smallest that broke it
    labelled: bool = False
    mislabelled: bool = False


@dataclass
class Count:
    """The fold: `add` every round of the range, in order; `finish` tells what they come to."""

    model: str
    since: int = 0
    rounds: int = 0
    silent: int = 0
    blocks: tuple[int, int] = (0, 0)
    excluded: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    tries: int = 0
    hotkeys: set[str] = field(default_factory=set)
    images: dict[tuple[str, int], _Image] = field(default_factory=dict)

    def add(self, done: ImageAttempts) -> bool:
        """Take in a round; whether it counts.

        Raises:
            LedgerCorrupt: a receipt with a code that there is not.

        """
        codes = [_code(attempt.position, attempt.leaf.reject) for attempt in done.attempts]
        reason = OTHER_MODEL if done.config.model_digest != self.model else _exclusion(codes)
        if reason:
            self.excluded[reason] += 1
            return False
        block = done.challenge.block
        self.blocks = (
            (min(self.blocks[0], block), max(self.blocks[1], block)) if self.rounds else (block,) * 2
        )
        self.rounds += 1
        self.outcomes.update(code.value for code in codes)
        tried = [item.leaf for item, code in zip(done.attempts, codes, strict=True) if code not in ABSENT]
        self.tries += len(tried)
        self.hotkeys.update(leaf.hotkey for leaf in tried)
        self.silent += not any(leaf.adversarial_pixels for leaf in tried)
        self._see(done)
        return True

    def finish(self, until: int, *, cut_off: int = 0, level: str = LEVEL) -> Statistics:
        """What was counted in the leaves before `until`; `cut_off` rounds never came whole."""
        found = self.images.values()
        broken = Counter(image.linf_u8 for image in found if image.linf_u8 >= 0)
        labelled = [image for image in found if image.labelled]
        correct = [image for image in labelled if not image.mislabelled]
        robust = sum(image.linf_u8 < 0 for image in correct)
        excluded = Counter({CUT_OFF: cut_off}) + self.excluded
        return Statistics(
            model=self.model,
            since=self.since,
            until=until,
            first_block=self.blocks[0],
            last_block=self.blocks[1],
            rounds=self.rounds,
            excluded={reason: excluded[reason] for reason in EXCLUSIONS},
            rounds_without_an_image=self.silent,
            images=len(found),
            images_again=sum(image.rounds > 1 for image in found),
            broken=broken.total(),
            miners=len(self.hotkeys),
            attempts=self.tries,
            accepted=self.outcomes[Reject.OK.value],
            timeouts=self.outcomes[Reject.TIMEOUT.value],
            outcomes=dict(sorted(self.outcomes.items())),
            smallest_linf_u8={str(linf): broken[linf] for linf in sorted(broken)},
            labelled=len(labelled),
            stability=rate(len(found) - broken.total(), len(found), level),
            clean_accuracy=rate(len(correct), len(labelled), level),
            robust_accuracy=rate(robust, len(labelled), level),
        )

    def _see(self, done: ImageAttempts) -> None:
        image = self.images.setdefault(done.image, _Image())
        image.rounds += 1
        found = [attempt.leaf.linf_u8 for attempt in done.attempts if attempt.accepted]
        if found:
            image.linf_u8 = min([*found, image.linf_u8] if image.linf_u8 >= 0 else found)
        if done.challenge.source_label:
            image.labelled = True
            image.mislabelled |= done.challenge.source_label != done.challenge.true_label


def count_log(
    log: Log,
    model: str,
    *,
    since: int = 0,
    until: int | None = None,
    level: str = LEVEL,
    progress: Progress = lambda _done, _of: None,
) -> Statistics:
    """Count the rounds of a log from leaf `since` to before leaf `until`, its end when not given.

    Args:
        log: a bundle, a validator's own ledger, or a list in memory.
        model: hex digest of the artefact.
        since: rounds whose challenge stands before it are left out.
        until: nothing from this leaf on is looked at.
        level: of the intervals, decimal text.
        progress: told (leaves read, leaves in all).

    Raises:
        OutputError: no such range of leaves.
        LedgerError: a leaf that is missing, or a round that does not fit together.

    """
    until = end_of_range(log, since, until)
    count = Count(model, since)
    cut_off = feed(log, count.add, since, until, progress)
    return count.finish(until, cut_off=cut_off, level=level)


def end_of_range(log: Log, since: int, until: int | None) -> int:
    """The leaf before which a range ends, the log's end when not given.

    Raises:
        OutputError: no such range of leaves.

    """
    until = log.size if until is None else until
    if not 0 <= since < until <= log.size:
        raise OutputError(f"leaves {since} to before {until}: the log has leaves 0 to before {log.size}")
    return until


def feed(log: Log, add: Callable[[ImageAttempts], object], since: int, until: int, progress: Progress) -> int:
    """Give every round of a range of leaves to `add`; returns how many rounds the range's end cut off."""
    reading = Reading()
    for done in read_attempts(log, since, size=until, reading=reading):
        add(done)
        progress(done.position - since, until - since)
    progress(until - since, until - since)
    return reading.left_out


def rate(successes: int, trials: int, level: str = LEVEL) -> Rate:
    """A share with both intervals."""
    bounds = clopper_pearson(successes, trials, level), anytime(successes, trials, level)
    return Rate(successes, trials, share(successes, trials), *bounds)


def _code(position: int, text: str) -> Reject:
    try:
        return Reject(text)
    except ValueError:
        raise LedgerCorrupt(f"leaf {position}: the code {text[:80]!r} is unknown") from None


def _exclusion(codes: list[Reject]) -> str:
    """Why a round of these outcomes does not count; empty when it does."""
    if any(code not in ABSENT for code in codes):
        return ""
    for code in (Reject.CLEAN_MISLABELLED, Reject.INTERRUPTED):
        if code in codes:
            return code.value
    return NOBODY_SERVED
