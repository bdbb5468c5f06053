"""Draw the rooms (docs/architecture.svg) and list what each imports (docs/architecture.md).

Rules
- Both follow from the source alone: the same tree gives the same bytes. Sizes are rounded, so that a changed
  line does not change the picture.
- A room stands above all that it imports. Drawn are the arrows that do not follow from others (the transitive
  reduction); the table has every import.
- `--check` writes nothing and ends with 1 where a file is not what the tree gives, or where rooms import each
  other in a circle.

    python tools/architecture.py [--check]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.room_picture import draw, rounded  # noqa: E402 - a script finds its own tree first
from tools.rooms import House, circles, floors, read_house  # noqa: E402

PICTURE, PAGE = "docs/architecture.svg", "docs/architecture.md"
BEGIN = "<!-- tools/architecture.py writes from here -->"
END = "<!-- to here -->"


def generated(root: Path) -> dict[str, str]:
    """What each file must hold, by its path in the repository."""
    house = read_house(root)
    page = (root / PAGE).read_text(encoding="utf-8")
    return {PICTURE: draw(house), PAGE: _with_table(page, house)}


def table(house: House) -> str:
    """Every room from the top floor down: its size, and all that it imports."""
    floor = floors(house.imports)
    rows = ["| floor | room | lines | imports |", "|---|---|---|---|"]
    for room in sorted(floor, key=lambda room: (-floor[room], room)):
        named = " ".join(sorted(house.imports[room])) or "–"
        rows.append(f"| {floor[room]} | {room} | {rounded(house.lines[room])} | {named} |")
    return "\n".join(rows)


def _with_table(page: str, house: House) -> str:
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{PAGE}: there is no {BEGIN} … {END} for the table")
    rooms, arrows = len(house.lines), sum(map(len, house.imports.values()))
    count = f"{rooms} rooms, {arrows} imports of one room by another."
    return f"{before}{BEGIN}\n\n{count}\n\n{table(house)}\n\n{END}{after}"


def _faults(house: House) -> list[str]:
    """Circles, room by room, and every import in one: it leads to a room that is not below."""
    floor = floors(house.imports)
    found = [f"circle: {', '.join(circle)}" for circle in circles(house.imports)]
    for room, named in sorted(house.imports.items()):
        found += [
            f"not down: {room} imports {other}" for other in sorted(named) if floor[other] >= floor[room]
        ]
    return found


def main(arguments: list[str] | None = None) -> int:
    """Write the files and name those that changed; with `--check` only compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; end with 1 where something differs"
    )
    check = parser.parse_args(arguments).check
    house = read_house(ROOT)
    faults = _faults(house)
    for name, text in generated(ROOT).items():
        path = ROOT / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            faults += [f"stale: {name}; run tools/architecture.py"] if check else []
            print(f"changed: {name}")
            if not check:
                path.write_text(text, encoding="utf-8")
    if not check:
        print(table(house))
    for fault in faults:
        print(fault)
    return 1 if faults and check else 0


if __name__ == "__main__":
    sys.exit(main())
