"""Perturb: a decentralised network for adversarial robustness whose every verdict can be recomputed."""

__version__ = "0.1.0"
