"""`load_model`: a classifier that judges as the network does, and that attacks can search on."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from perturbnet.api.arguments import machine_settings, read_picture
from perturbnet.attacks.protocol import Oracle
from perturbnet.classifier import open_engine, open_oracle
from perturbnet.errors import ArgumentError
from perturbnet.rules.classification import Classification, Engine
from perturbnet.wire.images import Pixels

PROFILES = ("reference", "imagenet100")
TIMM = "timm:"
SUFFIX = ".safetensors"


@dataclass(frozen=True, eq=False)
class Classifier:
    """A classifier that is loaded: `engine` judges, `oracle` is what attacks search on. Itself an `Engine`.

    Example:
        >>> import numpy, perturbnet
        >>> model = perturbnet.load_model("reference")
        >>> image = numpy.full((96, 96, 3), 128, dtype=numpy.uint8)
        >>> model.classify([image])[0].text in model.labels
        True

    """

    engine: Engine
    open_oracle: Callable[[], Oracle]

    @property
    def name(self) -> str:
        """Which engine judges: `float64` and `integer` are exact on every machine."""
        return self.engine.name

    @property
    def model_name(self) -> str:
        """Which network it runs."""
        return self.engine.model_name

    @property
    def model_digest(self) -> str:
        """Hex SHA-256 that names weights, preprocessing and labels."""
        return self.engine.model_digest

    @property
    def labels(self) -> tuple[str, ...]:
        """Class texts by index; a text may appear twice."""
        return self.engine.labels

    @property
    def together(self) -> int:
        """How many images share one pass."""
        return self.engine.together

    @cached_property
    def oracle(self) -> Oracle:
        """Logits and gradients in float32, for searches; opened when it is first asked for."""
        return self.open_oracle()

    def classify(self, images: Sequence[Pixels]) -> list[Classification]:
        """Classify uint8 images (H, W, 3) of any sizes: class index and text, digest of the logits, margin.

        Raises:
            ArgumentError: an image of another type, shape or size.

        """
        return self.engine.classify([read_picture("images", image, smallest=1) for image in images])


def load_model(
    name: str | Path,
    *,
    architecture: str | None = None,
    device: str | None = None,
    cache_dir: Path | None = None,
) -> Classifier:
    """Load a classifier, verified and ready to judge. Nothing is fetched from a network.

    A profile is judged by the network's exact engine: labels and logits are the same bits on every machine.
    So is another network of the EfficientNetV2 family whose preprocessing allows it: it is compiled once,
    into `cache_dir`/models. Any other is judged in float64, whose last digits may differ between machines.

    Args:
        name: `reference` (in the package, nothing to download) or `imagenet100` (see `perturb bootstrap`);
            `timm:NAME`, whose weights lie in a hub cache on this machine; or a file of safetensors.
        architecture: the file's architecture, as timm calls it; what the file says of itself where None.
        device: `cpu`, `cuda`, `cuda:N` or `auto`; PERTURB_DEVICE where None.
        cache_dir: where models lie; PERTURB_CACHE_DIR where None.

    Raises:
        ArgumentError: a name of none of these forms.
        ConfigError: a network that timm does not know, or a setting of the environment.
        ArtifactMissing: the weights are not on this machine; the hint says how to get them.
        DigestMismatch: they are not the pinned ones.
        ModelError: they do not fit the network, it cannot be run, or its self-test failed.

    Example:
        >>> import perturbnet
        >>> model = perturbnet.load_model("reference")
        >>> model.name, len(model.labels)
        ('float64', 10)

    """
    name = os.fspath(name)
    settings = machine_settings(PERTURB_DEVICE=device)
    folder = settings.cache_dir if cache_dir is None else Path(cache_dir)
    if name in PROFILES:
        if architecture is not None:
            raise ArgumentError("architecture", architecture, f"None: the profile {name!r} has its own")
        return open_profile(name, cache_dir=folder, device=settings.device)
    if not (name.startswith(TIMM) or name.endswith(SUFFIX)):
        raise ArgumentError("name", name, f"{', '.join(PROFILES)}, {TIMM}NAME, or a file *{SUFFIX}")
    return _open_weights(name, architecture, device=settings.device, folder=folder)


def open_profile(profile: str, *, cache_dir: Path, device: str, kind: str = "float64") -> Classifier:
    """The model of a profile behind an engine of this kind; raises as `classifier.open_engine`."""

    def search() -> Oracle:
        return open_oracle(profile, cache_dir=cache_dir, device=device, kind=kind)

    return Classifier(open_engine(profile, cache_dir=cache_dir, device=device, kind=kind), search)


def _open_weights(name: str, architecture: str | None, *, device: str, folder: Path) -> Classifier:
    """A network of timm's or of a file, as an evaluation opens it."""
    from perturbnet.classifier.oracle import FloatOracle
    from perturbnet.evaluation.engines import open_network
    from perturbnet.evaluation.networks import Choices, describe_network
    from perturbnet.evaluation.run import hub_access
    from perturbnet.evaluation.weights_files import find_weights

    weights = find_weights(name, architecture, hub_access(folder, None, fetch=False))
    opened = open_network(describe_network(weights, Choices(), []), folder / "models", device=device)
    return Classifier(opened.engine, lambda: FloatOracle(opened.search))
