"""Which files a profile's data set consists of, where they lie on this machine, and what they must be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from perturbnet.bootstrap.pins import read_profile_pins
from perturbnet.bootstrap.profile import read_listing
from perturbnet.bootstrap.witness import FileWitness, witness_file
from perturbnet.datasets.reference import DEFAULT_SPLIT, REPOSITORY, parquet_path, pinned_splits
from perturbnet.errors import ArtifactError, DigestMismatch
from perturbnet.hub.layout import place_of

_HOW = "Run `perturb bootstrap` again: what is damaged goes to quarantine, and is fetched or rendered anew."


@dataclass(frozen=True, slots=True)
class Stock:
    """A data set's files: whose, which commit, which split, how many rows if that is pinned.

    `files` are paths on this machine by name; `digests` the hex SHA-256 of those that came from the hub.
    """

    repository: str
    revision: str
    split: str
    rows: int | None
    files: Mapping[str, Path]
    digests: Mapping[str, str]

    def witness(self, name: str) -> FileWitness:
        """Hash one of the files and compare it with what it must be.

        Raises:
            ArtifactError: there is no file of that name.
            ArtifactMissing: it is not on this machine.
            DigestMismatch: it is another one.

        """
        if name not in self.files:
            raise ArtifactError(f"{name!r} is not among the {len(self.files)} files of {self.repository}")
        found = witness_file(self.files[name])
        expected = self.digests.get(name, found.sha256)
        if found.sha256 != expected:
            raise DigestMismatch(
                f"{name} ({found.path})", f"sha256 {expected}", f"sha256 {found.sha256}", hint=_HOW
            )
        return found


def take_stock(profile: str, cache_dir: Path, *, listing: Path, pins: Path | None = None) -> Stock:
    """Return the files of a profile's data set; nothing on the disk but the list is looked at.

    Args:
        profile: `reference`, or one whose data come from the hub.
        cache_dir: where they lie.
        listing: what `perturb data list` wrote; not read for the reference profile.
        pins: another pins file than the package's.

    Raises:
        ArtifactError, DigestMismatch: the list is missing, malformed, or not what is pinned.

    """
    if profile == "reference":
        path, pin = parquet_path(cache_dir, DEFAULT_SPLIT), pinned_splits()[DEFAULT_SPLIT]
        none: Mapping[str, str] = MappingProxyType({})
        return Stock(
            REPOSITORY, pin.pixels, DEFAULT_SPLIT, pin.rows, MappingProxyType({path.name: path}), none
        )
    stated = read_profile_pins(profile, pins)
    snapshot = read_listing(listing, profile, stated)["dataset"]
    places = {file.path: place_of(file, snapshot, cache_dir / "hub") for file in snapshot.files}
    return Stock(
        snapshot.repository,
        snapshot.commit,
        str(stated["dataset"]["split"]),
        stated["dataset"].get("rows"),
        MappingProxyType({name: place.link for name, place in places.items()}),
        MappingProxyType({file.path: file.etag for file in snapshot.files}),
    )
