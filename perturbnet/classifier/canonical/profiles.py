"""Which artefact belongs to which profile, where it lies, and how it is made.

Rules
- `reference` is shipped, compressed, in the package: `data/reference.model.xz`, pinned by the SHA-256 of what
  is inside, with the logits of the golden images.
- `imagenet100` is compiled once, by `perturb model compile`, into the cache: `models/imagenet100.model`,
  with a note beside it that says its SHA-256 and golden logits. A pin in `data/imagenet100.json` wins.
- Nothing is compiled when an engine is opened. What is opened has the digest that was stated, its obligations
  are proven again, and it passes the self-test on this machine, or it is refused.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from perturbnet.classifier.canonical.artefact import (
    HINT,
    Artefact,
    decode_artefact,
    read_artefact,
    write_artefact,
)
from perturbnet.classifier.canonical.obligations import prove_artefact
from perturbnet.classifier.canonical.self_test import digest_golden, require_golden
from perturbnet.classifier.labels import imagenet_labels
from perturbnet.classifier.models import choose_device, find_model
from perturbnet.classifier.preprocessing import PRODUCTION
from perturbnet.errors import ArtifactMissing, ConfigError, ModelError
from perturbnet.runtime.artifacts import read_pins, write_durably

if TYPE_CHECKING:
    from perturbnet.classifier.canonical.engine import CanonicalEngine
    from perturbnet.classifier.canonical.gradient import GradientNetwork
    from perturbnet.classifier.canonical.integer import IntegerEngine

SHIPPED = "reference.model.xz"
TORCHVISION = "torchvision"
_MOST_BYTES = 64 * 1024 * 1024  # of the shipped file, unpacked


@dataclass(frozen=True, slots=True)
class ModelPin:
    """What is known of an artefact: hex SHA-256 of its bytes, and of the golden images' logits."""

    sha256: str
    golden: tuple[str, ...]


def open_canonical(
    profile: str, *, cache_dir: Path, device: str = "auto", integer: bool = False
) -> CanonicalEngine | IntegerEngine:
    """Open a profile's artefact, proven and self-tested, on a device (the integer engine is CPU only).

    Raises:
        ConfigError: no such profile.
        ArtifactMissing: it was not compiled on this machine yet; the hint says how.
        DigestMismatch: it is not the pinned one.
        ModelError: an obligation does not hold, there is no such device, or the self-test failed.

    """
    artefact, pin = find_artefact(profile, cache_dir)
    engine = build_engine(artefact, pin.sha256, device=device, integer=integer)
    require_golden(engine, pin.golden)
    return engine


def build_engine(
    artefact: Artefact, digest: str, *, device: str = "auto", integer: bool = False
) -> CanonicalEngine | IntegerEngine:
    """Put an artefact behind an engine, its obligations proven.

    Raises:
        ModelError: one does not hold, or there is no such device.

    """
    from perturbnet.classifier.canonical.engine import CanonicalEngine
    from perturbnet.classifier.canonical.integer import IntegerEngine

    prove_artefact(artefact)
    if integer:
        return IntegerEngine(artefact, digest)
    return CanonicalEngine(artefact, digest, device=choose_device(device))


def open_gradient(profile: str, *, cache_dir: Path, device: str = "auto") -> GradientNetwork:
    """Open the artefact's network in float32, for gradients; it searches, so it is not self-tested.

    Raises:
        ConfigError, ArtifactMissing, DigestMismatch, ModelError: see `open_canonical`.

    """
    from perturbnet.classifier.canonical.gradient import GradientNetwork

    artefact, _ = find_artefact(profile, cache_dir)
    prove_artefact(artefact)
    return GradientNetwork(artefact, device=choose_device(device))


def find_artefact(profile: str, cache_dir: Path) -> tuple[Artefact, ModelPin]:
    """Read the artefact of a profile and what is known of it.

    Raises:
        ConfigError, ArtifactMissing, DigestMismatch, ModelError: see `open_canonical`.

    """
    finder = _FINDERS.get(profile)
    if finder is None:
        raise ConfigError("PERTURB_PROFILE", profile, f"one of {', '.join(sorted(_FINDERS))}")
    return finder(cache_dir)


