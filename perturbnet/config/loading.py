"""From command line, environment, file and defaults to `Settings`: in that order of precedence.

A value of the wrong type or range, and an unknown `PERTURB_*` name or file key, is an error that names the
setting, the value, where it came from and what is allowed. The value of a secret is never shown. Nothing here
reads the environment by itself: the caller passes it in.

Source: TOML 1.0; the XDG base directory specification (a relative path in an XDG variable is ignored).
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor
from pathlib import Path

from perturbnet.config.kinds import Flag, Integer, Location, Number
from perturbnet.config.settings import PREFIX, Setting, Settings, registry
from perturbnet.errors import ConfigError

FILE_VARIABLE = "PERTURB_CONFIG"
SMALLEST_EPSILON = Decimal("0.06")  # challenges.draw_epsilon begins there
_LARGEST_EXPONENT = 30  # of a TOML number; written out, 1e999999999 would fill the memory


@dataclass(frozen=True)
class Loaded:
    """The settings, and for each environment name where its value came from."""

    settings: Settings
    origins: Mapping[str, str]


@dataclass(frozen=True)
class _Layer:
    """One source of values: setting name to text."""

    source: str
    values: Mapping[str, str]


def load_settings(
    environment: Mapping[str, str], *, overrides: Mapping[str, str] | None = None, file: Path | None = None
) -> Loaded:
    """Parse all settings.

    Args:
        environment: usually `os.environ`.
        overrides: environment names to text, from the command line.
        file: a TOML file; default is the one that `PERTURB_CONFIG` names, if any.

    Raises:
        ConfigError: an unknown name, a value that is not allowed, or values that contradict each other.

    """
    named = environment.get(FILE_VARIABLE)
    path = file or (Path(_at_home(named, environment)) if named else None)
    layers = [
        _Layer("command line", _checked_names(overrides or {}, "command line")),
        _Layer("environment", _environment_layer(environment)),
        _Layer(f"file {path}", _file_layer(path) if path else {}),
    ]
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    for setting in registry():
        values[setting.attribute], origins[setting.name] = _resolve(setting, layers, environment)
    settings = Settings(**values)  # type: ignore[arg-type]  # each value was parsed by its field's own kind
    _check_together(settings)
    return Loaded(settings, origins)


def parse_value(setting: Setting, text: str, source: str) -> object:
    """Parse one value; an empty text means no value where that is possible."""
    if text == "" and setting.default is None:
        return None
    try:
        return setting.kind.parse(text.strip())
    except ValueError:
        shown = "(hidden)" if setting.secret else text
        raise ConfigError(setting.name, shown, setting.kind.allowed, source=source) from None


def require_live(loaded: Loaded) -> None:
    """On a live network wallet, hotkey, netuid and network must be said, not defaulted.

    A hotkey's file says as much as the two names.

    Raises:
        ConfigError: naming the first that is missing.

    """
    if loaded.settings.network == "local":
        return
    told = {"WALLET_NAME", "WALLET_HOTKEY"} if loaded.settings.hotkey_file is not None else set()
    for setting in registry():
        if setting.live and setting.name not in told and loaded.origins[setting.name] == "default":
            raise ConfigError(
                setting.name, None, f"{setting.kind.allowed}; a live network needs it to be set"
            )


def _resolve(setting: Setting, layers: list[_Layer], environment: Mapping[str, str]) -> tuple[object, str]:
    for layer in layers:
        if setting.name in layer.values:
            text = _located(setting, layer.values[setting.name], environment)
            return parse_value(setting, text, layer.source), layer.source
    if setting.default is None:
        return None, "default"
    text = _located(setting, _default_text(setting, environment), environment)
    return parse_value(setting, text, "default"), "default"


def _default_text(setting: Setting, environment: Mapping[str, str]) -> str:
    """The default; state and cache directories follow the XDG base directory specification."""
    base = {"PERTURB_STATE_DIR": "XDG_STATE_HOME", "PERTURB_CACHE_DIR": "XDG_CACHE_HOME"}.get(
        setting.name, ""
    )
    folder = environment.get(base, "")
    if folder.startswith("/"):
        return str(Path(folder) / "perturb")
    return setting.default or ""


def _located(setting: Setting, text: str, environment: Mapping[str, str]) -> str:
    return _at_home(text, environment) if isinstance(setting.kind, Location) else text


def _at_home(text: str, environment: Mapping[str, str]) -> str:
    """`~` is the HOME of the environment that was passed in."""
    home = environment.get("HOME", "")
    return home + text[1:] if home and (text == "~" or text.startswith("~/")) else text


def _environment_layer(environment: Mapping[str, str]) -> Mapping[str, str]:
    known = {setting.name for setting in registry()}
    ours = {
        name: text
        for name, text in environment.items()
        if name in known or (name.startswith(PREFIX) and name != FILE_VARIABLE)
    }
    return _checked_names(ours, "environment")


def _file_layer(path: Path) -> Mapping[str, str]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise ConfigError(FILE_VARIABLE, str(path), f"a readable TOML file ({error.strerror})") from None
    except (ValueError, ArithmeticError, RecursionError) as error:  # the parser lets int and Decimal raise
        raise ConfigError(FILE_VARIABLE, str(path), f"a valid TOML file ({error})") from None
    settings = {setting.key: setting for setting in registry()}
    for key in table:
        if key not in settings:
            raise _unknown(key, list(settings), f"file {path}")
    return {settings[key].name: _toml_text(settings[key], value, path) for key, value in table.items()}


def _toml_text(setting: Setting, value: object, path: Path) -> str:
    """A TOML value as the text an operator would write; one of another type than the setting's is refused."""
    is_number = isinstance(setting.kind, (Integer, Number))
    match value:
        case str():
            return value
        case bool() if isinstance(setting.kind, Flag):
            return "true" if value else "false"
        case int() if is_number and not isinstance(value, bool):
            return str(value)
        case Decimal() if is_number and value.is_finite() and abs(value.adjusted()) <= _LARGEST_EXPONENT:
            return format(value, "f")
        case _:
            shown = "(hidden)" if setting.secret else value
            raise ConfigError(setting.name, shown, setting.kind.allowed, source=f"file {path}")


