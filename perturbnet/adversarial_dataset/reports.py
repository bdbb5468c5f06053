"""What came of each range, and the manifest that all of them make.

A range's report stands in the work folder, so ranges can be written on any machine and in any order.
"""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from pathlib import Path

import msgspec

from perturbnet.adversarial_dataset.layout import WORK_FOLDER
from perturbnet.adversarial_dataset.licences import licence_of
from perturbnet.adversarial_dataset.manifest import (
    VERSION,
    AttackedModel,
    DatasetManifest,
    Shard,
    SourceDataset,
)
from perturbnet.adversarial_dataset.plan import ExportPlan, Range
from perturbnet.errors import OutputError
from perturbnet.ledger.leaves import ConfigLeaf
from perturbnet.version import __version__

_WITH = ("pyarrow", "datasets", "pillow")


class RangeReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What came of one range."""

    shards: list[Shard]
    left_out: dict[str, int]
    sources: list[SourceDataset]
    models: list[AttackedModel]


def report_path(folder: Path, cut: Range) -> Path:
    """Where the report of a range lies."""
    return folder / WORK_FOLDER / "ranges" / f"{cut.start:012d}.json"


def read_report(path: Path) -> RangeReport:
    """The report of a range. Raises `OutputError` where there is none yet."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=RangeReport)
    except FileNotFoundError:
        raise OutputError(
            f"leaves from {int(path.stem)} on were not exported yet", hint="run their part"
        ) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise OutputError(f"{path} is no report of an export: {error}") from None


def bind(plan: ExportPlan, old: DatasetManifest | None, reports: list[RangeReport]) -> DatasetManifest:
    """The version that these reports make, behind the one before; its files are not named yet."""
    left_out: Counter[str] = Counter(old.left_out if old else {})
    shards = list(old.shards if old else [])
    sources, models = set(old.sources if old else []), set(old.models if old else [])
    for report in reports:
        left_out.update(report.left_out)
        shards += report.shards
        sources.update(report.sources)
        models.update(report.models)
    shared = set(ExportPlan.__struct_fields__) & set(DatasetManifest.__struct_fields__)
    values = {name: getattr(plan, name) for name in shared} | {"version": VERSION}
    versions = {name: importlib.metadata.version(name) for name in _WITH}
    return DatasetManifest(
        **values,
        left_out=dict(left_out),
        sources=sorted(sources),
        models=sorted(models),
        written_with={"perturbnet": __version__, **versions},
        shards=shards,
        files={},
    )


def source_of(config: ConfigLeaf) -> SourceDataset:
    """The data set that a config leaf names."""
    licence, rows = licence_of(config.dataset), config.dataset.get("rows", 0)
    return SourceDataset(
        repository=str(config.dataset.get("repository", "")),
        revision=str(config.dataset.get("revision", "")),
        split=str(config.dataset.get("split", "")),
        rows=rows if isinstance(rows, int) else 0,
        licence=licence.identifier,
        terms=licence.terms,
    )


def model_of(config: ConfigLeaf) -> AttackedModel:
    """The model that a config leaf names."""
    return AttackedModel(config.model_name, config.model_digest, config.engine)
