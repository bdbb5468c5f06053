"""The units that the NixOS modules make: understood by systemd, exposing little, and service.json's."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from perturbnet.commands.systemd_units import merge_layers, read_source

pytestmark = pytest.mark.needs("nix-instantiate", "printenv NIXPKGS_LIB", "systemd-analyze")

LIMITS = {
    ("validator", "perturb-validator-main"): 2.0,
    ("validator-cuda", "perturb-validator-main"): 2.0,
    ("validator-cuda", "perturb-validator-bootstrap"): 2.0,
    ("miner", "perturb-miner-main"): 1.5,
    ("miner", "perturb-miner-bootstrap"): 1.5,
    ("miner-cuda", "perturb-miner-main"): 2.0,
}
# What the module says better than the file: where things lie on NixOS, and which program.
OWN = {"Environment", "EnvironmentFile", "LoadCredential", "ExecStart", "ExecStartPre"}

Service = dict[str, Any]


@pytest.fixture(scope="module")
def units(evaluate: Callable[[str], Any]) -> dict[str, Any]:
    found: dict[str, Any] = evaluate("units")
    return found


def lines(section: dict[str, Any]) -> Iterator[str]:
    for name, value in section.items():
        for one in value if isinstance(value, list) else [value]:
            yield f"{name}={str(one).lower() if isinstance(one, bool) else one}"


def text(service: Service) -> str:
    """As nixpkgs writes a unit, as far as these go."""
    unit = {
        "Description": service["description"],
        "Wants": service["wants"],
        "After": service["after"],
        **service["unitConfig"],
    }
    environment = {"Environment": [f'"{name}={value}"' for name, value in service["environment"].items()]}
    parts = ["[Unit]", *lines(unit), "[Service]", *lines(environment), *lines(service["serviceConfig"])]
    return "\n".join(parts) + "\n"


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_systemd_understands_every_line(units: dict[str, Any], tmp_path: Path) -> None:
    for case, found in units.items():
        files = []
        for name, service in found["services"].items():
            files.append(tmp_path / case / f"{name}.service")
            files[-1].parent.mkdir(exist_ok=True)
            files[-1].write_text(text(service))
        if files:
            done = analyze("verify", "--man=no", "--recursive-errors=no", *map(str, files))
            ours = [line for line in done.stderr.splitlines() if "perturb" in line]
            assert (done.returncode, ours) == (0, []), (case, done.stderr)


def test_verification_notices_a_line_that_systemd_does_not_know(
    units: dict[str, Any], tmp_path: Path
) -> None:
    service = units["miner"]["services"]["perturb-miner-main"]
    file = tmp_path / "perturb-miner-main.service"
    file.write_text(text(service).replace("ProtectSystem=", "ProtectSystems="))
    assert "ProtectSystems" in analyze("verify", "--man=no", "--recursive-errors=no", str(file)).stderr


@pytest.mark.parametrize(("case", "name"), LIMITS)
def test_little_is_exposed(units: dict[str, Any], tmp_path: Path, case: str, name: str) -> None:
    file = tmp_path / f"{name}.service"
    file.write_text(text(units[case]["services"][name]))
    done = analyze("security", "--offline=true", "--no-pager", str(file))
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert level, done.stdout + done.stderr
    assert float(level[1]) < LIMITS[case, name], done.stdout


def test_code_may_be_compiled_at_run_time(units: dict[str, Any]) -> None:
    """Numba does, wherever the exact engine runs: in every unit of ours."""
    for found in units.values():
        for service in found["services"].values():
            assert not service["serviceConfig"].get("MemoryDenyWriteExecute", False)


@pytest.mark.parametrize("role", ["validator", "miner", "validator-bootstrap", "miner-bootstrap"])
@pytest.mark.parametrize("cuda", [False, True])
def test_nix_and_the_command_read_one_source_alike(units: dict[str, Any], role: str, *, cuda: bool) -> None:
    source = read_source()
    described = source["roles"][role]
    neuron = role.removesuffix("-bootstrap")
    name = f"perturb-{role}" if role != neuron else f"perturb-{role}-main"
    service = units[f"{neuron}-cuda" if cuda else neuron]["services"][name]
    merged = merge_layers(source, [*described["layers"], *(described["cuda"] if cuda else [])])

    def filled(value: Any) -> Any:
        if isinstance(value, list):
            return [filled(one) for one in value]
        if not isinstance(value, str):
            return value
        return value.replace("@unit@", name).replace("@account@", described["account"])

    wanted = {key: filled(value) for key, value in merged["Service"].items() if key not in OWN}
    assert {key: value for key, value in service["serviceConfig"].items() if key not in OWN} == wanted
    environment = dict(filled(line).split("=", 1) for line in merged["Service"]["Environment"])
    assert environment.items() <= service["environment"].items()
    assert service["after"] == filled(merged["Unit"]["After"])
    assert service["serviceConfig"]["ExecStart"].split()[1:] == described["arguments"]
