"""The workflow as a person runs it: the real program, from a copy of it that nobody may write to."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
FINGERPRINT = re.compile(r"protocol fingerprint +([0-9a-f]{64})")


@dataclass
class Workflow:
    """A copy of the workflow, a cache, and a folder where Snakemake keeps its own notes."""

    source: Path
    cache: Path
    directory: Path
    extra: dict[str, str] = field(default_factory=dict)

    def command(self, *arguments: str) -> list[str]:
        place = ("--snakefile", str(self.source / "Snakefile"), "--directory", str(self.directory))
        return [str(SNAKEMAKE), *arguments, *place]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PERTURB_CACHE_DIR": str(self.cache), **self.extra}

    def start(self, *arguments: str, **options: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environment,
            text=True,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
        done = subprocess.run(
            self.command(*arguments),
            env={**self.environment, **(environment or {})},
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=280,
        )
        return done.returncode, done.stdout


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the workflow without a single file that may be written."""
    copy = tmp_path_factory.mktemp("read-only") / "perturb"
    copy.mkdir()
    shutil.copy(ROOT / "Snakefile", copy)
    for name in ("workflow", "profiles", "config"):
        shutil.copytree(ROOT / name, copy / name)
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return copy


@pytest.fixture(scope="session")
def bytecode(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> dict[str, str]:
    """Compile Snakemake's thousand modules once for all runs, wherever the packages lie."""
    if "PYTHONPYCACHEPREFIX" in os.environ:
        return {}
    base = tmp_path_factory.getbasetemp()
    return {"PYTHONPYCACHEPREFIX": str((base if worker_id == "master" else base.parent) / "bytecode")}


@pytest.fixture(scope="session")
def reference(
    source: Path, bytecode: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Workflow, str]:
    """The reference profile, prepared once from nothing, and what was said."""
    folder = tmp_path_factory.mktemp("reference")
    workflow = Workflow(source, folder / "cache", folder / "run", dict(bytecode))
    code, said = workflow.run("bootstrap", "--config", "profile=reference")
    assert code == 0, said
    return workflow, said
