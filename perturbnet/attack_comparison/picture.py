"""Score over time budget as an SVG: one line for each attack. Plain text, no plotting library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

WIDTH, HEIGHT = 860, 480
LEFT, RIGHT, TOP, BOTTOM = 64, 220, 40, 56
COLOURS = ("#0b5fa5", "#b3261e", "#7a7a7a", "#8a5a00", "#2e7d32", "#6a1b9a", "#c2185b", "#00838f", "#5d4037")
TICKS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20)
FONT = 'font-family="system-ui, sans-serif"'


def times(last_s: float) -> list[float]:
    """Moments of the curves, evenly spaced in the logarithm, from a tenth of a second."""
    return [float(at) for at in np.geomspace(0.1, last_s, 160)]


def draw(curves: Mapping[str, Sequence[float]], times_s: Sequence[float], title: str) -> str:
    """SVG of curves over a logarithmic axis of seconds; each a step line, with its name at its end."""
    top = max(max(curve) for curve in curves.values())
    highest = min(1.0, np.ceil(top * 10 + 0.2) / 10)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="24" {FONT} font-size="15" fill="#222">{escape(title)}</text>',
        *_axes(times_s, highest),
    ]
    labels = _spread({name: _y(curve[-1], highest) for name, curve in curves.items()})
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = [(_x(at, times_s), _y(score, highest)) for at, score in zip(times_s, curve, strict=True)]
        path = f"M{points[0][0]:.1f},{points[0][1]:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in points[1:])
        width = 3 if number == 0 else 1.6
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>')
        words = f"{escape(name)}  {curve[-1]:.3f}"
        place = f'x="{WIDTH - RIGHT + 8}" y="{labels[name] + 4:.1f}"'
        parts.append(f'<text {place} {FONT} font-size="12" fill="{colour}">{words}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _axes(times_s: Sequence[float], highest: float) -> list[str]:
    parts = []
    for at in TICKS_S:
        if times_s[0] <= at <= times_s[-1]:
            x = _x(at, times_s)
            parts.append(f'<path d="M{x:.1f},{TOP}V{HEIGHT - BOTTOM}" stroke="#e4e4e4"/>')
            place = f'x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle"'
            parts.append(f'<text {place} {FONT} font-size="12" fill="#444">{at:g}</text>')
    for tenth in range(round(highest * 10) + 1):
        y = _y(tenth / 10, highest)
        parts.append(f'<path d="M{LEFT},{y:.1f}H{WIDTH - RIGHT}" stroke="#e4e4e4"/>')
        place = f'x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end"'
        parts.append(f'<text {place} {FONT} font-size="12" fill="#444">{tenth / 10:.1f}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    place = f'x="{middle:.0f}" y="{HEIGHT - 16}" text-anchor="middle"'
    parts.append(f'<text {place} {FONT} font-size="13" fill="#222">time budget, seconds</text>')
    place = f'x="16" y="{(TOP + HEIGHT - BOTTOM) / 2:.0f}" text-anchor="middle"'
    turn = f'transform="rotate(-90 16 {(TOP + HEIGHT - BOTTOM) / 2:.0f})"'
    parts.append(f'<text {place} {turn} {FONT} font-size="13" fill="#222">mean score</text>')
    return parts


def _spread(places: Mapping[str, float]) -> dict[str, float]:
    """Heights of labels, moved apart until none covers another."""
    spread: dict[str, float] = {}
    last = -1e9
    for name, y in sorted(places.items(), key=lambda item: item[1]):
        last = spread[name] = max(y, last + 15)
    over = max(0.0, last - (HEIGHT - BOTTOM))
    return {name: y - over for name, y in spread.items()}


def _x(at_s: float, times_s: Sequence[float]) -> float:
    share = np.log(at_s / times_s[0]) / np.log(times_s[-1] / times_s[0])
    return float(LEFT + share * (WIDTH - RIGHT - LEFT))


def _y(score: float, highest: float) -> float:
    return HEIGHT - BOTTOM - score / highest * (HEIGHT - BOTTOM - TOP)
