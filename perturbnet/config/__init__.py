"""Settings: one registry, three sources, no global state. `settings` lists them, `loading` has precedence."""

from perturbnet.config.loading import FILE_VARIABLE, Loaded, load_settings, parse_value, require_live
from perturbnet.config.settings import PREFIX, Setting, Settings, registry

__all__ = [
    "FILE_VARIABLE",
    "PREFIX",
    "Loaded",
    "Setting",
    "Settings",
    "load_settings",
    "parse_value",
    "registry",
    "require_live",
]
