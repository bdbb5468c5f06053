"""Where a network's weights are, and the proof that they are the right ones.

The reference network's lie in the package and are pinned by size and SHA-256 in `data/reference.json`. The
production network's lie in a hub cache, as huggingface_hub lays it out:
`snapshots/<commit>/model.safetensors` is a link to `blobs/<SHA-256>`. They are pinned in
`data/imagenet100.json` by revision, and by digest once a first download has recorded it (`perturb pins
update`); until then the file must have the digest the hub gave it, which is the name of its blob. A revision
that is shortened must fit one snapshot only. A file that can be checked against neither is refused. There is
no other way to get weights, in particular not at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from perturbnet.errors import ArtifactError, ArtifactMissing
from perturbnet.runtime.artifacts import Pin, read_pins, verify_file
from perturbnet.wire.digests import is_digest

_HOW = (
    "Fetch them with `perturb bootstrap` or `snakemake bootstrap` (476 MB), or try it without them: "
    "PERTURB_PROFILE=reference."
)


@dataclass(frozen=True, slots=True)
class PinnedWeights:
    """A file on the hub.

    Repository, revision (a commit, perhaps shortened), name, and its digest and size if known.
    """

    repository: str
    revision: str
    file: str
    sha256: str | None
    size: int | None


def reference_weights() -> tuple[Path, str]:
    """Return the path of the reference weights and their SHA-256.

    Raises:
        ArtifactMissing: the package was installed without its data.
        DigestMismatch: they are not the pinned ones.

    """
    stated = read_pins("reference.json")["network"]
    pin = Pin(stated["file"], stated["sha256"], stated["size"])
    path = Path(str(resources.files("perturbnet"))) / "data" / pin.name
    return verify_file(path, pin, hint="The installation is damaged; install the package again."), pin.sha256


def hub_weights(wanted: PinnedWeights, hubs: Sequence[Path]) -> tuple[Path, str]:
    """Return the path of a hub file in the first cache that has it, and its SHA-256.

    Raises:
        ArtifactMissing: no cache has that revision of it; the hint says how to get it.
        DigestMismatch: the file is not the pinned one, or not the one the hub had.
        ArtifactError: nothing says which digest it must have; a shortened revision fits several commits.

    """
    name = "models--" + wanted.repository.replace("/", "--")
    for hub in hubs:
        found = sorted((hub / name / "snapshots").glob(f"{wanted.revision}*/{wanted.file}"))
        if len(found) > 1:
            commits = ", ".join(path.relative_to(hub / name / "snapshots").parts[0] for path in found)
            raise ArtifactError(
                f"{wanted.repository}: {wanted.revision} fits {len(found)} commits in {hub}: {commits}",
                hint="Remove the wrong one, or pin the full commit with `perturb pins update`.",
            )
        if found:
            pin = _pin_of(wanted, found[0])
            return verify_file(found[0], pin, hint=f"Remove {found[0]} and its blob. {_HOW}"), pin.sha256
    places = ", ".join(str(hub) for hub in hubs)
    raise ArtifactMissing(
        f"the weights {wanted.repository} at revision {wanted.revision} are not in {places}", hint=_HOW
    )


def _pin_of(wanted: PinnedWeights, path: Path) -> Pin:
    label = f"{wanted.repository}/{wanted.file}"
    blob = path.resolve()
    if wanted.sha256 is not None and wanted.size is not None:
        return Pin(label, wanted.sha256, wanted.size)
    if path.is_symlink() and is_digest(blob.name):
        return Pin(label, blob.name, blob.stat().st_size if blob.exists() else 0)
    raise ArtifactError(
        f"{path} cannot be verified: it is not pinned by digest, and is no link to a blob", hint=_HOW
    )