def _checked_names(values: Mapping[str, str], source: str) -> Mapping[str, str]:
    known = [setting.name for setting in registry()]
    for name in values:
        if name not in known:
            raise _unknown(name, known, source)
    return values


def _unknown(name: str, known: list[str], source: str) -> ConfigError:
    """An unknown name; its value may be a secret under a misspelt name, so it is not shown."""
    folded = {_stem(candidate): candidate for candidate in known}
    close = difflib.get_close_matches(_stem(name), folded, n=1)
    meant = f"; did you mean {folded[close[0]]}?" if close else ": see `perturb config show`"
    return ConfigError(name, "this name", f"a known setting{meant}", source=source)


def _stem(name: str) -> str:
    return name.casefold().removeprefix(PREFIX.casefold())


def _check_together(settings: Settings) -> None:
    """Checks across settings."""
    _check_rules(settings)
    if settings.secret_seed is not None and settings.network != "local":
        allowed = "unset unless NETWORK=local: it makes tomorrow's images known"
        raise ConfigError("PERTURB_SECRET_SEED", "(hidden)", allowed)
    if settings.network == "local" and settings.local_chain is None:
        raise ConfigError("PERTURB_LOCAL_CHAIN", None, "a chain file, because NETWORK=local")


def _check_rules(settings: Settings) -> None:
    low, high = settings.min_linf_delta, settings.max_linf_delta
    if low >= high:
        raise ConfigError("PERTURB_MIN_LINF_DELTA", str(low), f"less than PERTURB_MAX_LINF_DELTA ({high})")
    cap = min(high, SMALLEST_EPSILON)
    if max(1, ceil(Fraction(low) * 255)) > floor(Fraction(cap) * 255):
        allowed = f"one that leaves a whole level of 1/255 up to {cap}, or no answer could succeed"
        raise ConfigError("PERTURB_MIN_LINF_DELTA", str(low), allowed)
    if settings.linf_component_weight + settings.rmse_component_weight == 0:
        allowed = "not 0 together with PERTURB_RMSE_COMPONENT_WEIGHT"
        raise ConfigError("PERTURB_LINF_COMPONENT_WEIGHT", str(settings.linf_component_weight), allowed)
    total = settings.perturbation_weight + settings.speed_weight
    if not 0 < total <= 1:
        allowed = f"more than 0 and at most 1 in sum with PERTURB_PERTURBATION_WEIGHT, not {total}"
        raise ConfigError("PERTURB_SPEED_WEIGHT", str(settings.speed_weight), allowed)
