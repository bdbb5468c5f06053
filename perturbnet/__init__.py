"""Perturb: a decentralised network for adversarial robustness whose every verdict can be recomputed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perturbnet.adversarial_dataset.loading import load_adversarial

__all__ = ["__version__", "load_adversarial"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """`perturbnet.load_adversarial`, imported when it is first asked for: the command line starts without."""
    if name == "load_adversarial":
        from perturbnet.adversarial_dataset.loading import load_adversarial

        return load_adversarial
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
