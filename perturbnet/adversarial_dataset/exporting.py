"""Exporting: a plan, a range of leaves after the other (or on many machines), and the files that bind them.

    begin        reads the log once, writes .export/plan.json and keeps the checkpoint
    write_range  writes one range's shards, then .export/ranges/<start>.json
    finish       data card, Croissant, manifest, note; then .export is removed

Rules
- The same functions run in one process and in parts, so the bytes are the same.
- A range that was finished is not done again: an export that was killed goes on where it was.
- A version adds shards behind those of the version before it and touches none of them.
- A folder that holds something else is not written to.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from perturbnet.adversarial_dataset.card import write_card
from perturbnet.adversarial_dataset.croissant import write_croissant
from perturbnet.adversarial_dataset.examples import Builder
from perturbnet.adversarial_dataset.layout import (
    CARD,
    CHECKPOINT,
    CROISSANT,
    MANIFEST,
    SHARD_LEAVES,
    WORK_FOLDER,
    Mode,
)
from perturbnet.adversarial_dataset.manifest import (
    NAMED,
    AttackedModel,
    DatasetManifest,
    Shard,
    SourceDataset,
    read_manifest,
    write_manifest,
)
from perturbnet.adversarial_dataset.plan import (
    ExportPlan,
    Range,
    WantedExamples,
    make_plan,
    read_plan,
    require_beginning,
)
from perturbnet.adversarial_dataset.reports import (
    RangeReport,
    bind,
    model_of,
    read_report,
    report_path,
    source_of,
)
from perturbnet.adversarial_dataset.shards import RangeWriter
from perturbnet.auditing.run import Means
from perturbnet.errors import DatasetError, OutputError
from perturbnet.rounds.attempts import read_attempts
from perturbnet.runtime.artifacts import sha256_file, write_durably
from perturbnet.runtime.progress import Stages
from perturbnet.transparency.bundle import Bundle
from perturbnet.transparency.notes import SigningKey

_FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class Asked:
    """How the user wants the data set; None leaves it to the version at hand, or to the default."""

    mode: Mode | None = None
    begin: int | None = None
    shard_leaves: int | None = None
    rebuild: bool | None = None
    margins: bool | None = None


def begin(bundle: Bundle, folder: Path, asked: Asked, progress: Stages | None = None) -> ExportPlan:
    """Plan an export into `folder`, or take up the one that was begun there.

    Raises:
        OutputError: the folder holds something else, or a data set that is to be otherwise; another log.
        BundleTampered: the log was rewritten since the last version.
        NoteError, LedgerError: a log that is not what it should be.

    """
    plan, old = read_plan(folder), read_version(folder)
    if plan is not None:
        require_wanted(plan, asked, "begun here")
        plan.check(bundle)
        return plan
    if old is not None:
        require_wanted(old, asked, "in this folder")
        require_beginning(bundle, old.origin, old.leaves, old.root)
        asked = Asked(old.mode, old.begin, old.shard_leaves, old.rebuild, old.margins)
    elif folder.exists() and (
        not folder.is_dir() or any(one.name != WORK_FOLDER for one in folder.iterdir())
    ):
        raise OutputError(
            f"{folder} holds something else", hint="name a folder that is empty, or not there yet"
        )
    wanted = _settle(asked)
    start = wanted.begin if old is None else old.stop
    plan = make_plan(bundle, wanted, start=start, previous=_previous(old, bundle), progress=progress)
    with _disk(folder):
        shutil.rmtree(folder / WORK_FOLDER, ignore_errors=True)  # of a plan that is gone
        (folder / WORK_FOLDER).mkdir(parents=True)
        write_durably(folder / WORK_FOLDER / CHECKPOINT, bundle.note)
        plan.write(folder)
    return plan


def write_range(bundle: Bundle, folder: Path, plan: ExportPlan, cut: Range, means: Means) -> RangeReport:
    """Write one range's shards, unless that is done.

    Raises:
        OutputError: no room, pictures that may not be handed on, no data set where one is needed.
        LedgerError, DatasetError, DigestMismatch: see `examples.Builder.rows`.

    """
    path = report_path(folder, cut)
    if path.exists():
        return read_report(path)
    _require_means(plan, means)
    source, engine = means.source if plan.rebuild else None, means.engine if plan.margins else None
    builder = Builder(bundle, plan.mode, source, engine)
    sources: set[SourceDataset] = set()
    models: set[AttackedModel] = set()
    repeats = frozenset(cut.repeats)
    work = folder / WORK_FOLDER
    with _disk(folder), RangeWriter(folder, work, plan.mode, cut.start, cut.stop) as writer:
        for attempts in read_attempts(bundle, cut.start, cut.stop, size=plan.leaves):
            for row in builder.rows(attempts, repeats):
                writer.add(row)
            sources.add(source_of(attempts.config))
            models.add(model_of(attempts.config))
        left_out = dict(sorted(builder.left_out.items()))
        report = RangeReport(writer.finish(), left_out, sorted(sources), sorted(models))
        path.parent.mkdir(exist_ok=True)
        write_durably(path, msgspec.json.encode(report))
    return report


def finish(folder: Path, plan: ExportPlan, key: SigningKey | None) -> DatasetManifest:
    """Bind all ranges into a version of the data set; without a key and without a new leaf it stays as it is.

    Raises:
        OutputError: a range that was not written, or no room.

    """
    old = read_version(folder)
    reports = [read_report(report_path(folder, cut)) for cut in plan.ranges]
    manifest = bind(plan, old, reports)
    work = folder / WORK_FOLDER
    with _disk(folder):
        if key is None and old is not None and old.leaves == plan.leaves:
            shutil.rmtree(work)
            return old
        write_durably(folder / CHECKPOINT, (work / CHECKPOINT).read_bytes())
        write_durably(folder / CARD, write_card(manifest, signed=key is not None).encode())
        write_durably(folder / CROISSANT, write_croissant(manifest).encode())
        files = {name: sha256_file(folder / name) for name in NAMED}
        manifest = msgspec.structs.replace(manifest, files=files)
        write_manifest(folder, manifest, key)
        shutil.rmtree(work)
    return manifest


def export(
    bundle: Bundle,
    folder: Path,
    asked: Asked,
    means: Means,
    *,
    key: SigningKey | None = None,
    progress: Stages | None = None,
) -> DatasetManifest:
    """All of it in this process; raises as its parts do."""
    plan = begin(bundle, folder, asked, progress)
    write_ranges(bundle, folder, plan, means, progress=progress)
    return finish(folder, plan, key)


def write_ranges(
    bundle: Bundle,
    folder: Path,
    plan: ExportPlan,
    means: Means,
    *,
    part: tuple[int, int] = (1, 1),
    progress: Stages | None = None,
) -> list[Shard]:
    """Write the ranges of one part, the I-th of K; raises as `write_range`."""
    number, of = part
    ranges = plan.ranges[(number - 1) * len(plan.ranges) // of : number * len(plan.ranges) // of]
    shards = []
    for done, cut in enumerate(ranges, start=1):
        shards += write_range(bundle, folder, plan, cut, means).shards
        if progress is not None:
            progress("ranges", done, len(ranges))
    return shards


def read_version(folder: Path) -> DatasetManifest | None:
    """The data set that is in a folder; None where there is none. Raises `OutputError` for a damaged one."""
    if not (folder / MANIFEST).exists():
        return None
    try:
        manifest = read_manifest(folder)
    except DatasetError as error:
        raise OutputError(f"{folder}: {error.message}") from None
    for shard in manifest.shards:
        path = folder / shard.path
        if not path.is_file() or path.stat().st_size != shard.bytes:
            raise OutputError(f"{path} is not the shard of {shard.bytes} bytes that {MANIFEST} names")
    return manifest


def require_wanted(found: ExportPlan | DatasetManifest, asked: Asked, where: str) -> None:
    """Refuse to go on with a data set that is to be otherwise. Raises `OutputError`."""
    for name in ("mode", "begin", "shard_leaves", "rebuild", "margins"):
        wanted = getattr(asked, name)
        if wanted is not None and wanted != getattr(found, name):
            raise OutputError(
                f"{name} is {getattr(found, name)!s} in the data set {where}, asked for is {wanted!s}",
                hint="leave the option out, or export into another folder",
            )


def _previous(old: DatasetManifest | None, bundle: Bundle) -> str:
    """The manifest that the next one follows; the same as before where no leaf is new."""
    if old is None:
        return ""
    return old.previous if old.leaves == bundle.size else old.digest()


def _settle(asked: Asked) -> WantedExamples:
    mode = asked.mode or Mode.DELTA
    margins = bool(asked.margins)
    return WantedExamples(
        mode=mode,
        begin=asked.begin or 0,
        shard_leaves=asked.shard_leaves or SHARD_LEAVES,
        rebuild=bool(asked.rebuild) or margins or mode is Mode.FULL,
        margins=margins,
    )


def _require_means(plan: ExportPlan, means: Means) -> None:
    if plan.rebuild and means.source is None:
        raise OutputError("this export rebuilds images and needs the data set", hint="perturb bootstrap")
    if plan.margins and means.engine is None:
        raise OutputError("this export computes margins and needs the model", hint="perturb bootstrap")


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """What the disk says, as an error of ours."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL or "No space left" in str(error):
            hint = "Free some space and run it again: what was finished is kept."
            raise OutputError(f"{folder}: the disk is full", hint=hint) from error
        raise OutputError(f"{folder} cannot be written to: {error.strerror or error}") from error
