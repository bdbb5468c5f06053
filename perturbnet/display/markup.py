"""Pages of strangers' words: templates in which every text is escaped, and freed of what hides or reorders.

A log's names, labels and reasons are whatever somebody wrote. What comes into a page as plain text is
escaped by jinja and goes through `printable`; markup of our own is marked as such. A name that a template
misspells is an error, not an empty place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from perturbnet.display.text import printable, short
from perturbnet.wire.units import from_ppb


def open_templates(room: str, filters: Mapping[str, Callable[..., Any]]) -> Environment:
    """The templates of a package, in its folder `templates`, with its own filters and those of every page."""
    made = Environment(
        loader=PackageLoader(room),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_show,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"grouped": "{:,}".format, "score": score, "short": short, **filters}
    return made


def score(ppb: int) -> str:
    """A score of parts per 10^9 with four digits."""
    return f"{from_ppb(ppb):.4f}"


def _show(value: object) -> object:
    return printable(value) if type(value) is str else value
