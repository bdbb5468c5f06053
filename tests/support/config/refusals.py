"""What the tests of the settings begin with: a file of them, and a refusal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from perturbnet.config import load_settings
from perturbnet.errors import ConfigError

HOME = {"HOME": "/srv/somebody"}


def write(folder: Path, text: str) -> Path:
    path = folder / "perturb.toml"
    path.write_text(text)
    return path


def refused(
    environment: Mapping[str, str] | None = None,
    *,
    file: Path | None = None,
    overrides: Mapping[str, str] | None = None,
) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_settings(environment or {}, file=file, overrides=overrides)
    return caught.value
