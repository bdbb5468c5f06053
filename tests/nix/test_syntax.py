"""Nix itself parses every Nix file."""

from __future__ import annotations

import pytest

from tests.nix.conftest import ROOT, Run
from tools.nix_lint import nix_files


@pytest.mark.needs("nix-instantiate")
def test_nix_parses_every_file(nix: Run) -> None:
    files = [path.relative_to(ROOT).as_posix() for path in nix_files()]
    assert len(files) > 15
    done = nix("nix-instantiate", "--parse", *files)
    assert done.returncode == 0, done.stderr


@pytest.mark.needs("nix-instantiate")
def test_nix_names_a_file_that_it_cannot_parse(nix: Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    broken = tmp_path_factory.mktemp("broken") / "broken.nix"
    broken.write_text("{ a = 1 }\n")
    done = nix("nix-instantiate", "--parse", str(broken))
    assert done.returncode != 0
    assert "broken.nix" in done.stderr
