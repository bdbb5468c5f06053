"""The classifier: pixels in, label out. `open_engine` is the door; torch is imported only behind it."""

from __future__ import annotations

from pathlib import Path

from perturbnet.classifier.engine import Classification, Engine, Float32Engine

__all__ = ["Classification", "Engine", "Float32Engine", "open_engine"]


def open_engine(profile: str, *, cache_dir: Path, device: str = "auto") -> Float32Engine:
    """Open the engine of a profile (`reference`, `imagenet100`) with verified weights.

    Raises:
        ConfigError: no such profile.
        ArtifactMissing: the weights are not on this machine; the hint says how to get them.
        DigestMismatch: they are not the pinned ones.
        ModelError: they do not fit the network, or there is no such device.

    """
    from perturbnet.classifier.models import find_model, open_float32

    return open_float32(find_model(profile, cache_dir), device)
