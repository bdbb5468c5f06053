"""The order of an epoch over the production data set's rows: rebuilt at a restart, and drawn one by one.

The peer is `random.shuffle`, whose order nobody can check; for a draw it is one step of the same shuffle.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from benchmarks.harness import Case, Work
from perturbnet.rules.traversal import Traversal

ROWS = 126_689
SECRET = bytes(range(32))


def cases() -> Sequence[Case]:
    """The whole epoch at once, and one row."""
    return (
        Case(f"rebuild {ROWS} draws", lambda: _rebuild, lambda: _shuffle, "random.shuffle"),
        Case("draw", _drawer, _unkeyed_drawer, "one step of random.shuffle"),
    )


def _rebuild() -> Traversal:
    return Traversal(SECRET, ROWS, cursor=ROWS)


def _shuffle() -> list[int]:
    rows = list(range(ROWS))
    random.Random(1).shuffle(rows)
    return rows


def _drawer() -> Work:
    traversals = [Traversal(SECRET, ROWS)]

    def draw() -> int:
        if traversals[0].finished:
            traversals[0] = Traversal(SECRET, ROWS)
        return traversals[0].next().row

    return draw


def _unkeyed_drawer() -> Callable[[], int]:
    source, rows, epoch = random.Random(1), list(range(ROWS)), list(range(ROWS))

    def draw() -> int:
        if not rows:
            rows.extend(epoch)
        chosen = source.randrange(len(rows))
        rows[chosen], rows[-1] = rows[-1], rows[chosen]
        return rows.pop()

    return draw
