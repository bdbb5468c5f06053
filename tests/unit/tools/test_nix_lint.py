"""The lint of Nix files: each rule on a small example, and every committed file is clean."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.nix_lint import ROOT, lint, main, nix_files


def problems(source: str) -> list[str]:
    return [f"{finding.line}: {finding.problem}" for finding in lint(source.encode())]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("let a = 1; in 2", "a"),
        ("let a.b = 1; in 2", "a"),
        ("x: 1", "x"),
        ("{ x, ... }: 1", "x"),
        ("{ x ? 1 }: 2", "x"),
        ("{ x }@y: x", "y"),
        ("y@{ x }: x", "y"),
        ("z: let inherit (z) a; in 1", "a"),
        ("z: let inherit z; in 1", "z"),
        ("x: x: x", "x"),
        ("{ a }: let a = 1; in a", "a"),
    ],
)
def test_a_name_that_nobody_reads_is_reported(source: str, name: str) -> None:
    assert problems(source) == [f"1: `{name}` is bound and never read"]


@pytest.mark.parametrize(
    "source",
    [
        "let a = 1; in a",
        "let a = b; b = 1; in a",
        "let a = 1; in { inherit a; }",
        "let a = { }; in { inherit (a) b; }",
        "let a = 1; in a.b.c or a",
        'let a = 1; in "text ${a}"',
        "let a = 1; in ''text ${a}''",
        'let a = "b"; in { ${a} = 1; }',
        "{ x, y ? x }: y",
        "{\n  x,\n  y,\n}:\nx y",
        "x: let inherit x; in x",
        "_: _x: 1",
        "a: b: a b",
        "let f = { a }: a; in f",
    ],
)
def test_what_is_read_is_not(source: str) -> None:
    assert problems(source) == []


def test_words_that_hide_names_are_reported_by_line() -> None:
    assert problems("{\n  a = with builtins; map;\n}") == ["2: `with` hides where a name comes from: name it"]
    assert problems("rec {\n  a = 1;\n}") == ["1: `rec` hides where a name comes from: name it"]


@pytest.mark.parametrize("source", ["{ a = 1 }", "let a = 1;", "x: )", "{ a b }: 1"])
def test_a_syntax_error_is_reported(source: str) -> None:
    assert any("syntax error" in problem for problem in problems(source))


def test_every_file_of_ours_is_clean(capsys: pytest.CaptureFixture[str]) -> None:
    assert {ROOT / "flake.nix", ROOT / "nix" / "default.nix"} <= set(nix_files())
    assert main([]) == 0, capsys.readouterr().out


def test_findings_are_printed_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "some.nix"
    file.write_text("x:\ny: x\n")
    assert main([str(file)]) == 1
    assert capsys.readouterr().out == f"{file}:2: `y` is bound and never read\n"
