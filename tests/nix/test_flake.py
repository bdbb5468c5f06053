"""The flake as a whole: its lock, and every output evaluated with the real inputs but nixpkgs.

nixpkgs is too large to have at hand. Its library is real here; its packages are the names in
nix/tests/nixpkgs. On a connected machine `nix flake check` evaluates, builds and runs all of it with nixpkgs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker

from tests.nix.conftest import NIX_2_14, ROOT, Run

LOCK: dict[str, Any] = json.loads((ROOT / "flake.lock").read_text())
SMALL = ("build-systems", "pyproject-nix", "uv2nix")
INPUTS = {"nixpkgs", *SMALL}
OUTPUTS = {
    "apps": {"audit", "bootstrap", "default", "localnet", "miner", "validator"},
    "checks": {"lint", "modules", "tests", "units", "vm"},
    "devShells": {"default"},
    "packages": {"default", "perturb"},
}


class TestLock:
    def test_it_pins_the_four_inputs_and_no_other(self) -> None:
        nodes = LOCK["nodes"]
        assert LOCK["version"] == 7
        assert set(nodes) == INPUTS | {LOCK["root"]}
        assert nodes[LOCK["root"]]["inputs"] == {name: name for name in INPUTS}

    def test_every_input_is_pinned_by_revision_and_content(self) -> None:
        for name in INPUTS:
            locked = LOCK["nodes"][name]["locked"]
            assert len(bytes.fromhex(locked["rev"])) == 20
            assert locked["narHash"].startswith("sha256-")
            assert locked["lastModified"] > 1_700_000_000
            assert locked["type"] == LOCK["nodes"][name]["original"]["type"] == "github"

    def test_what_inputs_share_is_the_same(self) -> None:
        for name in SMALL:
            followed = LOCK["nodes"][name]["inputs"]
            assert followed == {other: [other] for other in followed}
            assert "nixpkgs" in followed


@pytest.mark.needs("nix", "printenv FLAKE_INPUTS")
@pytest.mark.parametrize("name", SMALL)
def test_the_small_inputs_have_the_content_that_the_lock_says(name: str, nix: Run) -> None:
    done = nix("nix", "hash", "path", str(Path(os.environ["FLAKE_INPUTS"]) / name))
    assert done.stdout.strip() == LOCK["nodes"][name]["locked"]["narHash"], done.stderr


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed files, as `nix` would copy them from a repository."""
    folder = tmp_path_factory.mktemp("tree")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def overrides(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Each input from this machine: no address is asked."""
    nixpkgs = tmp_path_factory.mktemp("stand-in") / "nixpkgs"
    shutil.copytree(ROOT / "nix" / "tests" / "nixpkgs", nixpkgs)
    shutil.copytree(os.environ["NIXPKGS_LIB"], nixpkgs / "lib")
    shutil.copy(ROOT / "nix" / "tests" / "stand-ins.nix", nixpkgs)
    mirrors = nixpkgs / "pkgs" / "build-support" / "fetchurl" / "mirrors.nix"
    mirrors.parent.mkdir(parents=True)
    mirrors.write_text('{ pypi = [ "https://files.example/packages/source/" ]; }\n')
    folders = {"nixpkgs": nixpkgs} | {name: Path(os.environ["FLAKE_INPUTS"]) / name for name in SMALL}
    words = [["--override-input", name, f"path:{folder}"] for name, folder in folders.items()]
    return ["--no-write-lock-file", *(word for pair in words for word in pair)]


@pytest.mark.needs("nix", NIX_2_14, "printenv NIXPKGS_LIB", "printenv FLAKE_INPUTS")
class TestOutputs:
    def value(self, nix: Run, tree: Path, overrides: list[str], what: str, apply: str) -> Any:
        done = nix("nix", "eval", "--json", *overrides, f"path:{tree}#{what}", "--apply", apply)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def test_each_evaluates(self, nix: Run, tree: Path, overrides: list[str]) -> None:
        done = nix("nix", "flake", "check", "--no-build", *overrides, f"path:{tree}")
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize("output", OUTPUTS)
    def test_what_there_is(self, nix: Run, tree: Path, overrides: list[str], output: str) -> None:
        names = self.value(nix, tree, overrides, f"{output}.x86_64-linux", "builtins.attrNames")
        assert set(names) == OUTPUTS[output]

    def test_the_environment_is_the_lock(self, nix: Run, tree: Path, overrides: list[str]) -> None:
        what = "packages.x86_64-linux.default"
        joined = self.value(nix, tree, overrides, what, "environment: environment.NIX_PYPROJECT_DEPS")
        names = {path.partition("-")[2] for path in joined.split(":")}
        assert names == wanted_by_the_lock()

    def test_the_template_is_a_machine(self, nix: Run, tree: Path, overrides: list[str]) -> None:
        inner = [f"perturb/{word}" if word in INPUTS else word for word in overrides]
        words = ["--override-input", "perturb", f"path:{tree}", *inner]
        units = "nixosConfigurations.perturb.config.systemd.units"
        names = self.value(nix, tree / "nix" / "template", words, units, "builtins.attrNames")
        assert names == ["perturb-validator-bootstrap.service", "perturb-validator-main.service"]

    def test_the_test_of_two_machines_is_python(self, nix: Run, tree: Path, overrides: list[str]) -> None:
        script = self.value(nix, tree, overrides, "checks.x86_64-linux.vm", "test: test.testScript")
        compile(script, "testScript", "exec")
        assert script.count("with subtest(") >= 6


def wanted_by_the_lock() -> set[str]:
    """name-version of all that `perturb` runs with on x86-64 and Python 3.12, walked along the lock."""
    packages = tomllib.loads((ROOT / "nix" / "python.lock").read_text())["package"]
    here = {"python_full_version": "3.12.12", "python_version": "3.12", "platform_machine": "x86_64"}

    def applies(entry: dict[str, Any]) -> bool:
        return Marker(entry["marker"]).evaluate(here) if "marker" in entry else True

    def find(wanted: dict[str, Any]) -> dict[str, Any]:
        fitting = [
            package
            for package in packages
            if package["name"] == wanted["name"]
            and package["version"] == wanted.get("version", package["version"])
        ]
        (found,) = fitting
        return dict(found)

    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    waiting: list[dict[str, Any]] = [{"name": "perturbnet", "extra": ["s3"]}]
    while waiting:
        wanted = waiting.pop()
        package = find(wanted)
        found.add(f"{package['name']}-{package['version']}")
        for extra in ["", *wanted.get("extra", [])]:
            if (package["name"], extra) not in seen:
                seen.add((package["name"], extra))
                entries = (
                    package.get("optional-dependencies", {}).get(extra, [])
                    if extra
                    else package.get("dependencies", [])
                )
                waiting += [entry for entry in entries if applies(entry)]
    return found
