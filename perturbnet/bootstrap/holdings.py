"""What this node holds, compared with its manifest: at bootstrap, at start, and with every row.

1. The manifest is read: canonical, of this profile and wire version, and the pinned one if one is pinned.
2. The fingerprint's record is read; its leaves have the root that the manifest names.
3. The rows were decoded by the decoder of this process.
4. Each file looks as it did when it was hashed; one that does not is hashed again. `paranoid`: all are.
5. Rows drawn at random are read and decoded, and compared with their leaves. `paranoid`: all rows are.
6. The model is the one the manifest names.
7. Later, each row that is drawn is compared with its leaf before it becomes a challenge (`CheckedSource`).

A validator passes 1 to 7. A miner holds no data set: 1 and 6. What differs is named and refused; nothing is
repaired here, because a node that starts should not begin to download: `perturb bootstrap` does that.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from perturbnet.bootstrap.fingerprint import fingerprint_file, leaf_of, require_decoder, row_leaf
from perturbnet.bootstrap.manifest import Manifest, build_manifest, read_manifest
from perturbnet.bootstrap.model import read_model
from perturbnet.bootstrap.records import Recorded, Workplace, read_fingerprint, read_json
from perturbnet.bootstrap.witness import require_unchanged
from perturbnet.datasets import ImageSource, SourceIdentity, SourceImage, open_source
from perturbnet.datasets.tables import ParquetTable
from perturbnet.errors import DatasetError, DigestMismatch, RowUnreadable
from perturbnet.ledger import merkle
from perturbnet.rules.classification import Engine
from perturbnet.runtime.artifacts import read_pins
from perturbnet.runtime.progress import Progress
from perturbnet.wire.images import pixel_digest
from perturbnet.wire.messages import PROTOCOL_VERSION

SAMPLED_ROWS = 16
HINT = "Run `perturb bootstrap`: what differs is fetched, rendered or fingerprinted anew."


class CheckedSource:
    """A data set whose every row is compared with its leaf of the manifest's tree; an `ImageSource`."""

    def __init__(self, source: ImageSource, manifest: Manifest, leaves: bytes) -> None:
        """Take the leaves, 32 bytes for each row.

        Raises:
            DigestMismatch: the source is another data set than the manifest's.

        """
        data = manifest.dataset
        self.identity = replace(source.identity, manifest_digest=manifest.dataset_digest)
        stated = SourceIdentity(
            data.repository, data.revision, data.split, data.rows, manifest.dataset_digest
        )
        if self.identity != stated:
            raise DigestMismatch("the data set", str(stated), str(self.identity), hint=HINT)
        self._source, self._leaves = source, leaves

    def read(self, row: int) -> SourceImage:
        """Return one row; see `ImageSource.read`."""
        image = self._source.read(row)
        expected, found = _leaf(self._leaves, row), row_leaf(pixel_digest(image.pixels))
        if found != expected:
            raise RowUnreadable(row, f"its leaf is {found.hex()}, the fingerprint's {expected.hex()}")
        return image


def assemble(place: Workplace, *, listing: Path, pins: Path | None = None) -> Manifest:
    """Put the manifest together from the records of fingerprint and model.

    Raises:
        ArtifactMissing, ArtifactError, DigestMismatch: a record is missing, damaged, or of other files than
            the pinned ones.
        DatasetError: another number of rows than is pinned.

    """
    from perturbnet.bootstrap.stock import take_stock  # and with it the hub's client, which no neuron needs

    recorded = read_fingerprint(place.fingerprint)
    stock = take_stock(place.profile, place.cache_dir, listing=listing, pins=pins)
    found = recorded.fingerprint
    by_name = dict(zip((part.name for part in found.parts), recorded.files, strict=True))
    if by_name.keys() != stock.files.keys():
        odd = ", ".join(sorted(by_name.keys() ^ stock.files.keys())[:5])
        raise DatasetError(f"the fingerprint is not of the files that are listed: {odd}", hint=HINT)
    for name, sha256 in stock.digests.items():
        if by_name[name].sha256 != sha256:
            raise DigestMismatch(name, f"sha256 {sha256}", f"sha256 {by_name[name].sha256}", hint=HINT)
    if stock.rows is not None and found.rows != stock.rows:
        raise DatasetError(f"{stock.repository} has {found.rows} rows; pinned are {stock.rows}", hint=HINT)
    return build_manifest(
        place.profile,
        repository=stock.repository,
        revision=stock.revision,
        split=stock.split,
        found=found,
        files={name: by_name[name] for name in stock.digests},
        model=read_model(read_json(place.model), str(place.model)),
    )


def open_manifest(place: Workplace) -> Manifest:
    """Check 1: read this node's manifest.

    Raises:
        ArtifactMissing: there is none; the hint says how to make it.
        ArtifactError: it is malformed.
        DigestMismatch: it is of another profile or wire version, or not the pinned one.

    """
    found = read_manifest(place.manifest)
    stated, ours = f"{found.profile}, wire {found.protocol}", f"{place.profile}, wire {PROTOCOL_VERSION}"
    if stated != ours:
        raise DigestMismatch(f"the manifest {place.manifest}", ours, stated, hint=HINT)
    require_pinned(found)
    return found


