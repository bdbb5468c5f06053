"""Every row of docs/threat-model.md: its test exists, and fails when the defence is taken out."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.defences import REMOVERS

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "threat-model.md"
_ROW = re.compile(r"^\| ([a-z-]+) \| .+ \| .+ \| `([^`]+\.py)::(\w+)` \|$", re.MULTILINE)
ROWS = {row: (path, name) for row, path, name in _ROW.findall(PAGE.read_text(encoding="utf-8"))}
TESTS_FAILED = 1  # pytest's own exit code; an error of collection or usage has another
PATIENCE_S = 120.0


def test_every_line_of_the_table_is_a_row_with_a_defence_that_can_be_taken_out() -> None:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert len(lines) - 1 == len(ROWS) == len(REMOVERS)  # the heading is no row
    assert set(ROWS) == set(REMOVERS)


@pytest.mark.parametrize("row", ROWS)
def test_the_named_test_exists(row: str) -> None:
    path, name = ROWS[row]
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    found = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert name in found


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_without_its_defence_the_test_fails(row: str) -> None:
    path, name = ROWS[row]
    options = ["-q", "-x", "-p", "tests.support.defences", "--without", row, "-p", "no:cacheprovider"]
    command = [sys.executable, "-B", "-m", "pytest", *options, f"{path}::{name}"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == TESTS_FAILED, done.stdout[-3000:] + done.stderr[-1000:]
