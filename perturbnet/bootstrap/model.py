"""What is recorded of a profile's model: the artefact that decides, and the floats it was compiled from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perturbnet.bootstrap.witness import FileWitness, read_witness, witness_file
from perturbnet.errors import ArtifactError


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """A model by digests.

    Its name; hex SHA-256 of its artefact, of the golden images' logits, of its weights' file; digest of the
    float network (`classifier.models.Model`); and the artefact's file, None if it is in the package.
    """

    name: str
    artefact: str
    golden: tuple[str, ...]
    weights: str
    network: str
    file: FileWitness | None

    def to_json(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def record_model(profile: str, cache_dir: Path) -> ModelRecord:
    """Find and verify a profile's artefact and weights; nothing is compiled.

    Raises:
        ConfigError: no such profile.
        ArtifactMissing, DigestMismatch, ModelError: either is missing or not the pinned one.

    """
    from perturbnet.classifier.canonical.profiles import cached_path, find_artefact
    from perturbnet.classifier.models import find_model

    artefact, pin = find_artefact(profile, cache_dir)
    model = find_model(profile, cache_dir)
    compiled = cached_path(profile, cache_dir)
    file = witness_file(compiled) if profile != "reference" else None
    return ModelRecord(artefact.name, pin.sha256, pin.golden, model.weights_sha256, model.digest(), file)


def read_model(stated: Mapping[str, Any], where: str) -> ModelRecord:
    """Return what `ModelRecord.to_json` wrote.

    Raises:
        ArtifactError: it is something else.

    """
    try:
        texts = {name: str(stated[name]) for name in ("name", "artefact", "weights", "network")}
        file = None if stated["file"] is None else read_witness(stated["file"], where)
        return ModelRecord(golden=tuple(map(str, stated["golden"])), file=file, **texts)
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{where} does not describe a model: {error!r}") from None
