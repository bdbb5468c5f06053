"""Pictures for the page: clean, adversarial, difference, as data URIs.

Rules
- A picture is shown only after its pixels were compared with the digests in the log (`outputs.pictures`).
- What cannot be rebuilt gives way to the next example; where none can, a sentence says why.
- Pictures that would make the page too large are reduced for display: nearest neighbour for the difference,
  where an average would hide single levels.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from perturbnet.adversarial_dataset.licences import licence_of
from perturbnet.datasets import ImageSource
from perturbnet.display.contact_sheet import enlarge_difference
from perturbnet.errors import BundleError, PerturbError
from perturbnet.report.strongest import StrongestExample
from perturbnet.rounds.logged import Log
from perturbnet.rounds.pixels import adversarial_pixels, clean_pixels, require_source
from perturbnet.wire.images import Pixels, encode_png

MOST_PIXELS = 1 << 24  # of an image that is rebuilt
MIDDLE = 127  # levels from the middle of the scale to its end: the greatest change just fills it
SHOWN_SIDE = 360  # pixels; larger images are reduced


@dataclass(frozen=True)
class Plate:
    """One example with its three pictures, all of one shown size."""

    example: StrongestExample
    width: int
    height: int
    reduced: bool
    gain: int  # of the difference
    clean: str
    adversarial: str
    difference: str


@dataclass(frozen=True)
class Gallery:
    """The pictures; or none, and why. `terms` are the licence's where pictures may not be handed on."""

    plates: tuple[Plate, ...]
    reason: str = ""
    terms: str = ""


def hang(log: Log, examples: Iterable[StrongestExample], source: ImageSource, most: int) -> Gallery:
    """Rebuild the pictures of the first `most` examples that can be rebuilt."""
    plates: list[Plate] = []
    reason, terms = "", ""
    for example in examples:
        if len(plates) == most:
            break
        try:
            plates.append(_plate(log, example, source))
        except PerturbError as error:
            reason = _reason(error)
        else:
            licence = licence_of(example.round.config.dataset)
            terms = terms or ("" if licence.pictures else licence.terms)
    return Gallery(tuple(plates), "" if plates else reason, terms)


def _reason(error: PerturbError) -> str:
    """Why there is no picture, for a page that others read: no place of this machine is named."""
    if isinstance(error, BundleError):
        return "The log does not publish the answers’ changes (any more), or they are damaged."
    return f"{error.message[:1].upper()}{error.message[1:]}."


def _plate(log: Log, example: StrongestExample, source: ImageSource) -> Plate:
    require_source(source, example.round.config.dataset)
    clean = clean_pixels(source, example.round)
    height, width, _ = clean.shape
    if height * width > MOST_PIXELS:
        raise PerturbError(f"an image of {width}×{height}: up to {MOST_PIXELS:,} pixels are shown")
    adversarial = adversarial_pixels(log, clean, example.attempt.leaf)
    gain = MIDDLE // max(1, min(example.attempt.leaf.linf_u8, MIDDLE))
    difference = enlarge_difference(clean, adversarial, gain)
    shown = [_fit(clean), _fit(adversarial), _fit(difference, exact=True)]
    uris = [_uri(pixels) for pixels in shown]
    high, wide, _ = shown[0].shape
    return Plate(example, wide, high, (high, wide) != (height, width), gain, *uris)


def _fit(pixels: Pixels, *, exact: bool = False) -> Pixels:
    """The picture, reduced to SHOWN_SIDE where it is larger."""
    height, width, _ = pixels.shape
    longest = max(height, width)
    if longest <= SHOWN_SIDE:
        return pixels
    size = (max(1, width * SHOWN_SIDE // longest), max(1, height * SHOWN_SIDE // longest))
    filter_ = Image.Resampling.NEAREST if exact else Image.Resampling.LANCZOS
    return np.array(Image.fromarray(pixels).resize(size, filter_), dtype=np.uint8)


def _uri(pixels: Pixels) -> str:
    return "data:image/png;base64," + base64.b64encode(encode_png(pixels)).decode("ascii")
