"""Lint Nix files without Nix: syntax, unused names, and two words that hide where a name comes from.

Rules
- A name that is bound and never read is reported, unless it begins with `_`.
- `with` and `rec` are not used here: after them a reader cannot tell what a name means without evaluating.
- Scopes are resolved as Nix does, innermost first: what reads an inner name does not read the outer one that
  it hides.

    python tools/nix_lint.py [FILE ...]        all .nix files of the repository by default

Source: the Nix manual's chapter on the language; the grammar is tree-sitter-nix.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import tree_sitter_nix
from tree_sitter import Language, Node, Parser

ROOT = Path(__file__).resolve().parent.parent
# The grammar's last release does not know it, and nixfmt writes it.
_TRAILING_COMMA = re.compile(rb",(?=\s*\}\s*[:@])")
_WORDS = {"with_expression": "with", "rec_attrset_expression": "rec"}
_PARSER = Parser(Language(tree_sitter_nix.language()))


@dataclass(frozen=True)
class Finding:
    """What is wrong, and in which line, counted from 1."""

    line: int
    problem: str


@dataclass
class _Scope:
    """Names that a `let` or a function binds, and which of them were read."""

    bound: dict[str, Node] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)


def lint(source: bytes) -> list[Finding]:
    """All findings in one file, by line."""
    root = _PARSER.parse(_TRAILING_COMMA.sub(b" ", source)).root_node
    findings = [*_syntax(root), *_words(root)]
    if not root.has_error:
        findings += _unused(root)
    return sorted(findings, key=lambda finding: finding.line)


def _syntax(node: Node) -> Iterator[Finding]:
    if node.is_error or node.is_missing:
        yield _found(node, "syntax error")
    elif node.has_error:
        for child in node.children:
            yield from _syntax(child)


def _words(node: Node) -> Iterator[Finding]:
    if node.type in _WORDS:
        yield _found(node, f"`{_WORDS[node.type]}` hides where a name comes from: name it")
    for child in node.children:
        yield from _words(child)


def _unused(root: Node) -> list[Finding]:
    scopes: list[_Scope] = []
    _walk(root, [], scopes)
    return [
        _found(node, f"`{name}` is bound and never read")
        for scope in scopes
        for name, node in scope.bound.items()
        if name not in scope.read and not name.startswith("_")
    ]


def _walk(node: Node, outer: list[_Scope], every: list[_Scope]) -> None:
    """Resolve what is read in `node`; scopes that begin in it are added to `every`."""
    bound = dict(_bound_by(node))
    around = outer
    if bound:
        every.append(_Scope(bound))
        around = [*outer, every[-1]]
    for name in _read_by(node):
        # `let inherit x; in` reads the x around the let.
        _mark(name, outer[:-1] if node.type == "inherit" and _is_in_let(node) else around)
    for child in node.children:
        _walk(child, around, every)


def _mark(name: str, scopes: list[_Scope]) -> None:
    for scope in reversed(scopes):
        if name in scope.bound:
            scope.read.add(name)
            return


def _read_by(node: Node) -> Iterator[str]:
    """Names that this very node reads."""
    if node.type == "variable_expression":
        yield _text(node)
    elif node.type == "inherit":  # without (…): from the scope around
        for attributes in node.children_by_field_name("attrs"):
            yield from (_text(name) for name in attributes.children if name.type == "identifier")


def _bound_by(node: Node) -> Iterator[tuple[str, Node]]:
    """Names that this very node brings into scope, each with the node to report."""
    if node.type == "let_expression":
        for bindings in (child for child in node.children if child.type == "binding_set"):
            for binding in bindings.children:
                yield from _binding_names(binding)
    elif node.type == "function_expression":
        for child in node.children[:-1]:  # the last is the body
            if child.type == "identifier":
                yield _text(child), child
            elif child.type == "formals":
                for formal in (part for part in child.children if part.type == "formal"):
                    yield _text(formal.children[0]), formal


def _binding_names(binding: Node) -> Iterator[tuple[str, Node]]:
    if binding.type == "binding":
        first = binding.children[0].children[0]
        if first.type == "identifier":
            yield _text(first), first
    elif binding.type in {"inherit", "inherit_from"}:
        for attributes in binding.children_by_field_name("attrs"):
            for name in attributes.children:
                if name.type == "identifier":
                    yield _text(name), name


def _is_in_let(node: Node) -> bool:
    holder = node.parent.parent if node.parent else None
    return holder is not None and holder.type == "let_expression"


def _text(node: Node) -> str:
    return (node.text or b"").decode()


def _found(node: Node, problem: str) -> Finding:
    return Finding(node.start_point[0] + 1, problem)


def nix_files() -> list[Path]:
    """Every Nix file that git knows; in a source tree without git, every one."""
    if not (ROOT / ".git").exists():
        return sorted(ROOT.rglob("*.nix"))
    listed = subprocess.run(
        ["git", "ls-files", "-z", "*.nix"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def main(arguments: list[str]) -> int:
    """Print `file:line: problem` for each finding; 1 if there are any."""
    found = 0
    for path in map(Path, arguments) if arguments else nix_files():
        for finding in lint(path.read_bytes()):
            found += 1
            print(f"{path}:{finding.line}: {finding.problem}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
