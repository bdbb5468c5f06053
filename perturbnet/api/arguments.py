"""What a caller gives, checked: images, epsilon, seconds; and the settings of this machine."""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perturbnet.config import Settings, load_settings, registry
from perturbnet.datasets.user_images import decode_any_image
from perturbnet.errors import ArgumentError
from perturbnet.rounds.challenges import SMALLEST_SIDE
from perturbnet.rules.from_settings import DECIMAL_RULES
from perturbnet.wire.images import SIZE_RULE, Pixels, size_is_allowed
from perturbnet.wire.keys import is_address
from perturbnet.wire.messages import Rules

Picture = NDArray[np.uint8] | str | Path  # pixels, uint8 (H, W, 3), RGB; or a picture's file
_STEP = Decimal("1e-12")  # what decimal text on the wire resolves
MAX_NETUID = 65535


def machine_settings(**overrides: str | None) -> Settings:
    """The environment's settings, with what was named instead; but the network's own rules.

    Raises:
        ConfigError: a setting that is not allowed.

    """
    rules = {
        setting.name: setting.default
        for setting in registry()
        if setting.attribute in {*DECIMAL_RULES, "rules_version"} and setting.default is not None
    }
    named = {name: text for name, text in overrides.items() if text is not None}
    return load_settings(os.environ, overrides=rules | named).settings


def read_picture(name: str, value: Picture, *, smallest: int = SMALLEST_SIDE) -> Pixels:
    """Pixels, C-contiguous uint8 (H, W, 3), of an array or a file of the caller's own.

    Raises:
        ArgumentError: another type, shape or size.
        PictureError: a file that is no picture.

    """
    if isinstance(value, str | Path):
        value = decode_any_image(Path(value))
    if not isinstance(value, np.ndarray):
        raise ArgumentError(name, value, "a uint8 array (H, W, 3), or the path of a picture")
    if value.dtype != np.uint8 or value.ndim != 3 or value.shape[2] != 3:
        raise ArgumentError(name, f"{value.dtype} {value.shape}", "a uint8 array (H, W, 3), levels 0 to 255")
    height, width, _ = value.shape
    if min(height, width) < smallest or not size_is_allowed(height, width):
        raise ArgumentError(name, f"{height} x {width}", f"sides of at least {smallest}; {SIZE_RULE}")
    return np.ascontiguousarray(value)


def read_epsilon(value: str | float | Decimal | None, rules: Rules) -> str:
    """Epsilon as the wire's decimal text: above `min_linf_delta`, at most 1; None is the rules' largest.

    A number is rounded up to twelve decimals, so that 8 / 255 allows a change of 8 levels.

    Raises:
        ArgumentError: another value.

    """
    if value is None:
        return rules.max_linf_delta
    allowed = f"a number above {rules.min_linf_delta} and at most 1, in units of full scale (1 = 255 levels)"
    try:
        exact = Decimal(repr(float(value)) if isinstance(value, float) else value)
    except (InvalidOperation, TypeError, ValueError):
        raise ArgumentError("epsilon", value, allowed) from None
    if not (exact.is_finite() and Decimal(rules.min_linf_delta) < exact <= 1):
        raise ArgumentError("epsilon", value, allowed)
    text = f"{exact.quantize(_STEP, ROUND_CEILING):f}"
    return text.rstrip("0").rstrip(".")


def read_seconds(value: object) -> float:
    """Seconds to search, finite and above 0.

    Raises:
        ArgumentError: another value.

    """
    if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
        raise ArgumentError("seconds", value, "a finite number above 0")
    return float(value)


def read_count(name: str, value: object, *, least: int = 1) -> int | None:
    """A whole number, or None.

    Raises:
        ArgumentError: another value.

    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ArgumentError(name, value, f"a whole number of at least {least}, or None")
    return value


def require_one_of(name: str, value: str, allowed: Collection[str]) -> str:
    """The value, if it is one of these.

    Raises:
        ArgumentError: it is not.

    """
    if value not in allowed:
        raise ArgumentError(name, value, "one of " + ", ".join(allowed))
    return value


def read_subnet(hotkey: object, netuid: object) -> tuple[str, int]:
    """A validator's address, and the number of its subnet.

    Raises:
        ArgumentError: they are none.

    """
    if not (isinstance(hotkey, str) and is_address(hotkey)):
        raise ArgumentError("hotkey", hotkey, "an ss58 address")
    if isinstance(netuid, bool) or not isinstance(netuid, int) or not 0 <= netuid <= MAX_NETUID:
        raise ArgumentError("netuid", netuid, f"a whole number from 0 to {MAX_NETUID}")
    return hotkey, netuid
