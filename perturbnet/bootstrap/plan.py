"""What has to be done for a profile, as the workflow's rules ask for it; which records are no longer true.

Snakemake decides by names and times, once, before it begins. So what it cannot see is looked at before that:
a record whose file is gone, damaged (its date kept or not), of other pins, or decoded by another library is
forgotten, and the rule that writes it runs again. Nothing but records is removed here; a damaged file itself
is moved to quarantine by the command that finds it, and by that command only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from perturbnet.bootstrap.fingerprint import require_decoder
from perturbnet.bootstrap.holdings import assemble, check_holdings, open_manifest
from perturbnet.bootstrap.model import read_model
from perturbnet.bootstrap.pins import read_profile_pins, wanted_of
from perturbnet.bootstrap.profile import Listing, read_listing
from perturbnet.bootstrap.records import Workplace, leaves_of, read_fingerprint, read_json, read_part
from perturbnet.bootstrap.report import require_whole
from perturbnet.bootstrap.stock import take_stock
from perturbnet.bootstrap.witness import require_unchanged
from perturbnet.config import load_settings
from perturbnet.datasets.reference import DEFAULT_SPLIT, pinned_splits
from perturbnet.errors import ArtifactError, DatasetError, DigestMismatch, ModelError, PerturbError

DATASET, WEIGHTS = "dataset", "weights"


@dataclass(frozen=True)
class BootstrapPlan:
    """One profile on this machine; `pins` is another pins file than the package's, if any."""

    place: Workplace
    pins: Path | None = None

    @cached_property
    def stated(self) -> Mapping[str, Any]:
        """The profile's pins."""
        return read_profile_pins(self.place.profile, self.pins)

    @property
    def from_hub(self) -> bool:
        """Whether anything is fetched at all."""
        return bool(wanted_of(self.stated))

    @property
    def rows(self) -> int | None:
        """How many rows the data set has, if that is pinned."""
        if self.place.profile == "reference":
            return pinned_splits()[DEFAULT_SPLIT].rows
        rows = self.stated.get(DATASET, {}).get("rows")
        return None if rows is None else int(rows)

    @property
    def compiles(self) -> bool:
        """Whether the model is compiled here, and not shipped."""
        return self.place.profile != "reference"

    @property
    def artefact(self) -> Path:
        """Where the compiled model goes."""
        from perturbnet.classifier.canonical.profiles import cached_path

        return cached_path(self.place.profile, self.place.cache_dir)

    @property
    def artefact_note(self) -> Path:
        """The note beside it, which says its digest."""
        from perturbnet.classifier.canonical.profiles import note_of

        return note_of(self.artefact)

    @property
    def options(self) -> list[str]:
        """The options every command of the rules gets."""
        pins = [] if self.pins is None else ["--pins", str(self.pins)]
        return ["--profile", self.place.profile, *pins]

    def listing(self) -> Listing:
        """What the hub holds, as it was listed.

        Raises:
            ArtifactError, DigestMismatch: it was not, or it is not what is pinned.

        """
        return read_listing(self.place.listing, self.place.profile, self.stated)

    def data_files(self) -> list[str]:
        """The names of the data set's files.

        Raises:
            ArtifactError, DigestMismatch: see `listing`.

        """
        stock = take_stock(
            self.place.profile, self.place.cache_dir, listing=self.place.listing, pins=self.pins
        )
        return sorted(stock.files)

    def weight_files(self) -> list[str]:
        """The names of the weights' files on the hub; none where they are in the package."""
        return [file.path for file in self.listing()[WEIGHTS].files] if WEIGHTS in self._parts else []

    def weight_names(self) -> list[str]:
        """The same from the pins, without the list."""
        return [str(self.stated[WEIGHTS]["file"])] if WEIGHTS in self._parts else []

    @property
    def _parts(self) -> set[str]:
        return {wanted.part for wanted in wanted_of(self.stated)}


def plan_from(config: Mapping[str, Any], environment: Mapping[str, str]) -> BootstrapPlan:
    """Return the plan for the workflow's configuration: its `profile` and `pins`, else the settings.

    Raises:
        ConfigError: a setting is wrong, or there is no such profile.

    """
    profile, pins = config.get("profile"), config.get("pins")
    overrides = {"PERTURB_PROFILE": str(profile)} if profile else {}
    settings = load_settings(environment, overrides=overrides).settings
    place = Workplace(settings.cache_dir.absolute(), settings.profile)
    return BootstrapPlan(place, Path(pins).absolute() if pins else None)


@dataclass(frozen=True)
class _Record:
    """A record, what shows that it is true, and what is forgotten with it if it is not."""

    path: Path
    check: Callable[[], object]
    beside: tuple[Path, ...] = ()


