"""What a bootstrap writes down as it goes, so that nothing is done twice and all of it can be checked again.

    <cache>/bootstrap/<profile>/
        listing.json           what the hub holds: names, sizes, digests (`perturb data list`)
        fetched/<file>.json    one for each file that is in place, whole and right
        parts/<file>.json      one for each file that is fingerprinted, and beside it
        parts/<file>.leaves    its rows' leaves, 32 bytes each
        fingerprint.json       all parts in order, the files they were read from, the decoder
        fingerprint.leaves     all rows' leaves
        model.json             the artefact and the weights, by digest
        manifest.json          what this node holds, for everybody; see `manifest`
        report.html            the same for people

Rules
- A record is written when what it tells of is complete: leaves before the record that names their root.
- These are notes of this machine (paths, times), not part of any digest. Only manifest.json is.
- Whatever is read back is checked: leaves against their root, files against their witness.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perturbnet.bootstrap.fingerprint import FileFingerprint, Fingerprint, Undecodable, root_of
from perturbnet.bootstrap.witness import FileWitness, read_witness
from perturbnet.errors import ArtifactError, ArtifactMissing, DigestMismatch
from perturbnet.ledger import merkle
from perturbnet.runtime.artifacts import write_durably

_MAX_BYTES = 64 << 20
_HOW = "Run `perturb bootstrap` again: what is missing or damaged is made anew."


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where the records of one profile lie."""

    cache_dir: Path
    profile: str

    @property
    def folder(self) -> Path:
        """All of them."""
        return self.cache_dir / "bootstrap" / self.profile

    @property
    def listing(self) -> Path:
        """What the hub holds."""
        return self.folder / "listing.json"

    @property
    def fingerprint(self) -> Path:
        """The fingerprint's record."""
        return self.folder / "fingerprint.json"

    @property
    def model(self) -> Path:
        """The model's record."""
        return self.folder / "model.json"

    @property
    def manifest(self) -> Path:
        """What this node holds."""
        return self.folder / "manifest.json"

    @property
    def report(self) -> Path:
        """The same for people."""
        return self.folder / "report.html"

    def log(self, name: str) -> Path:
        """What a step said."""
        return self.folder / "logs" / f"{name}.log"

    def fetched(self, name: str) -> Path:
        """The record of a file that is in place."""
        return self.folder / "fetched" / f"{name}.json"

    def part(self, name: str) -> Path:
        """The record of a file that is fingerprinted."""
        return self.folder / "parts" / f"{name}.json"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A fingerprint as it was written down, with the file of each part, in the same order."""

    fingerprint: Fingerprint
    files: tuple[FileWitness, ...]


def leaves_of(record: Path) -> Path:
    """The file of leaves beside a record."""
    return record.with_suffix(".leaves")


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a record durably.

    Raises:
        OSError: see `artifacts.write_durably`.

    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, (json.dumps(data, indent=1, sort_keys=True) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a record.

    Raises:
        ArtifactMissing: there is none.
        ArtifactError: it is no JSON object, or too large.

    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise ArtifactMissing(f"{path} does not exist", hint=_HOW) from None
    try:
        if len(data) > _MAX_BYTES:
            raise ValueError(f"more than {_MAX_BYTES} bytes")
        stated = json.loads(data)
        if not isinstance(stated, dict):
            raise TypeError(f"a {type(stated).__name__}, no object")
    except (ValueError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{path} is damaged: {error}", hint=_HOW) from None
    return stated


def write_part(record: Path, part: FileFingerprint, file: FileWitness) -> None:
    """Write a part: its leaves, then its record.

    Raises:
        OSError: see `artifacts.write_durably`.

    """
    record.parent.mkdir(parents=True, exist_ok=True)
    write_durably(leaves_of(record), part.leaves)
    write_json(record, _part_json(part, file))


def read_part(record: Path) -> tuple[FileFingerprint, FileWitness]:
    """Read a part back, its leaves compared with its root.

    Raises:
        ArtifactMissing: record or leaves are missing.
        ArtifactError: the record is malformed.
        DigestMismatch: the leaves have another root.

    """
    leaves = _read_leaves(leaves_of(record))
    part, witness = _read_part(read_json(record), leaves, str(record))
    found = root_of(leaves)
    if found != part.root or len(leaves) != part.rows * merkle.HASH_BYTES:
        raise DigestMismatch(
            f"{leaves_of(record)}, {part.rows} rows", f"root {part.root}", f"root {found}", hint=_HOW
        )
    return part, witness


def write_fingerprint(record: Path, found: Fingerprint, files: Sequence[FileWitness]) -> None:
    """Write a merged fingerprint with the file of each part.

    Raises:
        OSError: see `artifacts.write_durably`.

    """
    record.parent.mkdir(parents=True, exist_ok=True)
    write_durably(leaves_of(record), found.leaves)
    parts = [_part_json(part, file) for part, file in zip(found.parts, files, strict=True)]
    write_json(record, {"root": found.root, "rows": found.rows, "parts": parts})


def read_fingerprint(record: Path) -> Recorded:
    """Read a merged fingerprint back, its leaves compared with its root.

    Raises:
        ArtifactMissing, ArtifactError, DigestMismatch: see `read_part`.

    """
    stated = read_json(record)
    leaves = _read_leaves(leaves_of(record))
    listed = stated.get("parts")
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise ArtifactError(f"{record} lists no parts", hint=_HOW)
    parts, files, at = [], [], 0
    for entry in listed:
        rows = entry.get("rows")
        stop = at + (rows if isinstance(rows, int) else 0) * merkle.HASH_BYTES
        part, file = _read_part(entry, leaves[at:stop], str(record))
        parts.append(part)
        files.append(file)
        at = stop
    found = root_of(leaves)
    if found != stated.get("root") or at != len(leaves):
        raise DigestMismatch(str(leaves_of(record)), f"root {stated.get('root')}", f"root {found}", hint=_HOW)
    return Recorded(Fingerprint(tuple(parts), found, leaves), tuple(files))


def _read_leaves(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ArtifactMissing(f"{path} does not exist", hint=_HOW) from None


def _part_json(part: FileFingerprint, file: FileWitness) -> dict[str, Any]:
    return {
        "name": part.name,
        "rows": part.rows,
        "root": part.root,
        "labels": part.labels,
        "classes": {str(index): count for index, count in part.classes.items()},
        "undecodable": [asdict(item) for item in part.undecodable],
        "decoder": dict(part.decoder),
        "milliseconds": round(part.seconds * 1000),
        "file": file.to_json(),
    }


def _read_part(stated: Mapping[str, Any], leaves: bytes, where: str) -> tuple[FileFingerprint, FileWitness]:
    try:
        part = FileFingerprint(
            name=str(stated["name"]),
            rows=int(stated["rows"]),
            root=str(stated["root"]),
            labels=str(stated["labels"]),
            classes={int(index): int(count) for index, count in stated["classes"].items()},
            undecodable=tuple(
                Undecodable(int(item["row"]), str(item["stored_sha256"]), str(item["reason"]))
                for item in stated["undecodable"]
            ),
            decoder={str(name): str(text) for name, text in stated["decoder"].items()},
            leaves=leaves,
            seconds=int(stated["milliseconds"]) / 1000,
        )
        return part, read_witness(stated["file"], where)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{where} does not describe a part: {error!r}", hint=_HOW) from None
