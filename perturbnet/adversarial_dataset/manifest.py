"""The manifest: every file of a data set by digest, under one digest, which the log's key may sign.

    manifest.json    canonical JSON: what was exported, each shard, the other files
    manifest.note    a signed note over that file's digest, by the key that signs the log

Rules
- The note's text is DOMAIN, the log's name, the number of leaves and the SHA-256 of manifest.json, a line
  each. The first line keeps it apart from a checkpoint, whose second line is a number.
- A manifest is a stranger's: its length is capped, fields of another type or name are refused, shards have
  names of one form, lie in order and do not overlap.
- The manifest is written after every file it names, the note last.

Source: c2sp.org/signed-note.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from perturbnet.adversarial_dataset.layout import (
    CARD,
    CHECKPOINT,
    CROISSANT,
    MANIFEST,
    NOTE,
    Mode,
    Split,
    is_shard_path,
    shard_path,
)
from perturbnet.errors import BundleError, BundleMissing, DatasetError, DigestMismatch, NoteError
from perturbnet.runtime.artifacts import sha256_file, write_durably
from perturbnet.transparency.notes import (
    MAX_NOTE_BYTES,
    Note,
    SigningKey,
    VerifierKey,
    parse_note,
)
from perturbnet.transparency.places import Folder
from perturbnet.wire import canonical_json
from perturbnet.wire.digests import sha256_hex

VERSION = 1
DOMAIN = "perturb/dataset/1"
MAX_MANIFEST_BYTES = 1 << 26
NAMED = (CARD, CROISSANT, CHECKPOINT)


class Shard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of rows: where, which leaves, how many rows, and its bytes' number and digest."""

    path: str
    split: Split
    start: int
    stop: int
    rows: int
    bytes: int
    sha256: str


class SourceDataset(msgspec.Struct, frozen=True, forbid_unknown_fields=True, order=True):
    """A data set whose images were attacked."""

    repository: str
    revision: str
    split: str
    rows: int
    licence: str
    terms: str


class AttackedModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, order=True):
    """A model that was attacked."""

    name: str
    digest: str
    engine: str


class DatasetManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A version of a data set."""

    version: int
    mode: Mode
    origin: str
    hotkey: str
    netuid: int
    leaves: int  # the data set's version: how long the log was
    root: str  # of so many leaves, hex
    key: str  # that signs the log at this length, Ed25519, hex
    begin: int
    stop: int  # where the next version goes on
    shard_leaves: int
    rebuild: bool
    margins: bool
    previous: str  # SHA-256 of the manifest before
    counts: dict[str, int]
    left_out: dict[str, int]
    sources: list[SourceDataset]
    models: list[AttackedModel]
    written_with: dict[str, str]
    shards: list[Shard]
    files: dict[str, str]  # the other files, by SHA-256

    def rows(self, split: Split | None = None) -> int:
        """How many rows, in all or in one split."""
        return sum(shard.rows for shard in self.shards if split in (None, shard.split))

    def encode(self) -> bytes:
        """The canonical bytes."""
        return canonical_json.encode(msgspec.to_builtins(self))

    def digest(self) -> str:
        """SHA-256 of the canonical bytes, hex."""
        return sha256_hex(self.encode())

    def text(self) -> str:
        """What the log's key signs."""
        return f"{DOMAIN}\n{self.origin}\n{self.leaves}\n{self.digest()}\n"


def parse_manifest(data: bytes) -> DatasetManifest:
    """Read a manifest of a stranger's.

    Raises:
        DatasetError: too long, not canonical, another version, fields of another form, shards out of order.

    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise DatasetError(f"{MANIFEST}: {len(data)} bytes; at most {MAX_MANIFEST_BYTES} are allowed")
    try:
        value = canonical_json.decode(data)
        version = value.get("version") if isinstance(value, dict) else None
        if version != VERSION:
            raise DatasetError(f"{MANIFEST}: version {version!r}, this program reads {VERSION}")
        manifest = msgspec.json.decode(data, type=DatasetManifest)
    except (canonical_json.NotCanonical, msgspec.MsgspecError) as error:
        raise DatasetError(f"{MANIFEST} is no manifest of a data set: {error}") from None
    _check_shards(manifest)
    if sorted(manifest.files) != sorted(NAMED):
        raise DatasetError(f"{MANIFEST} names the files {sorted(manifest.files)}, expected {sorted(NAMED)}")
    return manifest


def read_manifest(folder: Path) -> DatasetManifest:
    """The manifest in a folder.

    Raises:
        DatasetError: there is none, or it is none.

    """
    try:
        data = Folder(folder).read(MANIFEST, MAX_MANIFEST_BYTES)
    except BundleMissing:
        hint = "name the folder that perturb export dataset has written, or a repository of the hub"
        raise DatasetError(f"{folder} holds no {MANIFEST}: no exported data set", hint=hint) from None
    except BundleError as error:
        raise DatasetError(error.message) from None
    return parse_manifest(data)


def write_manifest(folder: Path, manifest: DatasetManifest, key: SigningKey | None) -> None:
    """Write manifest and note; without a key a note of an older version goes. Raises OSError."""
    data = manifest.encode()
    if key is None:
        (folder / NOTE).unlink(missing_ok=True)
    write_durably(folder / MANIFEST, data)
    if key is not None:
        note = Note(manifest.text(), (key.sign(manifest.text()),))
        write_durably(folder / NOTE, note.encode())


def read_signature(folder: Path) -> Note | None:
    """The note in a folder, not verified; None where the data set is not signed. Raises `NoteError`."""
    try:
        return parse_note(Folder(folder).read(NOTE, MAX_NOTE_BYTES))
    except BundleMissing:
        return None
    except BundleError as error:
        raise NoteError(error.message) from None


def verify_signature(folder: Path, manifest: DatasetManifest, key: VerifierKey) -> None:
    """Check that `key` signed this manifest.

    Raises:
        NoteError: there is no note, it is of another manifest, or another key signed.

    """
    note = read_signature(folder)
    if note is None:
        raise NoteError(f"{NOTE} is not there: nobody signed this data set")
    if note.text != manifest.text():
        raise NoteError(f"{NOTE} is over {note.text!r}, expected {manifest.text()!r}")
    note.verify([key])


def check_files(folder: Path, manifest: DatasetManifest) -> None:
    """Compare the files other than shards with their digests.

    Raises:
        DatasetError: one is missing.
        DigestMismatch: one is another.

    """
    for name, digest in manifest.files.items():
        check_file(folder / name, digest)


def check_file(path: Path, digest: str) -> None:
    """Compare one file with its digest; raises as `check_files`."""
    try:
        found = sha256_file(path)
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}") from None
    if found != digest:
        raise DigestMismatch(str(path), digest, found, hint="Fetch or export the data set again.")


def _check_shards(manifest: DatasetManifest) -> None:
    reached = dict.fromkeys(Split, manifest.begin)
    for shard in manifest.shards:
        expected = shard_path(shard.split, shard.start, shard.stop)
        if not is_shard_path(shard.path) or shard.path != expected:
            raise DatasetError(f"{MANIFEST}: a shard is named {shard.path[:100]!r}, expected {expected}")
        if not reached[shard.split] <= shard.start < shard.stop <= manifest.stop or shard.rows < 1:
            raise DatasetError(f"{MANIFEST}: {shard.path} is out of order, or empty")
        reached[shard.split] = shard.stop
