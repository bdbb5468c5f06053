"""The rooms of the repository and which of them import which, read from the source.

A room is a package of `perturbnet/`, a loose module there (`cli`, `errors`), or `neurons`. Every import
counts: at the top of a module, inside a function, and under TYPE_CHECKING. `perturbnet/__init__.py` is no
room: it holds the version, which many read, and the public names, which it imports when first asked for.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGE, PROGRAMS = "perturbnet", "neurons"
Graph = Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class House:
    """Lines of code by room, and the rooms that each one imports."""

    lines: Mapping[str, int]
    imports: Graph


def read_house(root: Path) -> House:
    """Read every module below `perturbnet/` and `neurons/`."""
    modules = {path: _room_of(path.relative_to(root)) for path in _modules(root)}
    rooms = sorted({room for room in modules.values() if room})
    lines = dict.fromkeys(rooms, 0)
    imports: dict[str, set[str]] = {room: set() for room in rooms}
    for path, room in modules.items():
        if room:
            text = path.read_text(encoding="utf-8")
            lines[room] += text.count("\n")
            named = _imported_names(ast.parse(text), path.relative_to(root))
            imports[room] |= {found for name in named if (found := _room_named(name)) in lines}
    return House(lines, {room: frozenset(found - {room}) for room, found in imports.items()})


def reached(imports: Graph) -> dict[str, frozenset[str]]:
    """For each room, every room that it imports, or that one of those imports, and so on."""
    found: dict[str, frozenset[str]] = {}
    for start in imports:
        seen: set[str] = set()
        left = list(imports[start])
        while left:
            room = left.pop()
            if room not in seen:
                seen.add(room)
                left += imports[room]
        found[start] = frozenset(seen)
    return found


def circles(imports: Graph) -> list[list[str]]:
    """Groups of rooms that import each other, directly or by way of others; none in a sound house."""
    below = reached(imports)
    groups = {tuple(sorted(other for other in below[room] if room in below[other])) for room in imports}
    return sorted(list(group) for group in groups if group)


def floors(imports: Graph) -> dict[str, int]:
    """Each room's floor: the longest way down from it. Rooms of one circle count as one and share a floor."""
    below = reached(imports)
    found: dict[str, int] = {}

    def floor(room: str) -> int:
        if room not in found:
            circle = {room} | {other for other in below[room] if room in below[other]}
            lower = frozenset[str]().union(*(imports[member] for member in circle)) - circle
            height = max((floor(other) + 1 for other in lower), default=0)
            found.update(dict.fromkeys(circle, height))
        return found[room]

    return {room: floor(room) for room in sorted(imports)}


def reduced(imports: Graph) -> dict[str, frozenset[str]]:
    """Leave out what follows: an import of a room that another imported room reaches anyway."""
    below = reached(imports)
    return {
        room: frozenset(
            target
            for target in found
            if not any(target in below[other] and room not in below[other] for other in found - {target})
        )
        for room, found in imports.items()
    }


def _modules(root: Path) -> list[Path]:
    return sorted(path for folder in (PACKAGE, PROGRAMS) for path in (root / folder).rglob("*.py"))


def _room_of(path: Path) -> str:
    """The room of a module; empty for `perturbnet/__init__.py`."""
    first, *rest = path.with_suffix("").parts
    if first == PROGRAMS:
        return PROGRAMS
    return "" if rest == ["__init__"] else rest[0]


def _room_named(name: str) -> str:
    first, _, rest = name.partition(".")
    if first == PROGRAMS:
        return PROGRAMS
    return rest.partition(".")[0] if first == PACKAGE else ""


def _imported_names(tree: ast.Module, path: Path) -> Iterator[str]:
    """Dotted names of what a module imports, relative imports resolved."""
    package = path.with_suffix("").parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)
