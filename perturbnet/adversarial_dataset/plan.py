"""A plan: how far a log is exported, in which ranges, and which receipts repeat a picture of another round.

One reading of all leaves makes it; after that every range stands for itself, on whichever machine, and gives
the same bytes. Images that were seen are kept in a temporary SQLite file that the system removes, so the
length of the log costs no memory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import msgspec

from perturbnet.adversarial_dataset.layout import WORK_FOLDER, Mode, cut_ranges
from perturbnet.errors import BundleTampered, OutputError
from perturbnet.rounds.attempts import ImageAttempts, Reading, read_attempts
from perturbnet.runtime.artifacts import write_durably
from perturbnet.runtime.progress import Stages
from perturbnet.transparency.bundle import Bundle
from perturbnet.wire import canonical_json

VERSION = 1
PLAN = f"{WORK_FOLDER}/plan.json"
MAX_PLAN_BYTES = 1 << 28


class Range(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rounds whose challenge stands from `start` to before `stop`; `repeats` are receipts that add no row."""

    start: int
    stop: int
    repeats: list[int]


class ExportPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is exported; see the module."""

    version: int
    mode: Mode
    origin: str
    hotkey: str
    netuid: int
    leaves: int  # the version of the data set: how long the log is
    root: str  # of so many leaves, hex
    key: str  # that signs the log at this length, Ed25519, hex
    begin: int  # the first leaf of the data set
    stop: int  # where the next version goes on
    shard_leaves: int
    rebuild: bool
    margins: bool
    previous: str  # SHA-256 of the manifest that this one follows; "" for the first
    ranges: list[Range]
    counts: dict[str, int]  # of the whole data set's rounds

    def check(self, bundle: Bundle) -> None:
        """Refuse a log that does not begin with what was planned.

        Raises:
            OutputError: it does not.

        """
        require_beginning(bundle, self.origin, self.leaves, self.root)

    def write(self, folder: Path) -> None:
        """Keep the plan in the data set's work folder. Raises OSError."""
        (folder / WORK_FOLDER).mkdir(parents=True, exist_ok=True)
        write_durably(folder / PLAN, msgspec.json.format(msgspec.json.encode(self)) + b"\n")


class WantedExamples(msgspec.Struct, frozen=True):
    """How a data set is to be; the same for all of its versions."""

    mode: Mode
    begin: int
    shard_leaves: int
    rebuild: bool
    margins: bool


def make_plan(
    bundle: Bundle, wanted: WantedExamples, *, start: int, previous: str = "", progress: Stages | None = None
) -> ExportPlan:
    """Read all leaves of the data set and plan what is new from `start` on.

    Raises:
        NoteError: the log's own key did not sign its checkpoint.
        OutputError: it begins behind the log's end.
        LedgerError: a leaf or a round that is not what it should be.

    """
    authority = bundle.verify_signature()
    if not 0 <= wanted.begin <= bundle.size:
        raise OutputError(f"leaf {wanted.begin} is not in a log of {bundle.size} leaves")
    reading = Reading()
    cuts: list[Range] = []
    with closing(SeenImages()) as seen:
        rounds = read_attempts(bundle, wanted.begin, reading=reading)
        for attempts in _told(rounds, bundle.size, progress):
            repeats = seen.take(attempts)
            if attempts.position >= start and repeats:
                _range_of(cuts, attempts.position, start, wanted.shard_leaves).repeats.extend(repeats)
    stop = bundle.size if reading.open_at is None else reading.open_at
    known = {cut.start: cut.repeats for cut in cuts}
    ranges = [
        Range(first, last, known.get(first, []))
        for first, last in cut_ranges(start, stop, wanted.shard_leaves)
    ]
    cut_off = reading.left_out - (reading.open_at is not None)
    return ExportPlan(
        version=VERSION,
        mode=wanted.mode,
        origin=bundle.checkpoint.origin,
        hotkey=authority.hotkey,
        netuid=authority.netuid,
        leaves=bundle.size,
        root=bundle.checkpoint.root.hex(),
        key=authority.key.public.hex(),
        begin=wanted.begin,
        stop=max(start, stop),
        shard_leaves=wanted.shard_leaves,
        rebuild=wanted.rebuild,
        margins=wanted.margins,
        previous=previous,
        ranges=ranges,
        counts={**seen.counts, "cut_off": cut_off},
    )


