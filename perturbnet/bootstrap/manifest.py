"""The manifest: what two nodes must have in common, and its digest, the protocol fingerprint.

Rules
- It holds what a verdict depends on and every node can know alike: the wire's version, the data set by the
  root over its pixels, the model by its artefact. No path, no time, no version of a library: what decoded the
  rows stands in the fingerprint's own record, because two decoders that give the same pixels agree.
- A file that came from the hub has its digest here. One that is rendered on the spot has none: its pixels are
  pinned, and how they are packed differs between machines.
- The rules of the network (limits, weights) are not in it: they travel in each challenge and have a leaf of
  their own, and take effect at a block (docs/adr/0009).
- It is canonical JSON (RFC 8785). The protocol fingerprint is the SHA-256 of its bytes: `sha256sum` shows it.
- The data set's part has a digest of its own, which names the order of an epoch: a new model begins none.

Schema: workflow/schemas/manifest.schema.json, written from the classes below.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from perturbnet.bootstrap.fingerprint import Fingerprint
from perturbnet.bootstrap.model import ModelRecord
from perturbnet.bootstrap.witness import FileWitness
from perturbnet.errors import ArtifactError, ArtifactMissing
from perturbnet.wire import canonical_json
from perturbnet.wire.digests import sha256_hex
from perturbnet.wire.messages import PROTOCOL_VERSION, Digest

FORMAT: Literal["perturb/manifest/1"] = "perturb/manifest/1"
MAX_BYTES = 64 << 20
Name = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Count = Annotated[int, Field(ge=0, le=canonical_json.MAX_SAFE_INTEGER)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class FilePart(_Section):
    """One Parquet file: name in the data set, rows, root over its rows, digest of its labels.

    `size` (bytes) and `sha256` of the file where it came from the hub; null where it was rendered.
    """

    name: Name
    rows: Count
    root: Digest
    labels: Digest
    size: Count | None
    sha256: Digest | None


class UndecodableRow(_Section):
    """A row that is no picture: its number, and the SHA-256 of its stored bytes."""

    row: Count
    stored_sha256: Digest


class DatasetSection(_Section):
    """The data set: whose it is, which commit, and the root over the pixels of all its rows."""

    repository: Name
    revision: Name
    split: Name
    rows: Count
    root: Digest
    undecodable: list[UndecodableRow]
    parts: list[FilePart]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if sum(part.rows for part in self.parts) != self.rows:
            raise ValueError(f"the parts have not {self.rows} rows together")
        if any(row.row >= self.rows for row in self.undecodable):
            raise ValueError(f"an undecodable row is not among the {self.rows}")
        return self


class ModelSection(_Section):
    """The model: its name, its artefact, the logits of the golden images, and the floats it was made from.

    `network` is the digest of the float network as a whole: architecture, preprocessing, labels and weights.
    """

    name: Name
    artefact: Digest
    golden: list[Digest]
    weights: Digest
    network: Digest


class Manifest(_Section):
    """All of it."""

    format: Literal["perturb/manifest/1"]
    profile: Name
    protocol: Count
    dataset: DatasetSection
    model: ModelSection

    def encode(self) -> bytes:
        """The canonical bytes: the content of manifest.json."""
        return canonical_json.encode(self.model_dump(mode="json"))

    @cached_property
    def digest(self) -> str:
        """The protocol fingerprint: hex SHA-256 of `encode`."""
        return sha256_hex(self.encode())

    @cached_property
    def dataset_digest(self) -> str:
        """Hex SHA-256 of the canonical data set section: what an epoch's order belongs to."""
        return canonical_json.digest(self.dataset.model_dump(mode="json"))


def build_manifest(
    profile: str,
    *,
    repository: str,
    revision: str,
    split: str,
    found: Fingerprint,
    files: dict[str, FileWitness],
    model: ModelRecord,
) -> Manifest:
    """Put a manifest together; `files` are those of the data set that came from the hub, by name.

    Raises:
        ArtifactError: something in it is not as the schema says.

    """
    parts = [
        FilePart(
            name=part.name,
            rows=part.rows,
            root=part.root,
            labels=part.labels,
            size=files[part.name].size if part.name in files else None,
            sha256=files[part.name].sha256 if part.name in files else None,
        )
        for part in found.parts
    ]
    undecodable = [
        UndecodableRow(row=item.row, stored_sha256=item.stored_sha256) for item in found.undecodable
    ]
    try:
        return Manifest(
            format=FORMAT,
            profile=profile,
            protocol=PROTOCOL_VERSION,
            dataset=DatasetSection(
                repository=repository,
                revision=revision,
                split=split,
                rows=found.rows,
                root=found.root,
                undecodable=undecodable,
                parts=parts,
            ),
            model=ModelSection(
                name=model.name,
                artefact=model.artefact,
                golden=list(model.golden),
                weights=model.weights,
                network=model.network,
            ),
        )
    except ValidationError as error:
        raise ArtifactError(f"no manifest of {profile}: {_first_fault(error)}") from None


def decode_manifest(data: bytes, where: str) -> Manifest:
    """Read a manifest's bytes; `where` names them in an error.

    Raises:
        ArtifactError: not canonical, or not as the schema says.

    """
    try:
        return Manifest.model_validate(canonical_json.decode(data))
    except canonical_json.NotCanonical as error:
        raise ArtifactError(f"{where} is no manifest: {error.message}", hint=_HOW) from None
    except ValidationError as error:
        raise ArtifactError(f"{where} is no manifest: {_first_fault(error)}", hint=_HOW) from None


def read_manifest(path: Path) -> Manifest:
    """Read a manifest file.

    Raises:
        ArtifactMissing: there is none; the hint says how to make it.
        ArtifactError: it is too large, or see `decode_manifest`.

    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ArtifactMissing(f"there is no manifest {path}", hint=_HOW) from None
    if len(data) > MAX_BYTES:
        raise ArtifactError(f"{path} is larger than {MAX_BYTES} bytes: no manifest", hint=_HOW)
    return decode_manifest(data, str(path))


_HOW = "Make it with `perturb bootstrap`: data, weights and model, verified and fingerprinted."


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    where = ".".join(map(str, fault["loc"])) or "the whole"
    return f"{where}: {fault['msg']}"
