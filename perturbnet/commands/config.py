"""`perturb config`: every setting, its value and where it came from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from perturbnet.commands.given import load_given, settings_options
from perturbnet.commands.printing import JSON_HELP, TO_STDOUT, print_table, write_json

if TYPE_CHECKING:
    from perturbnet.config import Loaded, Setting


@click.group()
def config() -> None:
    """Settings: from command line, environment, TOML file and defaults, in that order."""


@config.command("show")
@settings_options
@click.option("--json", "json_file", metavar="FILE", help=JSON_HELP)
def config_show(pairs: tuple[str, ...], file: Path | None, json_file: str | None) -> None:
    """Print each setting: value, unit, where it came from, what is allowed."""
    from perturbnet.config import registry

    loaded = load_given(pairs, file)
    rows = [_setting_row(setting, loaded) for setting in registry()]
    if json_file != TO_STDOUT:
        print_table(rows, ("name", "value", "unit", "from", "allowed", "meaning"))
    write_json(rows, json_file)


def _setting_row(setting: Setting, loaded: Loaded) -> dict[str, str | None]:
    value = getattr(loaded.settings, setting.attribute)
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    return {
        "name": setting.name,
        "value": None if value is None else "(set, hidden)" if setting.secret else shown,
        "unit": setting.unit,
        "from": loaded.origins[setting.name],
        "allowed": setting.kind.allowed,
        "meaning": setting.help,
    }