def is_complete(plan: BootstrapPlan) -> bool:
    """Whether everything is there and as it was recorded: then there is nothing to do.

    Raises:
        DigestMismatch: see `forget_untrue`.

    """
    records = list(_records(plan))
    if not all(record.path.exists() for record in records) or any(_faults(records)):
        return False
    _require_rows(plan)
    return True


def forget_untrue(plan: BootstrapPlan, *, paranoid: bool = False) -> list[str]:
    """Remove the records that are not true any more; return for each, in a sentence, what was found.

    `paranoid` hashes every file of the data set again, whatever it looks like.

    Raises:
        DigestMismatch: rows decode to other pixels although no file has changed.

    """
    said: list[str] = []
    for record, fault in _faults(_records(plan, paranoid=paranoid)):
        said.append(fault)
        for path in (record.path, *record.beside):
            path.unlink(missing_ok=True)
    if not all(record.exists() for name in _names(plan)[0] for record in _made_of(plan, name)):
        # Snakemake asks for no file that only something older was made from.
        plan.place.fingerprint.unlink(missing_ok=True)
    if not said and plan.place.manifest.exists() and plan.place.fingerprint.exists():
        _require_rows(plan)
    return said


def _faults(records: Iterable[_Record]) -> Iterator[tuple[_Record, str]]:
    for record in records:
        if not record.path.exists():
            continue
        try:
            record.check()
        except (ArtifactError, DatasetError, ModelError, OSError) as error:
            yield record, error.message if isinstance(error, PerturbError) else str(error)


def _require_rows(plan: BootstrapPlan) -> None:
    check_holdings(plan.place, open_manifest(plan.place))


def _records(plan: BootstrapPlan, *, paranoid: bool = False) -> Iterator[_Record]:
    """Every record, each before those that are made from it."""
    place = plan.place
    if plan.from_hub:
        # Of another list every file is another file, whatever its name.
        yield _Record(place.listing, plan.listing, tuple((place.folder / "fetched").rglob("*.json")))
    data, weights = _names(plan)
    for name in (*data, *weights):
        yield _Record(place.fetched(name), partial(_check_fetched, plan, name))
    for name in data:
        part = place.part(name)
        # With the part goes the record of the file, so that the file itself is looked at again.
        beside = leaves_of(part), place.fetched(name)
        yield _Record(part, partial(_check_part, part, paranoid=paranoid), beside)
    fingerprint = place.fingerprint
    yield _Record(fingerprint, partial(read_fingerprint, fingerprint), (leaves_of(fingerprint),))
    compiled = (plan.artefact_note,) if plan.compiles else ()
    yield _Record(place.model, partial(_check_model, plan), compiled)
    yield _Record(place.manifest, partial(_check_manifest, plan))
    yield _Record(place.report, partial(require_whole, place.report))


def _made_of(plan: BootstrapPlan, name: str) -> tuple[Path, ...]:
    """What stands in the records of one file of the data set."""
    return plan.place.fetched(name), plan.place.part(name), leaves_of(plan.place.part(name))


def _names(plan: BootstrapPlan) -> tuple[list[str], list[str]]:
    """The files of the data set and of the weights; none while they are not listed."""
    try:
        return plan.data_files(), plan.weight_files()
    except ArtifactError:
        return [], []


def _check_fetched(plan: BootstrapPlan, name: str) -> None:
    stated = read_json(plan.place.fetched(name))
    path, size = Path(str(stated.get("file"))), stated.get("size")
    if not path.is_file():
        raise ArtifactError(f"{path} is gone")
    if path.stat().st_size != size:
        raise DigestMismatch(str(path), f"{size} bytes", f"{path.stat().st_size} bytes")
    if not plan.from_hub:
        return
    expected = next(
        file.sha256 for snapshot in plan.listing().values() for file in snapshot.files if file.path == name
    )
    if stated.get("sha256") != expected:
        raise DigestMismatch(name, f"sha256 {expected}", f"sha256 {stated.get('sha256')}")


def _check_part(record: Path, *, paranoid: bool) -> None:
    part, file = read_part(record)
    require_decoder(part.decoder, f"the fingerprint of {part.name}")
    require_unchanged(file, paranoid=paranoid)


def _check_model(plan: BootstrapPlan) -> None:
    record = read_model(read_json(plan.place.model), str(plan.place.model))
    if record.file is not None:
        require_unchanged(record.file)


def _check_manifest(plan: BootstrapPlan) -> None:
    expected = assemble(plan.place, listing=plan.place.listing, pins=plan.pins)
    found = open_manifest(plan.place)
    if found != expected:
        raise DigestMismatch(str(plan.place.manifest), expected.digest, found.digest)
