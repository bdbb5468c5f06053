"""The picture of the rooms as SVG: boxes on floors, arrows down to what a room imports.

It follows the reader's light or dark (prefers-color-scheme). All arrows into one room have one colour and
join on their way, so a line leads to one room only, wherever it begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from tools.room_layout import Layout, is_pass, lay_out, target_of
from tools.rooms import Graph, House, floors, reduced

WIDTH, LEFT, RIGHT, TOP = 900, 44, 14, 94
BOX, LETTER, PADDING = 38, 7.3, 18  # height; width of a letter; left and right of the name
PORT = 13  # the least distance of two arrows at a box
# Bands of floors, from the ground up: each begins at the floor of the room that is named.
BANDS = (
    ("errors", "values, settings, process"),
    ("ledger", "model, ledger, chain"),
    ("rounds", "rounds"),
    ("certificate", "products and programs"),
    ("commands", "commands"),
)
PURE = frozenset({"errors", "rules", "wire"})
_INKS = ("page", "band", "text", "soft", "box", "pure", "edge")
_LIGHT = ("#ffffff", "#f5f6f8", "#1c2230", "#667085", "#ffffff", "#e3f1e6", "#98a2b3")
_DARK = ("#0f141b", "#171d26", "#e6eaf0", "#94a0b2", "#202833", "#1d3a2b", "#5b6778")
_LIGHT_ARROWS = ("#2563a8", "#b3471d", "#25805a", "#8b3fa0", "#8a6d00", "#0c7f8c", "#b02a5b", "#5a5fc0")
_DARK_ARROWS = ("#6fb0f2", "#f08f63", "#5fcf9b", "#d091e6", "#dcbb4a", "#52ccd8", "#f27fa9", "#a3a8fa")
_STYLE = """\
text { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: var(--text); }
.name { font-size: 12px; text-anchor: middle; }
.size, .note { font-size: 10px; fill: var(--soft); }
.size { text-anchor: middle; }
.title { font-size: 15px; font-weight: 600; }
.arrow { fill: none; stroke-width: 1.4; }
.room { fill: var(--box); stroke: var(--edge); }
.pure { fill: var(--pure); }
"""


@dataclass(frozen=True)
class _Drawing:
    layout: Layout
    widths: Mapping[str, float]
    top: Mapping[int, float]  # by floor: the upper edge of its boxes
    floor: Mapping[str, int]
    height: int

    def level(self, place: str) -> int:
        return int(place.partition("@")[2]) if is_pass(place) else self.floor[place]


def rounded(lines: int) -> str:
    """A size that a small change does not change: to 100 lines, from 1,000 on to 500."""
    step = 100 if lines < 1000 else 500
    return f"{max(100, (lines + step // 2) // step * step):,}" if lines >= 50 else "under 50"


def draw(house: House) -> str:
    """The whole picture."""
    arrows = reduced(house.imports)
    drawing = _arrange(house, arrows)
    parts = [
        *_head(drawing.height, house, arrows),
        *_bands(drawing),
        *_arrows(drawing),
        *(_box(drawing, room, house) for room in sorted(house.lines)),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _arrange(house: House, arrows: Graph) -> _Drawing:
    floor = floors(house.imports)
    ports = {room: max(len(arrows[room]), 1) for room in arrows}
    widths = {room: max(len(room) * LETTER + PADDING, 66, ports[room] * PORT) for room in arrows}
    layout = lay_out(arrows, floor, widths, WIDTH - LEFT - RIGHT)
    top, y = {}, float(TOP)
    for level in range(len(layout.order) - 1, -1, -1):
        top[level] = y
        pieces = sum(lower in layout.order[level - 1] for _, lower in layout.segments) if level else 0
        y += BOX + min(22 + 3 * pieces, 70)
    return _Drawing(layout, widths, top, floor, round(y))


def _head(height: int, house: House, arrows: Graph) -> Iterator[str]:
    drawn, every = sum(map(len, arrows.values())), sum(map(len, house.imports.values()))
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}"'
    title = f"The rooms of Perturb: {len(house.lines)}, and what they import"
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n<title>{title}</title>'
    yield f"<style>\n{_inks(_LIGHT, _LIGHT_ARROWS)}"
    yield f"@media (prefers-color-scheme: dark) {{\n{_inks(_DARK, _DARK_ARROWS)}\n}}\n{_STYLE}</style>"
    yield f'<rect width="{WIDTH}" height="{height}" fill="var(--page)"/>'
    yield f'<text class="title" x="{LEFT}" y="24">{title}</text>'
    legend = (
        f"An arrow leads down to a room that is imported. Of {every} imports {drawn} are drawn: those that",
        "do not follow from others (transitive reduction). Arrows into one room share a colour and join.",
        "Numbers: lines of code, rounded. Green: pure.",
    )
    for n, line in enumerate(legend):
        yield f'<text class="note" x="{LEFT}" y="{41 + 14 * n}">{line}</text>'


def _inks(inks: Sequence[str], arrows: Sequence[str]) -> str:
    named = {**dict(zip(_INKS, inks, strict=True)), **{f"c{n}": ink for n, ink in enumerate(arrows)}}
    return ":root { " + " ".join(f"--{name}: {ink};" for name, ink in named.items()) + " }"


def _bands(drawing: _Drawing) -> Iterator[str]:
    """Every second band is shaded; each has its name at the left."""
    begins = [(drawing.floor[room], name) for room, name in BANDS if room in drawing.floor]
    ends = [level for level, _ in begins[1:]] + [len(drawing.layout.order)]
    for n, ((low, name), high) in enumerate(zip(begins, ends, strict=True)):
        if low >= high:
            continue
        upper = drawing.top[high - 1] - 12
        lower = drawing.top[low - 1] - 12 if low else drawing.height - 6
        if n % 2 == 0:
            size = f'width="{WIDTH - 12}" height="{lower - upper:.0f}" rx="6"'
            yield f'<rect x="6" y="{upper:.0f}" {size} fill="var(--band)"/>'
        x, y = 24, (upper + lower) / 2
        yield (
            f'<text class="note" x="{x}" y="{y:.0f}" text-anchor="middle" '
            f'transform="rotate(-90 {x} {y:.0f})">{name}</text>'
        )


def _arrows(drawing: _Drawing) -> Iterator[str]:
    layout = drawing.layout
    targets = sorted(
        {target_of(lower) for _, lower in layout.segments},
        key=lambda room: (drawing.floor[room], layout.order[drawing.floor[room]].index(room)),
    )
    colour = {room: f"var(--c{n % len(_LIGHT_ARROWS)})" for n, room in enumerate(targets)}
    port = _ports(drawing)
    for room in targets:
        lines, heads = [], []
        for upper, lower in layout.segments:
            if target_of(lower) != room:
                continue
            x1, y1 = port[upper, lower, "out"], drawing.top[drawing.level(upper)] + BOX
            x2, y2 = port[upper, lower, "in"], drawing.top[drawing.level(lower)]
            end = y2 if is_pass(lower) else y2 - 5
            middle = (y1 + end) / 2
            lines.append(f"M{x1:.1f} {y1:.0f}C{x1:.1f} {middle:.0f} {x2:.1f} {middle:.0f} {x2:.1f} {end:.0f}")
            if is_pass(lower):
                lines.append(f"V{y2 + BOX:.0f}")
            else:
                heads.append(f"M{x2:.1f} {y2:.0f}l-4 -7h8z")
        yield f'<path class="arrow" stroke="{colour[room]}" d="{"".join(lines)}"/>'
        yield f'<path fill="{colour[room]}" d="{"".join(heads)}"/>'


def _ports(drawing: _Drawing) -> dict[tuple[str, str, str], float]:
    """Where each piece leaves and arrives: side by side at a box, in the order of their other ends."""
    x, found = drawing.layout.x, {}
    for side, here, there in (("out", 0, 1), ("in", 1, 0)):
        for place in x:
            own = [piece for piece in drawing.layout.segments if piece[here] == place]
            own.sort(key=lambda piece: (x[piece[there]], piece[there]))
            room = 0.0 if is_pass(place) else drawing.widths[place] - 12
            step = min(PORT, room / max(len(own) - 1, 1))
            for n, piece in enumerate(own):
                found[piece[0], piece[1], side] = LEFT + x[place] + (n - (len(own) - 1) / 2) * step
    return found


def _box(drawing: _Drawing, room: str, house: House) -> str:
    x, y, width = LEFT + drawing.layout.x[room], drawing.top[drawing.floor[room]], drawing.widths[room]
    kind = "room pure" if room in PURE else "room"
    imports = escape(f"{room} imports {', '.join(sorted(house.imports[room])) or 'no room'}")
    size = f'width="{width:.1f}" height="{BOX}" rx="5"'
    return (
        f"<g><title>{imports}</title>"
        f'<rect class="{kind}" x="{x - width / 2:.1f}" y="{y:.0f}" {size}/>'
        f'<text class="name" x="{x:.1f}" y="{y + 16:.0f}">{room}</text>'
        f'<text class="size" x="{x:.1f}" y="{y + 30:.0f}">{rounded(house.lines[room])}</text></g>'
    )
