"""Write what follows from the registry of settings: documentation, examples in config/, nix/settings.json.

Rules
- Nothing in them is written by hand, so they cannot drift; tests/unit/config/test_generated.py holds that.
- In an example every setting stands commented out with its default, except those that a live network needs.

    python tools/settings.py
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from perturbnet.config import FILE_VARIABLE, Setting, registry  # noqa: E402 - a script finds its own tree first
from tools.nix_settings import nix_settings  # noqa: E402

_DOCUMENT = f"""# Settings

Command line (`--set NAME=VALUE`) over environment over file over default. The file is TOML, named by
`{FILE_VARIABLE}` or `--config`; its keys are the names in lower case without `PERTURB_`. An unknown name or
a value that is not allowed is an error that names the setting, the value and what is allowed.
`perturb config show` prints what holds, and where each value came from.

Written by `tools/settings.py` from the registry in `perturbnet/config/settings.py`.

| name | default | unit | meaning | allowed | read by |
|---|---|---|---|---|---|
"""
_EXAMPLE = """\
# The environment of `perturb {role} run`. Copy it, fill in the first lines, and keep it to yourself:
#     set -a; . ./{role}.env; set +a
# systemd reads it as EnvironmentFile. Every setting of a {role} is here; commented out are the defaults.
# Written by tools/settings.py.
"""
_FILL_IN = {"NETUID": "", "WALLET_NAME": "", "WALLET_HOTKEY": "", "NETWORK": "finney"}


def generated() -> dict[str, str]:
    """What each file must hold, by its path in the repository."""
    table = "".join(_table_row(setting) for setting in registry())
    examples = {f"config/{role}.env.example": _example(role) for role in ("validator", "miner")}
    return {"docs/settings.md": _DOCUMENT + table, "nix/settings.json": nix_settings(), **examples}


def _table_row(setting: Setting) -> str:
    default = "–" if setting.default is None else f"`{setting.default}`"
    cells = (
        f"`{setting.name}`",
        default,
        setting.unit or "–",
        setting.help,
        setting.kind.allowed,
        setting.role,
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _example(role: str) -> str:
    wanted = [setting for setting in registry() if setting.role in {role, "both"}]
    ordered = sorted(wanted, key=lambda setting: not setting.live)  # stable: the registry's order otherwise
    return _EXAMPLE.format(role=role) + "".join(_example_entry(setting) for setting in ordered)


def _example_entry(setting: Setting) -> str:
    unit = f", in {setting.unit}" if setting.unit else ""
    comment = f"\n# {setting.help}{unit}: {setting.kind.allowed}\n"
    if setting.live:
        return f"{comment}{setting.name}={_FILL_IN[setting.name]}\n"
    return f"{comment}#{setting.name}={setting.default or ''}\n"


def main() -> int:
    """Write the files and name those that changed."""
    for name, text in generated().items():
        path = ROOT / name
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            print(f"changed: {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