def read_plan(folder: Path) -> ExportPlan | None:
    """The plan of an export that was begun in this folder; None where there is none.

    Raises:
        OutputError: it cannot be read.

    """
    path = folder / PLAN
    try:
        if path.stat().st_size > MAX_PLAN_BYTES:
            raise OutputError(f"{path}: larger than {MAX_PLAN_BYTES} bytes")
        plan = msgspec.json.decode(path.read_bytes(), type=ExportPlan)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise OutputError(f"{path} is no plan of an export: {error}") from None
    if plan.version != VERSION:
        raise OutputError(f"{path}: a plan of version {plan.version}, expected {VERSION}")
    return plan


def require_beginning(bundle: Bundle, origin: str, leaves: int, root: str) -> None:
    """Refuse a log that is not of this name, or does not begin with so many leaves under this root.

    Raises:
        OutputError: another log, or a shorter one.
        BundleTampered: a log of the same name that was rewritten.

    """
    if bundle.checkpoint.origin != origin:
        raise OutputError(f"the data set is of {origin}, the log is {bundle.checkpoint.origin}")
    if bundle.size < leaves:
        raise OutputError(f"the data set has {leaves} leaves of the log, the log at hand has {bundle.size}")
    found = bundle.root_at(leaves).hex()
    if found != root:
        raise BundleTampered(f"{origin}: expected the root {root} over {leaves} leaves, got {found}")


class SeenImages:
    """Which pictures and images came before, and how many; on disk."""

    def __init__(self) -> None:
        """Open a temporary file that the system removes."""
        self.counts = dict.fromkeys(("rounds", "attempts", "accepted", "images", "broken"), 0)
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute("CREATE TABLE pictures (digest BLOB PRIMARY KEY) WITHOUT ROWID")
        self._db.execute("CREATE TABLE images (image BLOB PRIMARY KEY, broken INTEGER) WITHOUT ROWID")

    def take(self, attempts: ImageAttempts) -> list[int]:
        """Remember a round; the positions of accepted receipts whose picture an earlier round has."""
        accepted = [attempt for attempt in attempts.attempts if attempt.accepted]
        self.counts["rounds"] += 1
        self.counts["attempts"] += len(attempts.attempts)
        self.counts["accepted"] += len(accepted)
        self._count_image(_image(attempts.config.dataset, attempts.challenge.row), broken=bool(accepted))
        new = {digest for digest in {one.leaf.adversarial_pixels for one in accepted} if self._is_new(digest)}
        return [one.position for one in accepted if one.leaf.adversarial_pixels not in new]

    def close(self) -> None:
        """The file is gone with it."""
        self._db.close()

    def _is_new(self, digest: str) -> bool:
        return self._db.execute("INSERT OR IGNORE INTO pictures VALUES (?)", (digest.encode(),)).rowcount == 1

    def _count_image(self, image: bytes, *, broken: bool) -> None:
        added = self._db.execute("INSERT OR IGNORE INTO images VALUES (?, 0)", (image,)).rowcount
        self.counts["images"] += added
        if broken:
            self.counts["broken"] += self._db.execute(
                "UPDATE images SET broken = 1 WHERE image = ? AND broken = 0", (image,)
            ).rowcount


def _image(dataset: Mapping[str, str | int], row: int) -> bytes:
    return canonical_json.encode([dataset.get("repository", ""), dataset.get("split", ""), row])


def _range_of(cuts: list[Range], position: int, start: int, step: int) -> Range:
    """The range that holds a position, added where it is a new one; positions ascend."""
    first = max(start, position // step * step)
    if not cuts or cuts[-1].start != first:
        cuts.append(Range(first, first, []))
    return cuts[-1]


def _told(rounds: Iterator[ImageAttempts], size: int, progress: Stages | None) -> Iterator[ImageAttempts]:
    for attempts in rounds:
        yield attempts
        if progress is not None:
            progress("leaves", attempts.position, size)
    if progress is not None:
        progress("leaves", size, size)
