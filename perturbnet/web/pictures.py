"""Pictures of an answer: the image that was sent, what the miner made of it, and the difference, 32 times.

They are made again from the data set's row, the challenge's freshness and the answer's delta; each is
compared with the digest in the log before it is shown. What cannot be made is a sentence instead.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from perturbnet.datasets import ImageSource
from perturbnet.display.contact_sheet import enlarge_difference
from perturbnet.errors import DigestMismatch, PerturbError
from perturbnet.overview import AnswerView, RoundView
from perturbnet.rounds.challenges import clean_image
from perturbnet.wire.deltas import apply_delta
from perturbnet.wire.images import Pixels, encode_png, pixel_digest

KEPT_BYTES = 96 << 20  # of PNGs; an answer to an image of 500 by 375 takes about 1 MB
MOST_PIXELS = 1 << 22  # of an image that is shown
KINDS = ("clean", "adversarial", "difference")


@dataclass(frozen=True)
class Triple:
    """Three PNGs of one size, by kind."""

    height: int
    width: int
    pngs: dict[str, bytes]

    @property
    def size_bytes(self) -> int:
        """What it takes to keep."""
        return sum(map(len, self.pngs.values()))


class Pictures:
    """Makes and keeps pictures. `blob` reads a delta; `open_source` opens the data set, once it is needed."""

    def __init__(self, open_source: Callable[[], ImageSource], blob: Callable[[str], bytes]) -> None:
        """Open nothing yet."""
        self._open_source, self._blob = open_source, blob
        self._source: ImageSource | None = None
        self._made: OrderedDict[tuple[str, str], Triple] = OrderedDict()
        self._kept_bytes = 0
        self._lock = threading.Lock()

    def make(self, found: RoundView, answer: AnswerView) -> Triple:
        """The pictures of an answer.

        Raises:
            PerturbError: the data set is not here, the delta is gone, or they are not what the log says.

        """
        key = (found.clean_pixels, answer.adversarial_pixels)
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
            made = self._make(found, answer)
            self._made[key] = made
            self._kept_bytes += made.size_bytes
            while self._kept_bytes > KEPT_BYTES:
                self._kept_bytes -= self._made.popitem(last=False)[1].size_bytes
            return made

    def _make(self, found: RoundView, answer: AnswerView) -> Triple:
        if not answer.delta:
            raise PerturbError("this answer had no image that could be read")
        if self._source is None:
            self._source = self._open_source()
        clean = clean_image(self._source.read(found.row), found.freshness)
        height, width, _ = clean.shape
        if height * width > MOST_PIXELS:
            raise PerturbError(f"an image of {width}×{height}: up to {MOST_PIXELS:,} pixels are shown")
        _require("the image that was sent", clean, found.clean_pixels)
        adversarial = apply_delta(clean, self._blob(answer.delta))
        _require("the answer", adversarial, answer.adversarial_pixels)
        images = (clean, adversarial, enlarge_difference(clean, adversarial))
        pngs = {kind: encode_png(pixels) for kind, pixels in zip(KINDS, images, strict=True)}
        return Triple(height, width, pngs)


def _require(what: str, pixels: Pixels, expected: str) -> None:
    got = pixel_digest(pixels)
    if got != expected:
        raise DigestMismatch(what, expected, got)
