"""Canonical inference against float32 on the same network, one thread, one image.

The baseline is the fastest float32 setting of the same torch (oneDNN, channels last). EfficientNetV2-L runs
at 480 with seeded weights whose batch-norm statistics are those of pictures, so that activations are
realistic; no download is needed. Its last case compares our compiled loops with the same arithmetic done by
torch's operations, which is what a GPU runs.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.float_peers import float_peers
from benchmarks.harness import Case, Work
from perturbnet.classifier import open_engine
from perturbnet.datasets.reference import load_photographs
from perturbnet.datasets.rendering import render
from perturbnet.wire.images import Pixels

if TYPE_CHECKING:
    import torch

    from perturbnet.classifier.canonical.engine import CanonicalEngine

SIZE = 480
SEED = 0
RENDERED = 10  # pictures of the reference data set that join the photographs for the statistics


def cases() -> Sequence[Case]:
    """The reference network, whole engines; EfficientNetV2-L, the networks alone."""
    large = (("float32, channels last", _large_float32), *float_peers(large_onnx))
    return (
        Case("reference, float64", lambda: _reference("float64"), lambda: _reference("float32"), "float32"),
        Case("reference, integer", lambda: _reference("integer"), lambda: _reference("float32"), "float32"),
        *(
            Case(f"EfficientNetV2-L, float64, {name}", large_canonical, peer, f"{name}")
            for name, peer in large
        ),
        Case("EfficientNetV2-L, float64, plain", large_canonical, _large_portable, "our own loops in torch"),
    )


def photographs() -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """The package's photographs, uint8 (H, W, 3)."""
    folder = Path(str(resources.files("perturbnet"))) / "data" / "photographs"
    return [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("*.png"))]


def build_large() -> torch.nn.Module:
    """EfficientNetV2-L with seeded weights and the statistics of pictures; kept in the temporary folder."""
    import timm
    import torch

    torch.manual_seed(SEED)
    network = timm.create_model("tf_efficientnetv2_l", pretrained=False)
    stored = _stored("pt")
    if stored.exists():
        network.load_state_dict(torch.load(stored))
        return network.eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.cat([_input(pixels) for pixels in (*photographs(), *_rendered())]))
    torch.save(network.state_dict(), stored)
    return network.eval()


def _rendered() -> list[Pixels]:
    """A few training pictures: with photographs alone some channels have no variance, and explode later."""
    photos = load_photographs()
    return [render("train", row, photos)[0] for row in range(RENDERED)]


def _stored(ending: str) -> Path:
    import torch

    return Path(tempfile.gettempdir()) / f"perturb-bench-efficientnetv2-l-2-{torch.__version__}.{ending}"


def _reference(kind: str) -> Work:
    import torch

    torch.set_num_threads(1)
    engine = open_engine("reference", cache_dir=Path(tempfile.gettempdir()), device="cpu", kind=kind)
    return functools.partial(engine.classify, photographs()[:1])


def large_engine(*, compiled: bool | None = None) -> CanonicalEngine:
    """EfficientNetV2-L behind the canonical engine, read from its artefact as a validator does."""
    from perturbnet.classifier.canonical.artefact import read_artefact
    from perturbnet.classifier.canonical.engine import CanonicalEngine

    return CanonicalEngine(*read_artefact(stored_model()), compiled=compiled)


def stored_model() -> Path:
    """Its artefact, compiled once; kept in the temporary folder."""
    from perturbnet.classifier.canonical.artefact import write_artefact
    from perturbnet.classifier.canonical.compiler import compile_network

    stored = _stored("model")
    if not stored.exists():
        labels = tuple(map(str, range(1000)))
        write_artefact(compile_network(build_large(), name="large", labels=labels, size=SIZE), stored)
    return stored


def large_canonical() -> Work:
    """One photograph through `large_engine`, one thread."""
    import torch

    torch.set_num_threads(1)
    return functools.partial(large_engine().logits, photographs()[0])


def _large_portable() -> Work:
    import torch

    torch.set_num_threads(1)
    return functools.partial(large_engine(compiled=False).logits, photographs()[0])


def large_onnx() -> tuple[Path, NDArray[np.float32]]:
    """EfficientNetV2-L as an ONNX file, and its input (1, 3, 480, 480)."""
    import torch

    stored = _stored("onnx")
    levels = _input(photographs()[0])
    if not stored.exists():
        torch.onnx.export(build_large(), (levels,), str(stored), dynamo=True, external_data=False)
    return stored, levels.numpy()


def _large_float32() -> Work:
    import torch

    torch.set_num_threads(1)
    network = build_large().to(memory_format=torch.channels_last)
    levels = _input(photographs()[0]).contiguous(memory_format=torch.channels_last)

    def run() -> torch.Tensor:
        with torch.inference_mode():
            return network(levels)  # type: ignore[no-any-return]

    return run


def _input(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> torch.Tensor:
    import torch

    from perturbnet.classifier.engine import prepare
    from perturbnet.classifier.preprocessing import PRODUCTION

    return prepare(torch.tensor(pixels[None]).float(), PRODUCTION)
