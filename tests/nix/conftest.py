"""What the tests of the Nix files share: an evaluator that builds nothing and asks nobody.

`NIXPKGS_LIB` names nixpkgs' `lib` folder. `FLAKE_INPUTS` names a folder that holds `pyproject-nix`, `uv2nix`
and `build-systems` as they are at the revisions in flake.lock (`git archive REV | tar -x`). Tests that want
one of them are marked so, and named as not run where it is missing.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
# No user group, no daemon, no substituter: only the files at hand.
CONFIG = "build-users-group =\nexperimental-features = nix-command flakes\nsubstituters =\nflake-registry =\n"

# nixpkgs' file sets want a Nix of 2.14 or later; Debian 12 has 2.8.
NIX_2_14 = "nix-instantiate --store dummy:// --eval -E builtins.readFileType"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def nix(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a program of Nix with a store of its own; the caller looks at the exit status."""
    store = tmp_path_factory.mktemp("nix")
    environment = {
        **os.environ,
        "NIX_CONFIG": f"{CONFIG}store = local?root={store}\n",
        "NIX_STATE_DIR": str(store / "state"),
    }

    def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=240
        )

    return run


@pytest.fixture(scope="session")
def evaluate(nix: Run) -> Callable[..., Any]:
    """An attribute of nix/tests/alone.nix: the modules with nixpkgs' library alone."""
    library = os.environ["NIXPKGS_LIB"]

    def value(attribute: str, **given: str) -> Any:
        done = nix(*evaluation(library, attribute, **given))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return value


def evaluation(library: str, attribute: str, **given: str) -> list[str]:
    """The command that evaluates an attribute of nix/tests/alone.nix, with texts as its arguments."""
    words = [("--argstr", name, value) for name, value in {"library": library, **given}.items()]
    arguments = ["--eval", "--strict", "--json", *(word for three in words for word in three)]
    return ["nix-instantiate", *arguments, "nix/tests/alone.nix", "-A", attribute]