def compile_profile(profile: str, *, cache_dir: Path, weights: Path | None = None) -> Artefact:
    """Compile the network of a profile (or `torchvision`) from its pinned weights, or from a file of them.

    Raises:
        ConfigError: no such profile; `torchvision` without a file.
        ModelError: the weights do not fit, or the network cannot be compiled.
        ArtifactError: see `weights`.

    """
    from perturbnet.classifier.architecture import load_network
    from perturbnet.classifier.canonical.compiler import compile_network

    if profile == TORCHVISION:
        from perturbnet.classifier.torchvision_weights import NAME, load_torchvision

        if weights is None:
            raise ConfigError("--weights", weights, "torchvision's file of EfficientNetV2-L, IMAGENET1K_V1")
        network = load_torchvision(weights, len(imagenet_labels()))
        return compile_network(network, name=NAME, labels=imagenet_labels(), size=PRODUCTION.size)
    model = find_model(profile, cache_dir, weights=weights)
    network = load_network(model.network, len(model.labels), model.weights)
    return compile_network(network, name=model.network, labels=model.labels, size=model.preprocessing.size)


def store_artefact(artefact: Artefact, path: Path) -> ModelPin:
    """Write a model and, beside it, the note that says its digest and its golden logits; return the note."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = write_artefact(artefact, path)
    pin = ModelPin(digest, tuple(digest_golden(build_engine(artefact, digest, device="cpu"))))
    write_durably(note_of(path), (json.dumps(asdict(pin), indent=2) + "\n").encode())
    return pin


def cached_path(profile: str, cache_dir: Path) -> Path:
    """Where a profile's compiled artefact is looked for."""
    return cache_dir / "models" / f"{profile}.model"


def note_of(path: Path) -> Path:
    """The note beside an artefact."""
    return path.with_name(path.name + ".json")


def pack(data: bytes) -> bytes:
    """Compress an artefact for the package; `xz -d` undoes it."""
    chain = [{"id": lzma.FILTER_DELTA, "dist": 16}, {"id": lzma.FILTER_LZMA2, "preset": 9}]
    return lzma.compress(data, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, filters=chain)


def unpack(data: bytes, where: str) -> bytes:
    """Undo `pack`; at most 64 MiB come out.

    Raises:
        ModelError: not such data, or too much of it.

    """
    machine = lzma.LZMADecompressor(format=lzma.FORMAT_XZ)
    try:
        found = machine.decompress(data, max_length=_MOST_BYTES)
    except lzma.LZMAError as error:
        raise ModelError(f"{where} cannot be unpacked: {error}") from None
    if not machine.eof:
        raise ModelError(f"{where} is cut short, or unpacks to more than {_MOST_BYTES} bytes")
    return found


def _shipped(_cache_dir: Path) -> tuple[Artefact, ModelPin]:
    pin = _read_pin("reference.json")
    if pin is None:
        raise ArtifactMissing("no artefact of the reference network is pinned", hint=HINT)
    file = Path(str(resources.files("perturbnet"))) / "data" / SHIPPED
    if not file.is_file():
        raise ArtifactMissing(
            f"{file} does not exist", hint="The installation is damaged; install the package again."
        )
    data = np.frombuffer(unpack(file.read_bytes(), str(file)), dtype=np.uint8)
    artefact, _ = decode_artefact(data, str(file), sha256=pin.sha256)
    return artefact, pin


def _compiled(cache_dir: Path) -> tuple[Artefact, ModelPin]:
    path = cached_path("imagenet100", cache_dir)
    hint = "Compile it once: `perturb model compile --profile imagenet100`. Or try PERTURB_PROFILE=reference."
    pin = _read_pin("imagenet100.json") or read_note(path, hint)
    if not path.is_file():
        raise ArtifactMissing(f"the compiled model {path} does not exist", hint=hint)
    artefact, _ = read_artefact(path, sha256=pin.sha256)
    return artefact, pin


def read_note(path: Path, hint: str = HINT) -> ModelPin:
    """Return what the note beside an artefact says.

    Raises:
        ArtifactMissing: there is none.
        ModelError: it is malformed.

    """
    note = note_of(path)
    if not note.is_file():
        raise ArtifactMissing(f"the compiled model's note {note} does not exist", hint=hint)
    try:
        stated = json.loads(note.read_text(encoding="utf-8"))
        return ModelPin(str(stated["sha256"]), tuple(map(str, stated["golden"])))
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{note} is not a model's note: {error!r}", hint=hint) from None


def _read_pin(name: str) -> ModelPin | None:
    stated = read_pins(name).get("artefact")
    return ModelPin(stated["sha256"], tuple(stated["golden"])) if stated else None


_FINDERS: Mapping[str, Callable[[Path], tuple[Artefact, ModelPin]]] = MappingProxyType(
    {"imagenet100": _compiled, "reference": _shipped}
)
