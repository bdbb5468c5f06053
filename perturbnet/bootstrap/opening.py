"""What a validator or an auditor holds, opened and compared with its manifest."""

from __future__ import annotations

from dataclasses import dataclass

from perturbnet.bootstrap.holdings import open_checked, open_manifest, require_engine
from perturbnet.bootstrap.manifest import Manifest
from perturbnet.bootstrap.records import Workplace
from perturbnet.classifier import open_engine
from perturbnet.config import Settings
from perturbnet.datasets import ImageSource
from perturbnet.rules.classification import Engine


@dataclass(frozen=True)
class Held:
    """What a validator holds, compared with its manifest: the model behind an engine, and the data set."""

    manifest: Manifest
    engine: Engine
    source: ImageSource


def open_held(settings: Settings) -> Held:
    """Open what `perturb bootstrap` prepared, or refuse it by name; nothing is fetched or repaired here.

    Raises:
        ArtifactMissing: there is no manifest, or something it names is gone; the hint says how to make it.
        DigestMismatch: files, rows, decoder or model are not what the manifest names.
        PerturbError: see `classifier.open_engine` and `datasets.open_source`.

    """
    place = Workplace(settings.cache_dir, settings.profile)
    manifest = open_manifest(place)
    source = open_checked(place, manifest, paranoid=settings.paranoid)
    engine = open_engine(
        settings.profile, cache_dir=settings.cache_dir, device=settings.device, kind=settings.engine
    )
    require_engine(manifest, engine)
    return Held(manifest, engine, source)
