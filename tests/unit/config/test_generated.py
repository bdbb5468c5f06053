"""docs/settings.md and the examples in config/ are what the registry says now, and the examples work."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from perturbnet.config import load_settings, registry, require_live
from tools import settings as tool

ROOT = Path(__file__).resolve().parents[3]
FILES = ["config/miner.env.example", "config/validator.env.example", "docs/settings.md", "nix/settings.json"]
ROLES = ["miner", "validator"]


def example(role: str) -> str:
    return (ROOT / "config" / f"{role}.env.example").read_text()


def assignments(text: str) -> dict[str, str]:
    return dict(re.findall(r"^#?([A-Z_]+)=(.*)$", text, re.MULTILINE))


@pytest.mark.parametrize("name", FILES)
def test_current(name: str) -> None:
    assert sorted(tool.generated()) == FILES
    assert (ROOT / name).read_text() == tool.generated()[name], "run tools/settings.py"


def test_the_modules_know_every_kind() -> None:
    """Nix looks a kind up only when somebody sets such a setting, so a missing one would not show before."""
    settings = json.loads((ROOT / "nix" / "settings.json").read_text())["settings"]
    text = (ROOT / "nix" / "modules" / "settings.nix").read_text()
    _, _, checks = text.partition("  isAllowed =\n")
    checks, _, _ = checks.partition("    .${kind.is};")
    known = set(re.findall(r"^ {6}([a-z]+) = ", checks, re.MULTILINE))
    assert {setting["kind"]["is"] for setting in settings} == known


def test_every_setting_stands_in_the_table() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE)
    assert rows == [setting.name for setting in registry()]


@pytest.mark.parametrize("role", ROLES)
def test_example_names_every_setting_of_its_role_and_no_other(role: str) -> None:
    wanted = {setting.name for setting in registry() if setting.role in {role, "both"}}
    assert set(assignments(example(role))) == wanted


@pytest.mark.parametrize("role", ROLES)
def test_filled_example_is_the_defaults(role: str) -> None:
    filled = assignments(example(role)) | {"WALLET_NAME": "cold", "WALLET_HOTKEY": "hot", "NETUID": "44"}
    loaded = load_settings({**filled, "HOME": "/home/somebody"})
    require_live(loaded)
    plain = load_settings({"HOME": "/home/somebody"}).settings
    for setting in registry():
        if not setting.live:
            assert getattr(loaded.settings, setting.attribute) == getattr(plain, setting.attribute)


@pytest.mark.parametrize("role", ROLES)
def test_shell_reads_the_example_as_it_stands(role: str, tmp_path: Path) -> None:
    """Uncommented in full, sourced by a shell, every default arrives as it was meant."""
    text = re.sub(r"^#([A-Z_]+=)", r"\1", example(role), flags=re.MULTILINE)
    (tmp_path / "env").write_text(text)
    done = subprocess.run(
        ["env", "-i", "HOME=/home/somebody", "sh", "-c", "set -a; . ./env; set +a; exec env"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    arrived = dict(line.split("=", 1) for line in done.stdout.splitlines())
    for name, value in assignments(text).items():
        assert arrived[name] == value.replace("~/", "/home/somebody/")


def test_nothing_is_written_when_all_is_current() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "settings.py"], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
