"""The rules that travel with every challenge, from a validator's settings."""

from __future__ import annotations

from perturbnet.config import Settings
from perturbnet.wire.messages import Rules

DECIMAL_RULES = (
    "min_linf_delta",
    "max_linf_delta",
    "min_ssim",
    "min_psnr_db",
    "linf_component_weight",
    "rmse_component_weight",
    "perturbation_weight",
    "speed_weight",
)


def build_rules(settings: Settings) -> Rules:
    """The rules that travel with every challenge; settings have six decimals at most, so `str` is plain."""
    texts = {name: str(getattr(settings, name)) for name in DECIMAL_RULES}
    timeout_ms = int(settings.timeout_seconds * 1000)
    return Rules(version=settings.rules_version, timeout_ms=timeout_ms, **texts)
