"""The judge and the searcher of a user's network: canonical where it compiles, else float64 and float32.

- Canonical: the network is compiled once, into the evaluation's folder, by the compiler of the profiles, and
  judged by the same engine. Its artefact's SHA-256 is the model's digest; labels and logits are the same bits
  on every machine.
- Float64: timm's own modules in float64, one image at a time, so that a batch cannot matter. On one machine
  the bits are the same again; on another one, or with other libraries, they may differ: `reproducible` is
  False, and the engine's name says so in the log.
- Attacks search in float32 on the same network, through the same preprocessing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from perturbnet.classifier.canonical.artefact import read_artefact
from perturbnet.classifier.canonical.profiles import build_engine, note_of, read_note, store_artefact
from perturbnet.classifier.canonical.self_test import golden_images, require_golden
from perturbnet.classifier.engine import Float64Engine, judge
from perturbnet.classifier.models import choose_device
from perturbnet.classifier.oracle import Differentiable
from perturbnet.errors import ArtifactMissing, ModelError
from perturbnet.evaluation.networks import Network
from perturbnet.evaluation.transform import Transform
from perturbnet.rules.classification import Classification, Engine
from perturbnet.wire.images import Pixels

if TYPE_CHECKING:
    import torch
    from torch import nn

MODEL_FILE = "network-{digest}.model"


@dataclass(frozen=True)
class PlainClassification:
    """A network ready for an evaluation: who judges, what attacks search on, and why it is not compiled."""

    engine: Engine
    search: Differentiable
    reproducible: bool
    reason: str = ""  # why it could not be compiled


class PlainNetwork:
    """A network behind its preprocessing, in one precision, on one device; differentiable."""

    def __init__(
        self,
        network: nn.Module,
        transform: Transform,
        labels: tuple[str, ...],
        *,
        precision: str,
        device: str,
    ) -> None:
        """Take a network with its weights in place; `precision` is float32 or float64."""
        import torch

        self.labels, self.device = labels, device
        self._dtype: torch.dtype = getattr(torch, precision)
        self._network = network.to(device, self._dtype)
        self._transform = transform

    def prepare(self, levels: torch.Tensor) -> torch.Tensor:
        """Network inputs of levels (N, H, W, 3) of one size; gradients pass through."""
        return self._transform.apply(levels)

    def infer(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) of such inputs; gradients pass through."""
        return self._network(inputs)  # type: ignore[no-any-return]

    def logits(self, pixels: Pixels) -> NDArray[Any]:
        """Logits (classes) of one uint8 image (H, W, 3)."""
        import torch

        with torch.inference_mode():
            levels = torch.tensor(pixels[None], device=self.device).to(self._dtype)
            found: NDArray[Any] = self.infer(self.prepare(levels))[0].cpu().numpy()
        return found


class PlainEngine:
    """An `Engine` for networks that cannot be compiled: float64, one image at a time."""

    name = Float64Engine.name
    reproducible = False
    together = 1

    def __init__(self, network: PlainNetwork, *, model_name: str, model_digest: str) -> None:
        """Judge by `network`, which must be of float64."""
        self._network = network
        self.labels = network.labels
        self.model_name, self.model_digest = model_name, model_digest

    def classify(self, images: Sequence[Pixels]) -> list[Classification]:
        """See `Engine.classify`.

        Raises:
            ModelError: an array that is not uint8 (H, W, 3), or a network that gives no such logits.

        """
        return [self._judge(pixels) for pixels in images]

    def _judge(self, pixels: Pixels) -> Classification:
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ModelError(f"an image is {pixels.dtype} {pixels.shape}; expected uint8 (H, W, 3)")
        logits = self._network.logits(pixels)
        if logits.shape != (len(self.labels),):
            raise ModelError(f"{self.model_name} gives {logits.shape}; expected {len(self.labels)} logits")
        return judge(logits, self.labels)


def open_network(
    network: Network, out: Path, *, device: str = "auto", compiled: bool = True
) -> PlainClassification:
    """Make a network ready: compiled into `out` where that is possible, else in float64.

    Args:
        network: what it is made of.
        out: the evaluation's folder; a network that was compiled there before is read again.
        device: auto, cpu, cuda or cuda:N.
        compiled: False judges in float64 even where it could be compiled.

    Raises:
        ModelError: the weights do not fit, the network cannot be run, or a self-test failed.
        DigestMismatch: the compiled file in `out` is not the one that its note names.

    """
    chosen = choose_device(device)
    reason = "it was asked for (--float64)" if not compiled else ""
    if compiled:
        try:
            return _open_compiled(network, out, chosen)
        except _DoesNotCompile as error:
            reason = error.message
    return _open_plain(network, chosen, reason)


class _DoesNotCompile(ModelError):
    """A network that the canonical compiler refuses."""


def _open_compiled(network: Network, out: Path, device: str) -> PlainClassification:
    from perturbnet.classifier.canonical.gradient import GradientNetwork

    path = out / MODEL_FILE.format(digest=network.digest()[:16])
    if not note_of(path).is_file():
        _compile(network, path)
    pin = read_note(path)
    if not path.is_file():
        raise ArtifactMissing(f"the compiled model {path} does not exist", hint=f"remove {note_of(path)} too")
    artefact, _ = read_artefact(path, sha256=pin.sha256)
    engine = build_engine(artefact, pin.sha256, device=device)
    require_golden(engine, pin.golden)
    return PlainClassification(engine, GradientNetwork(artefact, device=device), reproducible=True)


def _compile(network: Network, path: Path) -> None:
    """Compile into `path`; the note beside it is written last.

    Raises:
        _DoesNotCompile: another family, or preprocessing that an artefact does not have.
        ModelError: the weights do not fit.

    """
    from timm.models.efficientnet import EfficientNet

    from perturbnet.classifier.canonical.compiler import compile_network

    transform, loaded = network.transform, network.load()
    if isinstance(loaded, EfficientNet) and not transform.compiles:
        wanted = "mean and std 0.5, bicubic, --resize shorter, --crop-pct 1"
        raise _DoesNotCompile(f"its preprocessing: a compiled network has {wanted}")
    try:
        artefact = compile_network(
            loaded, name=network.architecture, labels=network.labels, size=transform.size
        )
    except ModelError as error:
        raise _DoesNotCompile(error.message) from error
    store_artefact(artefact, path)


def _open_plain(network: Network, device: str, reason: str) -> PlainClassification:
    double, single = (
        PlainNetwork(network.load(), network.transform, network.labels, precision=precision, device=device)
        for precision in ("float64", "float32")
    )
    engine = PlainEngine(double, model_name=network.architecture, model_digest=network.digest())
    try:
        answers = engine.classify(golden_images())
        single.logits(golden_images()[0])
    except (RuntimeError, TypeError, ValueError, IndexError, AssertionError) as error:
        raise ModelError(
            f"{network.architecture} cannot be run: {' '.join(str(error).split())[:500]}"
        ) from error
    if not all(answer.healthy for answer in answers):
        raise ModelError(
            f"{network.architecture} gives numbers that are not finite", hint="are these its weights?"
        )
    return PlainClassification(engine, single, reproducible=False, reason=reason)
