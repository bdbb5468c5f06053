"""From weights to a network: architecture, classes, preprocessing; refused where one of them is unclear.

Rules
- The architecture is ours (`classifier.architecture`) or one of timm's. Every parameter and buffer that the
  architecture stores comes from the file (`strict`): a tensor too many, too few or of another shape is an
  error. What timm computes when it builds (position indices, say) is computed, not loaded.
- How many classes there are is what the last layer's tensor says.
- What the classes are called: `--labels FILE` (a text a line, or JSON: a list, or an object from index to
  text); `--labels folders` (the class folders' names, sorted: torchvision's ImageFolder); `config.json`'s
  `label_names`; ImageNet's texts for timm's own 1000 outputs; else their numbers.
- A user's folder belongs to the class of its name: the text, the WordNet synset where the classes are
  ImageNet's, or the number where they have no other name. A folder that is no class is an error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perturbnet.classifier.labels import REFERENCE_LABELS, imagenet_classes, imagenet_labels
from perturbnet.classifier.preprocessing import REFERENCE
from perturbnet.errors import ArtifactMissing, ConfigError, DatasetError, ModelError
from perturbnet.evaluation.transform import Transform
from perturbnet.evaluation.weights_files import REFERENCE_ARCHITECTURE, WeightsFile
from perturbnet.wire import canonical_json

if TYPE_CHECKING:
    from torch import nn

FOLDERS = "folders"
MAX_CLASSES = 100_000
MAX_LABEL_CHARACTERS = 256
MAX_LABELS_BYTES = 1 << 25
_REFERENCE_HEAD = "classifier"


@dataclass(frozen=True)
class Choices:
    """What the user said about the model, None where they said nothing: wins over what the file says."""

    labels: str | None = None
    size: int | None = None
    kernel: str | None = None
    crop_pct: str | None = None
    resize: str | None = None
    mean: tuple[str, str, str] | None = None
    std: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class Network:
    """All that decides a label: architecture, weights, preprocessing, class texts."""

    architecture: str
    weights: WeightsFile
    transform: Transform
    labels: tuple[str, ...]

    def digest(self) -> str:
        """Hex SHA-256 that names all of it; the code that computes it is the environment's to name."""
        return canonical_json.digest(
            {
                "network": self.architecture,
                "transform": self.transform.digest(),
                "labels": list(self.labels),
                "weights": self.weights.sha256,
            }
        )

    def load(self) -> nn.Module:
        """Build it and fill it from its file, in evaluation mode, without gradients for its weights.

        Raises:
            ModelError: the file does not fit the architecture.

        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            network = _build(self.architecture, len(self.labels))
            network.load_state_dict(load_file(self.weights.path), strict=True)
        except (SafetensorError, RuntimeError, ValueError, TypeError) as error:
            found = " ".join(str(error).split())[:500]
            raise ModelError(f"{self.weights.path} does not fit {self.architecture}: {found}") from error
        return network.eval().requires_grad_(requires_grad=False)


def describe_network(weights: WeightsFile, choices: Choices, folders: Sequence[str]) -> Network:
    """Settle everything about a network that is not said in full.

    Args:
        weights: the file, and what it says.
        choices: what the user says.
        folders: names of the class folders, for `--labels folders`.

    Raises:
        ConfigError: no architecture, or a number that is not allowed.
        ModelError: the architecture has no head of this name, or classes that cannot be told apart or named.
        ArtifactMissing: no such file of labels.

    """
    stated = _stated(weights)
    classes = _count_classes(weights, str(stated.get("classifier") or ""))
    labels = _labels(weights, choices, stated, classes, folders)
    return Network(weights.architecture, weights, _transform(weights, choices, stated), labels)


def class_finder(labels: Sequence[str]) -> Callable[[str], tuple[str, int]]:
    """What turns a class folder's name into class text and index; raises `DatasetError` for another one."""
    known: dict[str, int] = {}
    if tuple(labels) == imagenet_labels():
        known = {each.synset: each.index for each in imagenet_classes()}
    for index, text in enumerate(labels):
        known.setdefault(text, index)

    def find(folder: str) -> tuple[str, int]:
        if folder not in known:
            some = ", ".join(repr(text) for text in labels[:12]) + (", …" if len(labels) > 12 else "")
            hint = (
                f"The model's {len(labels)} classes: {some}. Name them with --labels (FILE, or `folders`), "
                "rename the folder, or judge the pictures without their classes: --unlabelled."
            )
            raise DatasetError(f"the folder {folder!r} is no class of the model", hint=hint)
        return labels[known[folder]], known[folder]

    return find


def no_class(_folder: str) -> tuple[str, int]:
    """`--unlabelled`: folders say nothing."""
    return "", -1


def _build(architecture: str, classes: int) -> nn.Module:
    if architecture == REFERENCE_ARCHITECTURE:
        from perturbnet.classifier.architecture import build_reference

        return build_reference(classes)
    import timm

    network: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=classes)
    return network


