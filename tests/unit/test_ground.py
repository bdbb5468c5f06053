"""The ground: locks that agree, dependencies that are used, nothing of this machine in a committed file."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import perturbnet
from benchmarks import harness
from perturbnet.config import registry

ROOT = Path(__file__).resolve().parent.parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
NIX_LOCK: dict[str, Any] = tomllib.loads((ROOT / "nix" / "python.lock").read_text())
# Neither is imported by our code: one is run as a program, the other is what timm needs beside torch.
NOT_IMPORTED = {"snakemake", "torchvision"}


def committed() -> list[Path]:
    """Every file git knows; in a source tree without git, every file."""
    if not (ROOT / ".git").exists():
        return [path for path in ROOT.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def requirements() -> dict[tuple[str, str], tuple[Requirement, set[str]]]:
    """requirements.lock as (name, version) -> (requirement, digests)."""
    found = {}
    for line in (ROOT / "requirements.lock").read_text().replace("\\\n", " ").splitlines():
        if line.startswith("#"):
            continue
        text, *digests = line.split(" --hash=sha256:")
        requirement = Requirement(text)
        found[requirement.name, str(requirement.specifier).removeprefix("==")] = (
            requirement,
            {digest.strip() for digest in digests},
        )
    return found


class TestLocks:
    def test_both_locks_name_the_same_packages_versions_and_digests(self) -> None:
        packages = [package for package in NIX_LOCK["package"] if package["name"] != "perturbnet"]
        from_nix = {
            (package["name"], package["version"]): {
                file["hash"].removeprefix("sha256:")
                for file in [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
            }
            for package in packages
        }
        assert {key: digests for key, (_, digests) in requirements().items()} == from_nix
        assert all(digests for digests in from_nix.values())

    def test_the_environment_in_use_is_the_locked_one(self) -> None:
        wanted = {
            name: version
            for (name, version), (requirement, _) in requirements().items()
            if requirement.marker is None or requirement.marker.evaluate()
        }
        installed = {
            canonicalize_name(found.metadata["Name"]): found.version
            for found in importlib.metadata.distributions()
        }
        differing = {
            name: (version, installed.get(canonicalize_name(name)))
            for name, version in wanted.items()
            if installed.get(canonicalize_name(name)) != version
        }
        assert differing == {}, "locked, installed; `make test` installs what is locked"

    def test_every_declared_package_is_locked_within_its_range(self) -> None:
        locked: dict[str, list[str]] = {}
        for name, version in requirements():
            locked.setdefault(canonicalize_name(name), []).append(version)
        extras = PROJECT["project"]["optional-dependencies"].values()
        for text in [*PROJECT["project"]["dependencies"], *(text for extra in extras for text in extra)]:
            requirement = Requirement(text)
            versions = locked[canonicalize_name(requirement.name)]
            assert all(requirement.specifier.contains(version) for version in versions), text

    def test_linux_on_x86_64_and_aarch64_has_a_file_for_every_package(self) -> None:
        for package in NIX_LOCK["package"]:
            names = [file["url"].rpartition("/")[2] for file in package.get("wheels", [])]
            for machine in ("x86_64", "aarch64"):
                fits = any(
                    name.endswith("-any.whl") or ("linux" in name and machine in name) for name in names
                )
                assert fits or "sdist" in package or package["name"] == "perturbnet", (
                    package["name"],
                    machine,
                )


class TestCommittedFiles:
    def test_none_names_a_package_registry(self) -> None:
        hosts = [
            "py" + "pi.org",
            "python" + "hosted.org",
            "deb.debian" + ".org",
            "npmjs" + ".org",
            "crates" + ".io",
        ]
        assert self.holding(re.compile("|".join(re.escape(host) for host in hosts))) == []

    def test_none_names_a_path_of_somebodys_machine(self) -> None:
        assert self.holding(re.compile(r"(?<![\w.])/(work|root|farm|home/[a-z]+)/(?!\.\.\.)[\w.]")) == []

    def test_none_is_a_secret_or_a_leftover(self) -> None:
        leftovers = {"uv.lock", ".env", "hotkey", "coldkey"}
        assert [path.name for path in committed() if path.name in leftovers] == []

    def holding(self, pattern: re.Pattern[str]) -> list[str]:
        found = []
        for path in committed():
            try:
                match = pattern.search(path.read_text())
            except UnicodeDecodeError:
                continue
            if match:
                found.append(f"{path.relative_to(ROOT)}: {match[0]}")
        return found


class TestDependencies:
    def test_every_import_is_declared_and_every_declaration_is_used(self) -> None:
        by_module = importlib.metadata.packages_distributions()
        used: set[str] = set()
        for module in self.imported("perturbnet", "neurons") - sys.stdlib_module_names:
            used.update(canonicalize_name(name) for name in by_module.get(module, [module])[:1])
        extras = PROJECT["project"]["optional-dependencies"]
        texts = [
            *PROJECT["project"]["dependencies"],
            *(text for name in extras if name != "dev" for text in extras[name]),
        ]
        declared = {canonicalize_name(Requirement(text).name) for text in texts}
        assert used - {"perturbnet", "neurons"} == declared - NOT_IMPORTED

    def imported(self, *folders: str) -> set[str]:
        names: set[str] = set()
        for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    names.update(alias.name.partition(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names.add(node.module.partition(".")[0])
        return names

    def test_the_version_is_said_once(self) -> None:
        assert PROJECT["project"]["version"] == perturbnet.__version__


def test_a_wheel_ships_every_file_of_the_packages_and_the_workflow(tmp_path: Path) -> None:
    source = tmp_path / "source"
    alone = {"requirements.lock", "packaging/service.json"}
    packages, workflow = {"perturbnet", "neurons"}, {"Snakefile", "workflow", "profiles", "config"}
    expected = set()
    for path in committed():
        name = path.relative_to(ROOT)
        top = name.parts[0]
        if top in packages | workflow | {"pyproject.toml", "LICENSE", "README.md"} or str(name) in alone:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, source / name)
        if top in packages:
            expected.add(name.as_posix())
        if (top in workflow and name.suffix != ".example") or str(name) in alone:
            expected.add(f"share/perturb/{name.as_posix()}")
    build = "from setuptools import build_meta; build_meta.build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = source.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    shipped = {name.partition(".data/data/")[2] or name for name in names if ".dist-info/" not in name}
    assert shipped == expected


class TestMigration:
    WORDS = (ROOT / "docs" / "migration.md").read_text()

    def test_its_table_holds_the_defaults(self) -> None:
        defaults = {setting.name: setting.default for setting in registry()}
        rows = re.findall(r"^\| `([A-Z_]+)` \| \S+ \| (\S+) \|", self.WORDS, re.MULTILINE)
        assert len(rows) > 25
        for name, default in rows:
            if default != "required":
                assert default == (defaults[name] or "none"), name

    def test_what_it_calls_gone_is_unknown_and_all_else_is_known(self) -> None:
        known = {setting.name for setting in registry()}
        kept, _, gone = self.WORDS.partition("*Gone.*")
        assert set(re.findall(r"`(PERTURB_[A-Z_]+)`", kept)) - known == {"PERTURB_CONFIG"}
        gone, _, _ = gone.partition("##")
        assert not known & set(re.findall(r"`(PERTURB_[A-Z0-9_]+)`", gone))


class TestHowTestsRun:
    def test_no_file_of_tests_is_imported_by_another(self) -> None:
        """What two of them share lies in a file of its own; else its tests' module is there twice."""
        found = [
            f"{path.relative_to(ROOT)}: {node.module}"
            for path in (ROOT / "tests").rglob("*.py")
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom) and re.search(r"\.test_\w+$", node.module or "")
        ]
        assert found == []

    def test_each_has_a_home_of_its_own(self) -> None:
        assert Path.home().name.startswith("perturb-tests-")
        assert Path(os.environ["XDG_STATE_HOME"]).is_relative_to(Path.home())
        assert os.environ["OMP_NUM_THREADS"] == "1"

    def test_what_cannot_run_is_named_and_the_network_is_closed(self, tmp_path: Path) -> None:
        (tmp_path / "unit").mkdir()
        (tmp_path / "aside").mkdir()
        shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
        shutil.copy(ROOT / "pyproject.toml", tmp_path)
        (tmp_path / "unit" / "test_small.py").write_text(
            "import socket, pytest\n"
            "def test_outside():\n"
            "    socket.create_connection(('192.0.2.1', 80), timeout=1)\n"
            "def test_inside():\n"
            "    server = socket.create_server(('127.0.0.1', 0))\n"
            "    socket.create_connection(server.getsockname(), timeout=5).close()\n"
            "    server.close()\n"
        )
        (tmp_path / "aside" / "test_large.py").write_text(
            "import pytest\n@pytest.mark.needs('sh', 'no-such-program', 'test -d .', 'test -d nowhere')\n"
            "def test_machine(): assert False\n"
        )
        command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "aside", "unit"]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert "1 failed, 1 passed, 1 skipped" in run.stdout
        assert "NetworkReached: a test reached for ('192.0.2.1', 80)" in run.stdout
        assert "not run on this machine: 1" in run.stdout
        assert (
            "not run: aside/test_large.py::test_machine (needs no-such-program, test -d nowhere)"
            in run.stdout
        )
        assert run.stdout.index("test_small.py::test_outside") < run.stdout.index(
            "test_large.py::test_machine"
        )


class TestBenches:
    def test_a_ratio_tells_cheap_from_dear(self) -> None:
        case = harness.Case(
            "sum", lambda: lambda: sum(range(2_000)), lambda: lambda: sum(range(80_000)), "more"
        )
        ours, peer = case.ours(), case.peer()
        mine, theirs = harness._round(ours, peer, (400, 10), swapped=True)
        assert mine.cpu_s < theirs.cpu_s / 4
        assert mine.wall_s > 0

    def test_a_bench_measures_itself_and_says_so_in_json(self, tmp_path: Path) -> None:
        file = tmp_path / "bench.json"
        command = [sys.executable, "-m", "benchmarks", "canonical", "--rounds", "1", "--json", str(file)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        for row in json.loads(file.read_text()):
            assert row["wall_ratio"] == pytest.approx(row["ours"]["wall_s"] / row["peer"]["wall_s"])
            assert row["ours"]["cpu_s"] > 0
            assert row["ours"]["peak_mib"] > row["ours"]["peak_growth_mib"] >= 0