def require_pinned(manifest: Manifest) -> None:
    """Return if the package pins this manifest, or none for its profile.

    Raises:
        DigestMismatch: it pins another.

    """
    pinned = read_pins(f"{manifest.profile}.json").get("manifest")
    if pinned is not None and manifest.digest != pinned:
        raise DigestMismatch(
            f"the manifest of {manifest.profile}",
            f"protocol fingerprint {pinned}",
            manifest.digest,
            hint="This node would not agree with the others. Compare `perturb manifest` with another node's.",
        )


def check_holdings(
    place: Workplace,
    manifest: Manifest,
    *,
    paranoid: bool = False,
    progress: Progress | None = None,
    draw: Callable[[int], int] = secrets.randbelow,
) -> str:
    """Checks 2 to 5; return in a sentence what was compared. `draw(n)` gives a row below n.

    Raises:
        ArtifactMissing, ArtifactError, DatasetError: something is gone or cannot be read.
        DigestMismatch: something is not what the manifest names.

    """
    recorded = read_recorded(place, manifest)
    count = _check_recorded(recorded, paranoid=paranoid, progress=progress, draw=draw)
    seen = "hashed" if paranoid else "unchanged"
    return (
        f"{len(recorded.files)} files {seen}, {count} of {manifest.dataset.rows} rows decoded: all as stated"
    )


def read_recorded(place: Workplace, manifest: Manifest) -> Recorded:
    """Checks 2 and 3: read the fingerprint's record.

    Raises:
        ArtifactMissing, ArtifactError: it is missing or malformed.
        DigestMismatch: it has another root than the manifest, or was made by another decoder.

    """
    recorded = read_fingerprint(place.fingerprint)
    found, expected = recorded.fingerprint.root, manifest.dataset.root
    if found != expected:
        raise DigestMismatch(str(place.fingerprint), f"root {expected}", f"root {found}", hint=HINT)
    for part in recorded.fingerprint.parts:
        require_decoder(part.decoder, f"the fingerprint of {part.name}")
    return recorded


def open_checked(place: Workplace, manifest: Manifest, *, paranoid: bool = False) -> CheckedSource:
    """Checks 2 to 5, and the data set behind them.

    Raises:
        PerturbError: see `check_holdings` and `datasets.open_source`.

    """
    recorded = read_recorded(place, manifest)
    _check_recorded(recorded, paranoid=paranoid, progress=None, draw=secrets.randbelow)
    source = open_source(place.profile, cache_dir=place.cache_dir)
    return CheckedSource(source, manifest, recorded.fingerprint.leaves)


def require_engine(manifest: Manifest, engine: Engine) -> None:
    """Check 6: return if an engine is of the manifest's model, as integers or as floats.

    Raises:
        DigestMismatch: it is another.

    """
    model = manifest.model
    if engine.model_digest not in (model.artefact, model.network):
        raise DigestMismatch(
            f"the model {engine.model_name} ({engine.name})",
            f"artefact {model.artefact}",
            engine.model_digest,
            hint=HINT,
        )


def _check_recorded(
    recorded: Recorded, *, paranoid: bool, progress: Progress | None, draw: Callable[[int], int]
) -> int:
    """Checks 4 and 5; return the number of rows that were decoded."""
    for file in recorded.files:
        require_unchanged(file, paranoid=paranoid, hint=HINT)
    return _decode_all(recorded, progress) if paranoid else _decode_some(recorded, draw)


def _decode_some(recorded: Recorded, draw: Callable[[int], int]) -> int:
    rows = recorded.fingerprint.rows
    table = ParquetTable([Path(file.path) for file in recorded.files])
    if len(table) != rows:
        raise DatasetError(f"the files hold {len(table)} rows; expected {rows}", hint=HINT)
    chosen = {draw(rows) for _ in range(min(SAMPLED_ROWS, rows))}
    for row in sorted(chosen):
        stored, _ = table.read(row)
        found, fault = leaf_of(row, stored if isinstance(stored, bytes) else b"")
        expected = _leaf(recorded.fingerprint.leaves, row)
        if found != expected:
            said = f" ({fault.reason})" if fault else ""
            raise DigestMismatch(f"row {row}{said}", f"leaf {expected.hex()}", found.hex(), hint=HINT)
    return len(chosen)


def _decode_all(recorded: Recorded, progress: Progress | None) -> int:
    done, rows = 0, recorded.fingerprint.rows
    for part, file in zip(recorded.fingerprint.parts, recorded.files, strict=True):
        told = partial(_tell, progress, done, rows) if progress else None
        found = fingerprint_file(Path(file.path), part.name, told)
        if (found.root, found.labels) != (part.root, part.labels):
            raise DigestMismatch(part.name, f"root {part.root}", f"root {found.root}", hint=HINT)
        done += found.rows
    return done


def _tell(progress: Progress, before: int, rows: int, inside: int, _: int) -> None:
    progress(before + inside, rows)


def _leaf(leaves: bytes, row: int) -> bytes:
    return leaves[row * merkle.HASH_BYTES : (row + 1) * merkle.HASH_BYTES]
