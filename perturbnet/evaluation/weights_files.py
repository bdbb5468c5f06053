"""A user's weights: a safetensors file, what it says of itself, and what stands beside it. Never a pickle.

What says how to build the network, the first that does: the command's options, the file's own metadata
(`architecture`), `config.json` beside it (timm's, as `push_to_hf_hub` writes it and the hub serves it), and
for `timm:NAME` the configuration that timm has for that name.

Safetensors: a length, a JSON header, raw numbers; nothing in it is executed. Source:
github.com/huggingface/safetensors, README; timm's `models/_hub.py` for config.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from perturbnet.classifier.weights import PinnedWeights, hub_weights, reference_weights
from perturbnet.errors import ArtifactMissing, ConfigError, HubRefused, ModelError
from perturbnet.runtime.artifacts import sha256_file
from perturbnet.runtime.progress import Progress

SUFFIX = ".safetensors"
TIMM = "timm:"
REFERENCE = "reference"  # the network in the package
REFERENCE_ARCHITECTURE = "perturb_efficientnetv2_reference"  # architecture.REFERENCE_NAME, without torch
HUB_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
MAX_CONFIG_BYTES = 1 << 22
_HOW = (
    "Fetch them once, with a network: add --fetch, or: hf download {repository} model.safetensors "
    "config.json. From then on no network is needed."
)


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights, and what is stated about it: `architecture` and `config` may be empty."""

    path: Path
    sha256: str
    architecture: str
    config: Mapping[str, Any] = field(default_factory=dict)
    origin: str = "file"  # or the hub's repository

    def shape(self, tensor: str) -> tuple[int, ...] | None:
        """The shape of one tensor; None where the file has none of that name.

        Raises:
            ModelError: it is no safetensors file.

        """
        try:
            with safe_open(self.path, framework="numpy") as file:
                return tuple(file.get_slice(tensor).get_shape()) if tensor in file.keys() else None  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{self.path} is not a safetensors file: {error}") from None


@dataclass(frozen=True)
class HubAccess:
    """Hub caches on this machine, as huggingface_hub lays them out; and whether the hub itself may be asked.

    What is fetched goes into the first cache. `endpoint` None is HF_ENDPOINT, else the public hub. `progress`
    is told (bytes there, bytes in all).
    """

    caches: Sequence[Path] = ()
    fetch: bool = False
    token: str | None = None
    endpoint: str | None = None
    progress: Progress = lambda _done, _of: None


def find_weights(model: str, arch: str | None, access: HubAccess) -> WeightsFile:
    """Find what `--model` names.

    Args:
        model: `timm:NAME`, the path of a safetensors file, or `reference`, the network in the package.
        arch: `--arch`; wins over what a file says of itself.
        access: where hub files lie, and whether what is missing is fetched.

    Raises:
        ConfigError: none of the three; a name that timm does not know.
        ArtifactMissing: no such file, or no cache has the weights; the hint says how to get them.
        DigestMismatch, ArtifactError: see `classifier.weights.hub_weights` and `bootstrap.fetching`.
        ModelError: a file that is not safetensors.

    """
    if model.startswith(TIMM):
        return _find_timm(model.removeprefix(TIMM), access)
    if model == REFERENCE:
        return WeightsFile(*reference_weights(), REFERENCE_ARCHITECTURE)
    path = Path(model).expanduser()
    if path.suffix != SUFFIX:
        allowed = f"{TIMM}NAME, {REFERENCE}, or a file that ends in {SUFFIX} (pickles are never opened)"
        raise ConfigError("--model", model, allowed)
    if not path.is_file():
        raise ArtifactMissing(f"the weights {path} do not exist", hint=f"name a {SUFFIX} file")
    config = _read_config(path)
    stated = _metadata(path).get("architecture") or str(config.get("architecture") or "")
    return WeightsFile(path, sha256_file(path), arch or stated, config)


def _find_timm(name: str, access: HubAccess) -> WeightsFile:
    repository = _repository(name)
    wanted = PinnedWeights(repository, "", HUB_FILE, None, None)
    try:
        path, sha256 = hub_weights(wanted, access.caches)
    except ArtifactMissing as error:
        if not access.fetch:
            hint = _HOW.format(repository=repository)
            raise ArtifactMissing(f"the weights {repository} are in no hub cache here", hint=hint) from error
        _fetch(repository, access)
        path, sha256 = hub_weights(wanted, access.caches[:1])
    return WeightsFile(path, sha256, name, _read_config(path), repository)


def _repository(name: str) -> str:
    """Where timm's own weights of this name lie on the hub."""
    import timm

    if not timm.is_model(name):
        raise ConfigError("--model", f"{TIMM}{name}", "a name that timm.list_models() has")
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # a tag that it does not know
        config = None
    repository = getattr(config, "hf_hub_id", None)
    if not repository:
        raise ConfigError("--model", f"{TIMM}{name}", "a name that timm has weights for on the hub")
    return str(repository)


def _fetch(repository: str, access: HubAccess) -> None:
    """Bring the newest weights and their configuration into the first cache, every byte hashed."""
    from perturbnet.hub.connection import Hub, Pace
    from perturbnet.hub.fetching import fetch
    from perturbnet.hub.listing import list_snapshot

    endpoint, token = access.endpoint, access.token
    what = f"model {repository}, its commits"
    listed, _ = Hub.open(endpoint, token).read_json(f"/api/models/{repository}/commits/main", what, Pace())
    newest = listed[0] if isinstance(listed, list) and listed else None
    commit = newest.get("id") if isinstance(newest, dict) else None
    if not isinstance(commit, str):
        raise HubRefused(f"{repository}: the hub names no commit of it")
    snapshot = list_snapshot(repository, "model", commit, endpoint=endpoint, token=token)
    for name in (HUB_FILE, CONFIG_FILE):
        fetch(
            snapshot.file(name),
            snapshot,
            access.caches[0],
            report=lambda state: access.progress(state.done, state.total),
            caches=access.caches[1:],
            endpoint=endpoint,
            token=token,
        )


def _metadata(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a safetensors file: {error}") from None


def _read_config(weights: Path) -> dict[str, Any]:
    """The `config.json` beside a file of weights; empty where there is none.

    Raises:
        ModelError: it is malformed.

    """
    path = weights.with_name(CONFIG_FILE)
    if not path.is_file():
        return {}
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
        if len(data) > MAX_CONFIG_BYTES:
            raise ModelError(f"{path}: more than {MAX_CONFIG_BYTES} bytes, so not a network's configuration")
        found = json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {error}", hint="correct it, or move it away") from None
    if not isinstance(found, dict):
        raise ModelError(f"{path} is no JSON object", hint="correct it, or move it away")
    return found
