"""What may be handed on: the terms of each source, and whether its pictures may be copied into an export.

A perturbation is of no use without the picture it changes, and is handed on for every source; a picture only
where its licence allows it. A source that nobody has looked at here is not copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from perturbnet.errors import OutputError


@dataclass(frozen=True)
class Licence:
    """The terms of one source: for a row, for the data card (`identifier` as the hub knows it), in words."""

    identifier: str
    terms: str
    pictures: bool


_UNKNOWN = Licence("other", "terms of the source, which were not looked at; its pictures are not here", False)
_KNOWN = {
    "perturbnet/reference": Licence(
        "cc0-1.0", "CC0 1.0: drawn over photographs in the public domain or dedicated to it", True
    ),
    "clane9/imagenet-100": Licence(
        "other", "ImageNet terms of access: non-commercial research; its pictures are not here", False
    ),
}


def licence_of(dataset: Mapping[str, str | int]) -> Licence:
    """The terms of the source that a config leaf names."""
    return _KNOWN.get(str(dataset.get("repository", "")), _UNKNOWN)


def require_pictures(dataset: Mapping[str, str | int]) -> None:
    """Refuse to copy pictures of a source whose licence does not allow it.

    Raises:
        OutputError: names the source.

    """
    licence = licence_of(dataset)
    if not licence.pictures:
        raise OutputError(
            f"the pictures of {dataset.get('repository', '')!r} may not be handed on: {licence.terms}",
            hint="Export without them: --mode delta. Whoever has the source rebuilds every image.",
        )
