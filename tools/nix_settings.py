"""The registry of settings for the NixOS modules: nix/settings.json, read by nix/modules/settings.nix.

Rules
- Names, ranges and words are the registry's, so an option refuses what the program would refuse.
- Patterns become POSIX extended regular expressions, which is what Nix matches with. An escape that this
  does not know is an error here, never a pattern that matches something else there.

Source: Nix' manual on `builtins.match`; POSIX.1 on extended regular expressions.
"""

from __future__ import annotations

import json
from typing import Any

from perturbnet.config import Setting, registry
from perturbnet.config.kinds import Choice, Flag, Integer, IpAddress, Kind, Location, Number, Text

_ABOUT = "Written by tools/settings.py from perturbnet/config/settings.py; read by nix/modules/settings.nix."
_POSIX = {r"[^\x00-\x1f]": "[^[:cntrl:]]", r"\S": "[^[:space:]]"}


def nix_settings() -> str:
    """What nix/settings.json must hold."""
    document = {"about": _ABOUT, "settings": [_entry(setting) for setting in registry()]}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def to_posix(pattern: str) -> str:
    """Write a pattern of the registry as a POSIX extended regular expression.

    Raises:
        ValueError: it has an escape that POSIX has not, and `_POSIX` does not say how to write.

    """
    for python, posix in _POSIX.items():
        pattern = pattern.replace(python, posix)
    if "\\" in pattern:
        raise ValueError(f"{pattern}: no POSIX expression is known for its escape; add it to _POSIX")
    return pattern


def _entry(setting: Setting) -> dict[str, Any]:
    return {
        "key": setting.key.lower(),
        "name": setting.name,
        "role": setting.role,
        "secret": setting.secret,
        "default": setting.default,
        "unit": setting.unit,
        "help": setting.help,
        "allowed": setting.kind.allowed,
        "kind": _kind(setting.kind),
    }


def _kind(kind: Kind) -> dict[str, Any]:
    match kind:
        case Integer() | Number():
            name = "integer" if isinstance(kind, Integer) else "number"
            return {"is": name, "minimum": kind.minimum, "maximum": kind.maximum}
        case Choice():
            return {"is": "choice", "words": list(kind.words)}
        case Text():
            return {"is": "text", "pattern": to_posix(kind.pattern)}
        case Flag() | Location() | IpAddress():
            return {"is": type(kind).__name__.lower()}
    raise TypeError(f"{kind!r}: nix/modules/settings.nix knows no such kind; teach it")
