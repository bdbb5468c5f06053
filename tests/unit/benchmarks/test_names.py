"""What `make bench` runs by default can be run: each module that it lists has cases."""

from __future__ import annotations

import ast
import pkgutil
from pathlib import Path

import benchmarks
from benchmarks.__main__ import _NOT_BENCHES

FOLDER = Path(benchmarks.__path__[0])


def test_every_module_is_a_bench_or_named_as_none() -> None:
    names = {found.name for found in pkgutil.iter_modules(benchmarks.__path__)}
    with_cases = {
        name
        for name in names
        if any(
            isinstance(node, ast.FunctionDef) and node.name == "cases"
            for node in ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8")).body
        )
    }
    assert names - with_cases == set(_NOT_BENCHES) & names
    assert set(_NOT_BENCHES) <= names
