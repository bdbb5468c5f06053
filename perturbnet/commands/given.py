"""What a command was given: the settings' options, and the settings that come of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from perturbnet.config import Loaded, Settings

F = TypeVar("F", bound=Callable[..., Any])
PROFILES = ("imagenet100", "reference")


def settings_options(command: F) -> F:
    """`--config FILE` and `--set NAME=VALUE`, given to the command as `file` and `pairs`."""
    command = click.option(
        "--config", "file", type=click.Path(path_type=Path), help="TOML file of settings."
    )(command)
    return click.option(
        "--set",
        "pairs",
        multiple=True,
        metavar="NAME=VALUE",
        help="Set one setting; wins over environment and file.",
    )(command)


def split_pairs(pairs: Sequence[str]) -> dict[str, str]:
    """What `--set NAME=VALUE` says, by name. Raises `click.UsageError`."""
    overrides = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise click.UsageError(f"--set {pair}: expected NAME=VALUE")
        overrides[name] = text
    return overrides


def read_share(part: str, *, also: str = "") -> tuple[int, int]:
    """`--part I/K`, the I-th of K; `also` is what else the option takes. Raises `click.BadParameter`."""
    number, slash, of = part.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        message = f"{part!r}: expected {also}I/K with I from 1 to K"
        raise click.BadParameter(message, param_hint="--part")
    return int(number), int(of)


def load_given(pairs: Sequence[str] = (), file: Path | None = None, **named: str | None) -> Loaded:
    """The settings and where each came from; `named` are options of their own, by the setting's name.

    Raises:
        ConfigError: see `config.load_settings`.

    """
    from perturbnet.config import load_settings

    overrides = {name: text for name, text in named.items() if text is not None} | split_pairs(pairs)
    return load_settings(os.environ, overrides=overrides, file=file)


def read_settings(pairs: Sequence[str] = (), file: Path | None = None, **named: str | None) -> Settings:
    """`load_given`, without the origins."""
    return load_given(pairs, file, **named).settings


def audit_settings(profile: str | None, netuid: int | None) -> Settings:
    """The environment's settings, with what an audit's command line named instead. Raises `ConfigError`."""
    return read_settings(PERTURB_PROFILE=profile, NETUID=None if netuid is None else str(netuid))
