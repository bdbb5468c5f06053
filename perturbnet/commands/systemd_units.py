"""systemd units for operators without Nix, rendered from the source the NixOS modules use too.

Rules
- `packaging/service.json` says everything: a unit is its role's layers, one over the other, and placeholders.
  Nothing about hardening or restarts stands in code. `packaging/systemd/` holds the output, tested equal.
- What an operator gives (program, folder, instance) is plain words: nothing in it means anything to systemd
  or to a shell, so nothing is quoted and nothing leaves its line or its folder. Anything else is refused.

Source: systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.syntax(7).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perturbnet.errors import ConfigError
from perturbnet.runtime.shipped import require_shipped

SOURCE = Path("packaging") / "service.json"
CONFIG_FOLDER = "/etc/perturb"
SECTIONS = ("Unit", "Service", "Install")
FIRST = ("Description", "Type", "ExecStart")  # what a reader looks for
HIDDEN_FOLDERS = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - what a unit cannot see
_INSTANCE = re.compile(r"(?!bootstrap\Z)[a-z0-9][a-z0-9-]{0,31}\Z")  # as in nix/modules
_PATH = re.compile(r"/[A-Za-z0-9._/+-]{1,200}\Z")
_ALLOWED_INSTANCE = "1 to 32 small letters, digits and '-', but not 'bootstrap'"
_ALLOWED_PATH = "an absolute path of letters, digits and . _ + - / without .."


@dataclass(frozen=True)
class Unit:
    """A unit file: its name with `.service`, its text, and the files its operator provides."""

    name: str
    text: str
    environment_files: tuple[str, ...]
    credentials: tuple[str, ...]


def find_source() -> Path:
    """The source of units that belongs to this package: in the checkout, or under `share/perturb`.

    Raises:
        ArtifactMissing: there is none; the hint says where it was looked for.

    """
    return require_shipped(SOURCE, "source of units")


def read_source(file: Path | None = None) -> dict[str, Any]:
    """The roles and layers, as they stand in the file."""
    source: dict[str, Any] = json.loads((file or find_source()).read_text(encoding="utf-8"))
    return source


def render_unit(
    source: Mapping[str, Any],
    role: str,
    *,
    program: str,
    config: str = CONFIG_FOLDER,
    instance: str = "",
    cuda: bool = False,
) -> Unit:
    """Render one role's unit.

    Args:
        source: see `read_source`.
        role: a key of its roles: validator, miner, validator-bootstrap, miner-bootstrap.
        program: absolute path of the `perturb` command.
        config: absolute folder of the operator's files.
        instance: tells several of one role on one host apart; part of every name but the cache's.
        cuda: let it reach NVIDIA's devices.

    Raises:
        ConfigError: a path or an instance is not allowed.

    """
    for option, path in (("--program", program), ("--config", config)):
        _require(_PATH, option, path, _ALLOWED_PATH)
    if instance:
        _require(_INSTANCE, "--instance", instance, _ALLOWED_INSTANCE)
    entry = source["roles"][role]
    names = {
        "account": entry["account"],
        "unit": f"{entry['unit']}-{instance}" if instance else entry["unit"],
        "config": config.rstrip("/"),
    }
    sections = merge_layers(source, [*entry["layers"], *(entry["cuda"] if cuda else [])])
    sections["Service"]["ExecStart"] = " ".join([program, *entry["arguments"]])
    if instance:
        sections["Unit"]["Description"] += f" {instance}"
    lines = [line for section in SECTIONS for line in _section_lines(section, sections[section])]
    text = _fill("\n".join(lines).strip("\n") + "\n", names)
    service = sections["Service"]
    return Unit(
        name=f"{names['unit']}.service",
        text=text,
        environment_files=tuple(_fill(item, names) for item in service.get("EnvironmentFile", ())),
        credentials=tuple(_fill(item.partition(":")[2], names) for item in service.get("LoadCredential", ())),
    )


def merge_layers(source: Mapping[str, Any], layers: list[str]) -> dict[str, dict[str, Any]]:
    """Lay layers over each other, section by section: later values replace earlier ones, null removes."""
    sections: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for layer in layers:
        for section, values in source["layers"][layer].items():
            sections[section] |= values
    return {
        section: {key: value for key, value in values.items() if value is not None}
        for section, values in sections.items()
    }


def _section_lines(section: str, values: Mapping[str, Any]) -> Iterator[str]:
    if not values:
        return
    yield f"[{section}]"
    for key in sorted(values, key=lambda key: FIRST.index(key) if key in FIRST else len(FIRST)):
        value = values[key]
        for item in value if isinstance(value, list) else [value]:
            yield f"{key}={_value_text(item)}"
    yield ""


def _value_text(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _fill(text: str, names: Mapping[str, str]) -> str:
    for name, value in names.items():
        text = text.replace(f"@{name}@", value)
    return text


def _require(allowed: re.Pattern[str], name: str, value: str, meaning: str) -> None:
    if not allowed.match(value) or ".." in value.split("/"):
        raise ConfigError(name, value, meaning, source="command line")
