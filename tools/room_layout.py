"""Where rooms and arrows stand in the picture: floors are given, the order within a floor is looked for.

The method is Sugiyama's (1981): an arrow that passes a floor holds a place there; places are ordered so that
few arrows cross (barycentres, then exchanges of neighbours); then each is moved as close to what it is joined
to as the boxes' widths allow. All arrows into one room that pass a floor share a place: they join there.

The same input gives the same picture: no clock, a fixed random seed, sums in a fixed order.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tools.rooms import Graph

TRIES, SWEEPS, MOVES = 60, 16, 60
PASS_WIDTH = 16  # pixels kept free for an arrow that passes a floor
GAP = 10
Segment = tuple[str, str]  # from a place to one on the next floor down


@dataclass(frozen=True)
class Layout:
    """Places by floor from the ground up, left to right; the arrows' pieces; the middle of each place."""

    order: list[list[str]]
    segments: list[Segment]
    x: Mapping[str, float]


def target_of(place: str) -> str:
    """The room that an arrow through this place leads to; a room's own place is the room."""
    return place.partition("@")[0]


def is_pass(place: str) -> bool:
    """Whether a place is one that an arrow passes, and no room."""
    return "@" in place


def lay_out(arrows: Graph, floor: Mapping[str, int], widths: Mapping[str, float], span: float) -> Layout:
    """Find a place for everything; `widths` of the rooms, `span` the picture's."""
    segments = _segments(arrows, floor)
    layers = _layers(arrows, floor, segments)
    order = _least_crossings(layers, segments)
    width = {place: widths.get(place, PASS_WIDTH) for layer in layers for place in layer}
    return Layout(order, segments, _move_together(order, segments, width, span))


def crossings(order: Sequence[Sequence[str]], segments: Sequence[Segment]) -> int:
    """How often two pieces of arrows cross."""
    position = {place: n for layer in order for n, place in enumerate(layer)}
    height = {place: n for n, layer in enumerate(order) for place in layer}
    found = 0
    for level in range(1, len(order)):
        ends = sorted((position[a], position[b]) for a, b in segments if height[a] == level)
        found += sum(b > d for n, (a, b) in enumerate(ends) for c, d in ends[n + 1 :] if a < c)
    return found


def _segments(arrows: Graph, floor: Mapping[str, int]) -> list[Segment]:
    found: set[Segment] = set()
    for source, targets in arrows.items():
        for target in targets:
            if floor[target] >= floor[source]:
                continue  # inside a circle: it is printed, not drawn
            way = [source]
            way += [f"{target}@{level}" for level in range(floor[source] - 1, floor[target], -1)]
            way.append(target)
            found |= set(pairwise(way))
    return sorted(found)


def _layers(arrows: Graph, floor: Mapping[str, int], segments: Sequence[Segment]) -> list[list[str]]:
    layers: list[list[str]] = [[] for _ in range(max(floor.values()) + 1)]
    passes = {place for segment in segments for place in segment if is_pass(place)}
    for room in sorted(arrows):
        layers[floor[room]].append(room)
    for place in sorted(passes):
        layers[int(place.partition("@")[2])].append(place)
    return layers


def _least_crossings(layers: list[list[str]], segments: Sequence[Segment]) -> list[list[str]]:
    """The best of several beginnings, each improved until nothing helps."""
    chance = random.Random(7)  # noqa: S311 - a start for a search
    best, fewest = layers, math.inf
    for _ in range(TRIES):
        order = [list(layer) for layer in layers]
        for layer in order:
            chance.shuffle(layer)
        order = _improve(order, segments)
        found = crossings(order, segments)
        if found < fewest:
            best, fewest = order, found
    return best


def _improve(order: list[list[str]], segments: Sequence[Segment]) -> list[list[str]]:
    neighbours = _neighbours(segments)
    for sweep in range(SWEEPS):
        levels = range(len(order)) if sweep % 2 else range(len(order) - 1, -1, -1)
        for level in levels:
            place = {name: n / len(layer) for layer in order for n, name in enumerate(layer)}
            order[level].sort(key=lambda name: _mean([(place[near], 1) for near in neighbours[name]], 0.5))
        _exchange(order, segments)
    return order


def _exchange(order: list[list[str]], segments: Sequence[Segment]) -> None:
    """Swap neighbours where that removes crossings."""
    neighbours = _neighbours(segments)
    for level, layer in enumerate(order):
        lower = order[level - 1] if level else []
        upper = order[level + 1] if level + 1 < len(order) else []
        near = {name: n for other in (lower, upper) for n, name in enumerate(other)}
        above = set(upper)
        for n in range(len(layer) - 1):
            left, right = layer[n], layer[n + 1]
            now = _pair_crossings(left, right, neighbours, near, above)
            if _pair_crossings(right, left, neighbours, near, above) < now:
                layer[n], layer[n + 1] = right, left


def _pair_crossings(
    left: str, right: str, neighbours: Mapping[str, list[str]], near: Mapping[str, int], above: set[str]
) -> int:
    pairs = ((a, b) for a in neighbours[left] for b in neighbours[right] if (a in above) == (b in above))
    return sum(near[a] > near[b] for a, b in pairs)


def _neighbours(segments: Sequence[Segment]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)  # a room that nothing joins has none
    for upper, lower in segments:
        found[upper].append(lower)
        found[lower].append(upper)
    return found


def _move_together(
    order: list[list[str]], segments: Sequence[Segment], width: Mapping[str, float], span: float
) -> dict[str, float]:
    """Move each place towards its neighbours; what an arrow passes is kept straight before anything else."""
    neighbours = _neighbours(segments)
    x = {name: span * (n + 0.5) / len(layer) for layer in order for n, name in enumerate(layer)}
    for move in range(MOVES):
        for layer in order if move % 2 else reversed(order):
            wanted = [
                _mean([(x[near], _pull(name, near)) for near in neighbours[name]], x[name]) for name in layer
            ]
            weights = [4.0 if is_pass(name) else 1.0 for name in layer]
            x |= zip(layer, _fit(wanted, weights, [width[name] for name in layer], span), strict=True)
    return x


def _pull(place: str, near: str) -> float:
    return (1.0, 3.0, 10.0)[is_pass(place) + is_pass(near)]


def _fit(wanted: list[float], weights: list[float], widths: list[float], span: float) -> list[float]:
    """The nearest positions that keep order, distances and margins (pool adjacent violators)."""
    offsets = [0.0]
    for left, right in pairwise(widths):
        offsets.append(offsets[-1] + (left + right) / 2 + GAP)
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for goal, offset, weight in zip(wanted, offsets, weights, strict=True):
        pool = (goal - offset, weight, 1)
        while pools and pools[-1][0] > pool[0]:
            mean, heavy, count = pools.pop()
            total = heavy + pool[1]
            pool = ((mean * heavy + pool[0] * pool[1]) / total, total, count + pool[2])
        pools.append(pool)
    low, high = widths[0] / 2, span - widths[-1] / 2 - offsets[-1]
    flat = list(_unpool(pools))
    return [min(max(value, low), high) + offset for value, offset in zip(flat, offsets, strict=True)]


def _unpool(pools: Sequence[tuple[float, float, int]]) -> Iterator[float]:
    for mean, _, count in pools:
        yield from [mean] * count


def _mean(pairs: Sequence[tuple[float, float]], otherwise: float) -> float:
    if not pairs:
        return otherwise
    return math.fsum(value * weight for value, weight in pairs) / math.fsum(weight for _, weight in pairs)
