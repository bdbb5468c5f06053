"""The classifier: pixels in, label out. `open_engine` is the door; torch is imported only behind it.

Verdicts are made by an engine that is `reproducible`; searching, with gradients, by `open_oracle`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from perturbnet.classifier.engine import Float32Engine, Float64Engine
from perturbnet.errors import ConfigError
from perturbnet.rules.classification import CANONICAL, Engine

if TYPE_CHECKING:
    from perturbnet.classifier.oracle import FloatOracle

__all__ = [
    "ENGINES",
    "Float32Engine",
    "Float64Engine",
    "open_engine",
    "open_oracle",
]

ENGINES = (*CANONICAL, "float32", "float64-plain")


@overload
def open_engine(
    profile: str, *, cache_dir: Path, device: str = ..., kind: Literal["float32", "float64-plain"]
) -> Float32Engine: ...
@overload
def open_engine(profile: str, *, cache_dir: Path, device: str = ..., kind: str = ...) -> Engine: ...
def open_engine(
    profile: str, *, cache_dir: Path, device: str = "auto", kind: str = "float64"
) -> Engine | Float32Engine:
    """Open an engine of a profile (`reference`, `imagenet100`), verified.

    `float64` and `integer` are canonical: one digest of logits on every machine. `float32` and
    `float64-plain` run the float weights, and their last bits depend on the machine.

    Raises:
        ConfigError: no such profile or engine.
        ArtifactMissing: weights or artefact are not on this machine; the hint says how to get them.
        DigestMismatch: they are not the pinned ones.
        ModelError: they do not fit the network, there is no such device, or the self-test failed.

    """
    if kind not in ENGINES:
        raise ConfigError("PERTURB_ENGINE", kind, f"one of {', '.join(ENGINES)}")
    if kind in CANONICAL:
        from perturbnet.classifier.canonical.profiles import open_canonical

        return open_canonical(profile, cache_dir=cache_dir, device=device, integer=kind == "integer")
    from perturbnet.classifier.models import find_model, open_float32, open_float64

    opener = open_float32 if kind == "float32" else open_float64
    return opener(find_model(profile, cache_dir), device)


def open_oracle(profile: str, *, cache_dir: Path, device: str = "auto", kind: str = "float64") -> FloatOracle:
    """Open what attacks ask for logits and gradients, in float32: what they search with.

    With a canonical `kind` it is the network of the artefact, by which it will be judged, and float weights
    are not needed; else that of the float weights.

    Raises:
        ConfigError, ArtifactMissing, DigestMismatch, ModelError: see `open_engine`.

    """
    from perturbnet.classifier.oracle import FloatOracle

    if kind not in ENGINES:
        raise ConfigError("PERTURB_ENGINE", kind, f"one of {', '.join(ENGINES)}")
    if kind in CANONICAL:
        from perturbnet.classifier.canonical.profiles import open_gradient

        return FloatOracle(open_gradient(profile, cache_dir=cache_dir, device=device))
    return FloatOracle(open_engine(profile, cache_dir=cache_dir, device=device, kind="float32"))
