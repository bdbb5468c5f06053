"""Which network, preprocessing, labels and weights make up the model of a profile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from perturbnet.classifier.engine import Float32Engine, Float64Engine
from perturbnet.classifier.labels import REFERENCE_LABELS, imagenet_labels
from perturbnet.classifier.preprocessing import PRODUCTION, REFERENCE, Preprocessing
from perturbnet.classifier.weights import PinnedWeights, hub_weights, reference_weights
from perturbnet.errors import ArtifactMissing, ConfigError, ModelError
from perturbnet.runtime.artifacts import read_pins, sha256_file
from perturbnet.wire import canonical_json

E = TypeVar("E", bound=Float32Engine)
_Given = tuple[Path, str] | None  # weights named by the caller, and their digest


@dataclass(frozen=True, slots=True)
class Model:
    """All that decides a label.

    The network's name, its numbers, what its outputs are called, and its weights.
    """

    network: str
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    weights: Path
    weights_sha256: str

    def digest(self) -> str:
        """Hex SHA-256 that names all of it."""
        return canonical_json.digest(
            {
                "network": self.network,
                "preprocessing": self.preprocessing.digest(),
                "labels": list(self.labels),
                "weights": self.weights_sha256,
            }
        )


def find_model(profile: str, cache_dir: Path, *, weights: Path | None = None) -> Model:
    """Return the model of a profile, its weights found and verified; or with a file's weights, as they are.

    Raises:
        ConfigError: no such profile.
        ArtifactMissing, DigestMismatch, ArtifactError: see `weights`.

    """
    finder = _FINDERS.get(profile)
    if finder is None:
        raise ConfigError("PERTURB_PROFILE", profile, f"one of {', '.join(sorted(_FINDERS))}")
    if weights is None:
        return finder(cache_dir, None)
    if not weights.is_file():
        raise ArtifactMissing(f"the weights {weights} do not exist", hint="Name a safetensors file.")
    return finder(cache_dir, (weights, sha256_file(weights)))


def open_float32(model: Model, device: str) -> Float32Engine:
    """Load a model's network onto a device: auto, cpu, cuda or cuda:N.

    Raises:
        ModelError: the weights do not fit the network; no such device.

    """
    return _open(model, device, Float32Engine)


def open_float64(model: Model, device: str) -> Float64Engine:
    """Do the same in float64.

    Raises:
        ModelError: see `open_float32`.

    """
    return _open(model, device, Float64Engine)


def _open(model: Model, device: str, engine: type[E]) -> E:
    from perturbnet.classifier.architecture import load_network

    chosen = choose_device(device)
    return engine(
        load_network(model.network, len(model.labels), model.weights),
        model.preprocessing,
        model.labels,
        model_name=model.network,
        model_digest=model.digest(),
        device=chosen,
    )


def choose_device(device: str) -> str:
    """Return the torch device that a setting means: `auto` is CUDA where there is one.

    Raises:
        ModelError: there is no such device.

    """
    import torch

    present = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if present else "cpu"
    if device.startswith("cuda") and not present:
        raise ModelError(f"PERTURB_DEVICE is {device}, but torch sees no CUDA device; expected auto or cpu")
    return device


def _find_reference(_cache_dir: Path, given: _Given) -> Model:
    path, sha256 = given or reference_weights()
    return Model("perturb_efficientnetv2_reference", REFERENCE, REFERENCE_LABELS, path, sha256)


def _find_production(cache_dir: Path, given: _Given) -> Model:
    from huggingface_hub.constants import HF_HUB_CACHE

    wanted = PinnedWeights(**read_pins("imagenet100.json")["weights"])
    path, sha256 = given or hub_weights(wanted, [cache_dir / "hub", Path(HF_HUB_CACHE)])
    return Model("tf_efficientnetv2_l.in1k", PRODUCTION, imagenet_labels(), path, sha256)


_FINDERS: Mapping[str, Callable[[Path, _Given], Model]] = MappingProxyType(
    {"imagenet100": _find_production, "reference": _find_reference}
)
