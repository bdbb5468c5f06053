"""From command line, environment, file and defaults to `Settings`: in that order of precedence.

A value of the wrong type or range, and an unknown `PERTURB_*` name or file key, is an error that names the
setting, the value, where it came from and what is allowed. Nothing here reads the environment by itself: the
caller passes it in.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from perturbnet.config.settings import PREFIX, Setting, Settings, registry
from perturbnet.errors import ConfigError

FILE_VARIABLE = "PERTURB_CONFIG"


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
    path = file or (Path(named).expanduser() if named else None)
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

    Raises:
        ConfigError: naming the first that is missing.

    """
    if loaded.settings.network == "local":
        return
    for setting in registry():
        if setting.live and loaded.origins[setting.name] == "default":
            raise ConfigError(setting.name, None, f"{setting.kind.allowed}; a live network needs it to be set")


def _resolve(setting: Setting, layers: list[_Layer], environment: Mapping[str, str]) -> tuple[object, str]:
    for layer in layers:
        if setting.name in layer.values:
            return parse_value(setting, layer.values[setting.name], layer.source), layer.source
    if setting.default is None:
        return None, "default"
    return parse_value(setting, _default_text(setting, environment), "default"), "default"


def _default_text(setting: Setting, environment: Mapping[str, str]) -> str:
    """The default; state and cache directories follow the XDG base directory specification."""
    base = {"PERTURB_STATE_DIR": "XDG_STATE_HOME", "PERTURB_CACHE_DIR": "XDG_CACHE_HOME"}.get(setting.name)
    if base and environment.get(base):
        return str(Path(environment[base]) / "perturb")
    return setting.default or ""


def _environment_layer(environment: Mapping[str, str]) -> Mapping[str, str]:
    ours = {name: text for name, text in environment.items() if name.startswith(PREFIX) and name != FILE_VARIABLE}
    known = {setting.name for setting in registry()}
    others = {name: environment[name] for name in known & set(environment)}
    return _checked_names({**ours, **others}, "environment")


def _file_layer(path: Path) -> Mapping[str, str]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(FILE_VARIABLE, str(path), f"a readable TOML file ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(FILE_VARIABLE, str(path), f"a valid TOML file ({error})") from None
    keys = {setting.key: setting.name for setting in registry()}
    named = {keys.get(key, key): value for key, value in table.items()}
    unknown = sorted(set(table) - set(keys))
    if unknown:
        raise _unknown(unknown[0], list(keys), f"file {path}")
    return {name: _toml_text(name, value, path) for name, value in named.items()}


def _toml_text(name: str, value: object, path: Path) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int)):
        return str(value)
    if isinstance(value, float):
        return format(value, "f").rstrip("0").rstrip(".") if "e" in repr(value) else repr(value)
    raise ConfigError(name, value, "a text, a number, true or false", source=f"file {path}")


def _checked_names(values: Mapping[str, str], source: str) -> Mapping[str, str]:
    known = [setting.name for setting in registry()]
    for name in values:
        if name not in known:
            raise _unknown(name, known, source)
    return values


def _unknown(name: str, known: list[str], source: str) -> ConfigError:
    close = difflib.get_close_matches(name, known, n=1)
    meant = f"a known setting; did you mean {close[0]}?" if close else "a known setting: see `perturb config show`"
    return ConfigError(name, "this name", meant, source=source)


def _check_together(settings: Settings) -> None:
    """Checks across settings."""
    if settings.min_linf_delta >= settings.max_linf_delta:
        allowed = f"less than PERTURB_MAX_LINF_DELTA ({settings.max_linf_delta})"
        raise ConfigError("PERTURB_MIN_LINF_DELTA", str(settings.min_linf_delta), allowed)
    if settings.linf_component_weight + settings.rmse_component_weight == 0:
        raise ConfigError("PERTURB_LINF_COMPONENT_WEIGHT", "0", "not 0 together with PERTURB_RMSE_COMPONENT_WEIGHT")
    if settings.perturbation_weight + settings.speed_weight > 1:
        total = settings.perturbation_weight + settings.speed_weight
        raise ConfigError("PERTURB_SPEED_WEIGHT", str(settings.speed_weight), f"1 with PERTURB_PERTURBATION_WEIGHT, not {total}")
    if settings.secret_seed is not None and settings.network != "local":
        raise ConfigError("PERTURB_SECRET_SEED", "(hidden)", "unset unless NETWORK=local: it makes tomorrow's images known")
    if settings.network == "local" and settings.local_chain is None:
        raise ConfigError("PERTURB_LOCAL_CHAIN", None, "a chain file, because NETWORK=local")
