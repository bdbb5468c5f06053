"""The rooms: no circle between them, each with a line in docs/architecture.md, and the pure ones pure."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tools import architecture, room_layout, room_picture, rooms

ROOT = Path(__file__).resolve().parents[2]
HOUSE = rooms.read_house(ROOT)
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
# Modules of the standard library by which a function could reach a file, a clock, a socket or chance.
IMPURE = frozenset(
    [
        "asyncio",
        "concurrent",
        "datetime",
        "glob",
        "http",
        "logging",
        "multiprocessing",
        "os",
        "pathlib",
        "random",
        "secrets",
        "shutil",
        "socket",
        "sqlite3",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "time",
        "urllib",
        "uuid",
    ]
)


def imported(path: Path) -> set[str]:
    """Dotted names of all that a module imports, with the names taken from each."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


# The tree.


def test_the_committed_picture_and_table_are_what_the_tree_gives() -> None:
    command = [sys.executable, str(ROOT / "tools" / "architecture.py"), "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_two_rooms_import_each_other() -> None:
    assert rooms.circles(HOUSE.imports) == []


def test_few_modules_are_loose() -> None:
    assert len(list((ROOT / "perturbnet").glob("*.py"))) <= 4


def test_every_room_has_a_line_and_every_line_a_room() -> None:
    section = PAGE.partition("## What each room is for")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(cells))) == sorted(HOUSE.lines)


def test_modules_that_the_way_of_a_response_names_are_there() -> None:
    section = PAGE.partition("## The way of a response")[2].partition("## Where to add")[0]
    named = re.findall(r"`([a-z_]+/[\w/]+\.py)`", section)
    assert len(named) > 20
    assert [
        name for name in named if not ((ROOT / "perturbnet" / name).exists() or (ROOT / name).exists())
    ] == []


# Rules and wire, as their docstrings have it.


def test_rules_import_errors_wire_and_the_type_of_settings() -> None:
    assert HOUSE.imports["rules"] == {"config", "errors", "wire"}
    for path in (ROOT / "perturbnet" / "rules").glob("*.py"):
        settings = {name for name in imported(path) if name.startswith("perturbnet.config")}
        assert settings <= ({"perturbnet.config.Settings"} if path.name == "from_settings.py" else set())


def test_wire_imports_errors_and_no_chain_client_or_torch() -> None:
    assert HOUSE.imports["wire"] == {"errors"}
    for path in (ROOT / "perturbnet" / "wire").glob("*.py"):
        assert {name.partition(".")[0] for name in imported(path)}.isdisjoint(
            {"bittensor", "torch", "httpx2"}
        )


@pytest.mark.parametrize(
    "path",
    [path for room in ("rules", "wire") for path in sorted((ROOT / "perturbnet" / room).glob("*.py"))],
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_rules_and_wire_reach_no_file_clock_socket_or_chance(path: Path) -> None:
    names = imported(path)
    assert {name.partition(".")[0] for name in names}.isdisjoint(IMPURE)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert "open" not in {call.id for call in calls if isinstance(call, ast.Name)}


# The tool.


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three rooms in a row, one import of each kind."""
    files = {
        "perturbnet/__init__.py": "from perturbnet.top.a import x\n",
        "perturbnet/errors.py": "import os\n",
        "perturbnet/middle/__init__.py": "from perturbnet import __version__, errors\n",
        "perturbnet/top/__init__.py": "",
        "perturbnet/top/a.py": "from . import b\ndef x():\n    import perturbnet.middle.m\n",
        "perturbnet/top/b.py": (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..errors import E\n"
        ),
        "neurons/run.py": "from perturbnet.top import a\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_every_kind_of_import_is_read(tree: Path) -> None:
    house = rooms.read_house(tree)
    assert house.imports == {
        "errors": frozenset(),
        "middle": {"errors"},
        "top": {"errors", "middle"},
        "neurons": {"top"},
    }
    assert rooms.floors(house.imports) == {"errors": 0, "middle": 1, "top": 2, "neurons": 3}
    assert rooms.reduced(house.imports)["top"] == {"middle"}
    assert house.lines["top"] == 6


def test_a_circle_is_named_and_shares_a_floor(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "perturbnet" / "middle" / "up.py").write_text("def f():\n    from perturbnet.top import b\n")
    house = rooms.read_house(tree)
    assert rooms.circles(house.imports) == [["middle", "top"]]
    assert rooms.floors(house.imports) == {"errors": 0, "middle": 1, "top": 1, "neurons": 2}
    assert rooms.reduced(house.imports)["middle"] == {"errors", "top"}
    assert room_picture.draw(house).count('<rect class="room') == 4
    (tree / "docs").mkdir()
    (tree / "docs" / "architecture.md").write_text(f"{architecture.BEGIN}\n{architecture.END}\n")
    monkeypatch.setattr(architecture, "ROOT", tree)
    architecture.main([])
    assert architecture.main(["--check"]) == 1


def test_check_sees_a_change_and_writing_mends_it(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "docs").mkdir()
    (tree / "docs" / "architecture.md").write_text(
        f"before\n{architecture.BEGIN}\n{architecture.END}\nafter\n"
    )
    monkeypatch.setattr(architecture, "ROOT", tree)
    assert architecture.main(["--check"]) == 1
    assert architecture.main([]) == 0
    assert architecture.main(["--check"]) == 0
    page = (tree / "docs" / "architecture.md").read_text()
    assert "| 2 | top | under 50 | errors middle |" in page
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    (tree / "perturbnet" / "top" / "a.py").write_text("")
    assert architecture.main(["--check"]) == 1


def test_no_box_covers_another_and_none_leaves_the_picture() -> None:
    boxes = re.findall(r'class="room[^"]*" x="([\d.]+)" y="(\d+)" width="([\d.]+)"', room_picture.draw(HOUSE))
    assert len(boxes) == len(HOUSE.lines)
    by_floor: dict[str, list[tuple[float, float]]] = {}
    for x, y, width in boxes:
        by_floor.setdefault(y, []).append((float(x), float(x) + float(width)))
    for spans in by_floor.values():
        spans.sort()
        assert spans[0][0] >= room_picture.LEFT - 1
        assert spans[-1][1] <= room_picture.WIDTH
        assert all(left[1] < right[0] for left, right in pairwise(spans))


def test_the_order_of_a_floor_avoids_crossings() -> None:
    arrows = {"a": frozenset("y"), "b": frozenset("x"), "x": frozenset[str](), "y": frozenset[str]()}
    floor = {"a": 1, "b": 1, "x": 0, "y": 0}
    layout = room_layout.lay_out(arrows, floor, dict.fromkeys(arrows, 50), 300)
    assert room_layout.crossings([["x", "y"], ["a", "b"]], layout.segments) == 1
    assert room_layout.crossings(layout.order, layout.segments) == 0