def _stated(weights: WeightsFile) -> dict[str, Any]:
    """What is known of the architecture: timm's configuration for its name, and the file's own over it."""
    name = weights.architecture
    if name == REFERENCE_ARCHITECTURE:
        return {"classifier": _REFERENCE_HEAD, "input_size": (3, REFERENCE.size, REFERENCE.size)}
    import timm

    if not name:
        hint = "add --arch NAME, one of timm.list_models(); or config.json beside the file, as timm writes it"
        raise ConfigError("--arch", None, f"the architecture of {weights.path.name}", source=hint)
    if not timm.is_model(name):
        raise ConfigError("--arch", name, f"{REFERENCE_ARCHITECTURE}, or one of timm.list_models()")
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # a tag that it does not know
        raise ConfigError("--arch", name, "a name and tag that timm has") from error
    found: dict[str, Any] = asdict(config) if config is not None else {}
    beside = weights.config.get("pretrained_cfg")
    for own in (weights.config, beside if isinstance(beside, dict) else {}):
        found |= {name: value for name, value in own.items() if value is not None}
    return found


def _count_classes(weights: WeightsFile, head: str) -> int:
    shape = weights.shape(f"{head}.weight") or weights.shape(f"{head}.bias")
    if not head or shape is None:
        raise ModelError(
            f"{weights.path} has no tensor {head or 'head'}.weight, the last layer of {weights.architecture}",
            hint="is it another architecture (--arch), or a network without a classifier?",
        )
    if not 2 <= shape[0] <= MAX_CLASSES:
        raise ModelError(f"{weights.path}: {shape[0]} classes; expected 2 to {MAX_CLASSES}")
    return shape[0]


def _labels(
    weights: WeightsFile, choices: Choices, stated: Mapping[str, Any], classes: int, folders: Sequence[str]
) -> tuple[str, ...]:
    names = stated.get("label_names")
    if choices.labels == FOLDERS:
        found, where = tuple(sorted(folders)), f"--labels {FOLDERS}"
    elif choices.labels is not None:
        found, where = _read_labels(Path(choices.labels)), choices.labels
    elif isinstance(names, (list, tuple)):
        found, where = tuple(str(name) for name in names), "config.json"
    elif weights.architecture == REFERENCE_ARCHITECTURE and classes == len(REFERENCE_LABELS):
        found, where = REFERENCE_LABELS, "the reference profile"
    elif weights.origin != "file" and classes == len(imagenet_labels()):
        found, where = imagenet_labels(), "ImageNet"
    else:
        found, where = tuple(str(index) for index in range(classes)), "numbers"
    if len(found) != classes:
        hint = f"{weights.path.name} has {classes} outputs; name each of them, in their order"
        raise ModelError(f"{where} names {len(found)} classes; expected {classes}", hint=hint)
    for text in found:
        if not (text.isprintable() and 1 <= len(text) <= MAX_LABEL_CHARACTERS):
            raise ModelError(
                f"{where}: the class {text[:80]!r}: expected 1 to {MAX_LABEL_CHARACTERS} printable characters"
            )
    return found


def _read_labels(path: Path) -> tuple[str, ...]:
    """Class texts in the order of the network's outputs; see the module."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_LABELS_BYTES + 1)
        if len(data) > MAX_LABELS_BYTES:
            raise ModelError(f"{path}: more than {MAX_LABELS_BYTES} bytes, so not a list of classes")
        text = data.decode()
        if path.suffix != ".json":
            return tuple(line.strip() for line in text.splitlines() if line.strip())
        found = json.loads(text)
        if isinstance(found, dict):
            found = [found[str(index)] for index in range(len(found))]
        return tuple(str(each) for each in found)
    except OSError as error:
        raise ArtifactMissing(f"the labels {path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        wanted = "a text a line, or JSON: a list, or an object from index to text"
        raise ModelError(f"{path} is no list of classes: {error!r}", hint=wanted) from None


def _transform(weights: WeightsFile, choices: Choices, stated: Mapping[str, Any]) -> Transform:
    size, resize = choices.size, choices.resize
    if size is None:
        size = _square(weights, stated.get("input_size"))
    if resize is None:
        mode = str(stated.get("crop_mode") or "center")
        known = {"center": "shorter", "squash": "squash"}
        if mode not in known:
            raise ConfigError("--resize", mode, f"shorter or squash: {weights.architecture} wants {mode!r}")
        resize = known[mode]
    return Transform(
        size=size,
        kernel=choices.kernel or str(stated.get("interpolation") or "bicubic"),
        crop_pct=_plain(choices.crop_pct) if choices.crop_pct else _decimal(stated.get("crop_pct"), "1.0"),
        resize=resize,
        mean=_three(choices.mean) if choices.mean else _triple(stated.get("mean")),
        std=_three(choices.std) if choices.std else _triple(stated.get("std")),
    )


def _square(weights: WeightsFile, stated: object) -> int:
    match stated:
        case [3, int(height), int(width)] if height == width:
            return height
    raise ConfigError("--size", stated, f"the side of {weights.architecture}'s square RGB input, in pixels")


def _triple(stated: object) -> tuple[str, str, str]:
    if isinstance(stated, (list, tuple)) and len(stated) == 3:
        red, green, blue = (_decimal(value, "0.5") for value in stated)
        return red, green, blue
    return "0.5", "0.5", "0.5"


def _three(texts: tuple[str, str, str]) -> tuple[str, str, str]:
    red, green, blue = (_plain(text) for text in texts)
    return red, green, blue


def _plain(text: str) -> str:
    """The user's number as the shortest text that means it; what is none stays, and is refused later."""
    try:
        return _decimal(float(text), text)
    except ValueError:
        return text


def _decimal(stated: object, default: str) -> str:
    """A number as the shortest text that means it."""
    if not isinstance(stated, (int, float)) or not math.isfinite(stated):
        return default
    return repr(float(stated))
