"""`perturb fingerprint merge` with records that are none."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from perturbnet.cli import main


@pytest.mark.parametrize("name", ["", ".", "nothing.json"])
def test_a_record_that_is_no_file_is_named(name: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["fingerprint", "merge", name, "--out", str(tmp_path / "out.json")])
    assert done.exit_code == 2
    assert f"'{name}'" in done.output
    assert not (tmp_path / "out.json").exists()
